"""What reproductions of "how many are there?" share: their rows and their first claim."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .reproduction import Claim, Setting, Task


def tasks_of(
    items: Iterable[Any], compute: Callable[[Setting, Any], dict[str, Any]], setting: Setting
) -> list[Task]:
    """A row for each item with a `key`; its number is `best`, beside the one that is `printed`."""
    return [
        Task(
            each.key,
            lambda each=each: compute(setting, each),
            {} if each.printed is None else {"best": each.printed},
        )
        for each in items
    ]


def counted_as_printed(
    what: str, rows: Mapping[str, Mapping[str, Any]], printed: Mapping[str, Any], name: str = "best"
) -> list[Claim]:
    """How many of the rows have the number that is `printed`, naming the others; none: no claim."""
    said = {key: number for key, number in printed.items() if key in rows}
    wrong = [key for key, number in said.items() if rows[key][name] != number]
    if not said:
        return []
    but = f", but {'; '.join(wrong)}" if wrong else ""
    right = f"{len(said) - len(wrong)} of {len(said)}"
    return [Claim(f"{what}{but}", f"{len(said)} of {len(said)}", right, not wrong)]
