"""Checks of options, and numeric options whose complaints say what was got."""

import math
from typing import Any

import typer

from ..errors import CommandError


def option_of(name: str) -> str:
    """The option of a field's name."""
    return "--" + name.replace("_", "-")


def require(ok: bool, option: str, got: Any, expected: str) -> None:
    """Raise `CommandError` unless `ok`."""
    if not ok:
        got = f"{got:g}" if isinstance(got, float) else got
        raise CommandError(f"{option}: got {got}; expected {expected}.")


class Checked:
    """What groups of options check their fields by; `None` stands for an option not given."""

    def check_positive(self, *names: str) -> None:
        """Raise `CommandError` for a number that is not finite and > 0."""
        for name in names:
            value = getattr(self, name)
            if value is not None:
                require(0 < value < math.inf, option_of(name), value, "a finite number > 0")

    def check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        """Raise `CommandError` for a word that is none of the choices."""
        value = getattr(self, name)
        if value is not None:
            expected = "one of " + ", ".join(choices)
            require(value in choices, option_of(name), repr(value), expected)

    def given(self, *names: str) -> list[str]:
        """The options of these fields that were given."""
        return [option_of(name) for name in names if getattr(self, name) is not None]


def numeric(option: str, kind: type[int] | type[float], **settings: Any) -> Any:
    """A numeric option whose complaint says what was got, which typer's own does not."""
    expected, metavar = ("an integer", "INTEGER") if kind is int else ("a number", "FLOAT")

    def parse(text: Any) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise CommandError(f"{option}: got {str(text)!r:.80}; expected {expected}.") from None

    return typer.Option(option, parser=parse, metavar=metavar, **settings)
