"""Options that every command that anneals has, and what follows from them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import mepjax as mj

from .._core.scaling import KINDS, Scaling, square_range
from ..select.starts import default_betas, first_transition
from .errors import CommandError

_MOST_STAGES = 10_000


@dataclass(frozen=True, kw_only=True)
class AnnealOptions:
    """Options of the command line, under their names there; `None` where none was given."""

    scale: str | None = None
    restarts: int | None = None
    seed: int = 0
    beta_min: float | None = None
    beta_max: float | None = None
    factor: float = 1.05
    float64: bool = False

    @property
    def scaling(self) -> str:
        """Scale in effect."""
        return self.scale or "none"

    @property
    def starts(self) -> int:
        """Restarts in effect."""
        return 2 if self.restarts is None else self.restarts

    @property
    def dtype(self) -> Any:
        """Precision of the solve."""
        return np.float64 if self.float64 else np.float32

    def check_anneal(self) -> None:
        """Raise `CommandError` for a value out of range or options that contradict each other."""
        require(self.starts >= 1, "--restarts", self.starts, "at least 1")
        require(0 <= self.seed < 2**32, "--seed", self.seed, "an integer from 0 to 2^32 - 1")
        require(1 < self.factor < math.inf, "--factor", self.factor, "more than 1")
        for name in ("beta_min", "beta_max"):
            self.check_positive(name)
        self.check_choice("scale", KINDS)
        if self.beta_min is not None and self.beta_max is not None:
            expected = f"at least --beta-min {self.beta_min:g}"
            require(self.beta_max >= self.beta_min, "--beta-max", self.beta_max, expected)

    def check_positive(self, name: str) -> None:
        """Raise `CommandError` unless the option is a finite number > 0 or not given."""
        value = getattr(self, name)
        if value is not None:
            require(0 < value < math.inf, option_of(name), value, "a finite number > 0")

    def check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        """Raise `CommandError` unless the option is one of the choices or not given."""
        value = getattr(self, name)
        if value is not None:
            expected = "one of " + ", ".join(choices)
            require(value in choices, option_of(name), repr(value), expected)

    def schedule(self, problem: mj.Problem) -> mj.Geometric:
        """From the betas and the factor; by default around the problem's first transition."""
        first = first_transition(problem)
        beta_min, beta_max = default_betas(first, self.beta_min, self.beta_max)
        require(beta_max >= beta_min, "--beta-max", beta_max, f"at least --beta-min {beta_min:g}")
        stages = math.log(beta_max / beta_min) / math.log(self.factor)
        require(
            stages < _MOST_STAGES, "--factor", self.factor,
            f"more, as it would take {stages:.0f} stages",
        )  # fmt: skip
        return mj.Geometric(beta_min, beta_max, self.factor)

    def check_magnitude(self, scaling: Scaling, *scaled: np.ndarray) -> None:
        """Raise `CommandError` for scaled coordinates whose squares the precision cannot hold."""
        largest = max(float(np.max(np.abs(values))) for values in scaled)
        low, high = square_range(self.dtype)
        if not (largest == 0 or low < largest < high):
            raise CommandError(
                f"--scale: got {scaling.kind} and coordinates up to {largest:g}; expected "
                f"{'larger' if largest <= low else 'smaller'} ones, or --scale unit."
            )


def option_of(name: str) -> str:
    """The option of a field's name."""
    return "--" + name.replace("_", "-")


def require(ok: bool, option: str, got: Any, expected: str) -> None:
    """Raise `CommandError` unless `ok`."""
    if not ok:
        got = f"{got:g}" if isinstance(got, float) else got
        raise CommandError(f"{option}: got {got}; expected {expected}.")
