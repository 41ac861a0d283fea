"""What the command says when it cannot go on."""

USAGE = 2
SOLVE = 3


class CommandError(Exception):
    """A sentence for the user, naming the option, what was got and what was expected.

    **Arguments:** `text`; `code`, the exit code: `USAGE` (2) for bad usage or input, `SOLVE` (3)
    for a solve that failed.
    """

    def __init__(self, text: str, code: int = USAGE) -> None:
        # One line, whatever names the text quotes.
        super().__init__(" ".join(text.split()))
        self.code = code
