"""Options that every command that anneals has, and what follows from them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import numpy as np
import typer

import mepjax as mj

from ..._core.checks import square_range
from ..._core.padding import pad_rows, pad_weights
from ..._core.program_cache import keep_programs
from ..._core.scaling import KINDS, Scaling
from ...select.starts import default_betas, first_transition
from ..errors import CommandError
from .checks import Checked, numeric, require

_MOST_STAGES = 10_000


@dataclass(frozen=True, kw_only=True)
class AnnealOptions(Checked):
    """Scale, starts, schedule and precision; fields bear the options' names."""

    scale: Annotated[
        str | None,
        typer.Option(
            help="none; unit: longest side of the bounding box 1; zscore: standard deviation 1 in "
            "each column. Temperature, beta and costs are in scaled units.",
            show_default="unit for softmax autonomy, else none",
        ),
    ] = None
    restarts: Annotated[
        int | None,
        numeric(
            "--restarts",
            int,
            help="Random starts, of which the best is kept.",
            show_default="4 for softmax autonomy, else 2",
        ),
    ] = None
    seed: Annotated[int, numeric("--seed", int, help="Of the random numbers.")] = 0
    beta_min: Annotated[
        float | None,
        numeric("--beta-min", float, help="First beta.", show_default="half the first transition"),
    ] = None
    beta_max: Annotated[
        float | None,
        numeric(
            "--beta-max",
            float,
            help="Last beta.",
            show_default="10000 times the first transition, and on while data have not separated",
        ),
    ] = None
    factor: Annotated[
        float, numeric("--factor", float, help="Growth of beta from stage to stage.")
    ] = 1.05
    float64: Annotated[bool, typer.Option("--float64", help="Compute in double precision.")] = False
    cache: Annotated[
        bool,
        typer.Option(
            "--cache/--no-cache",
            help="Keep compiled programs in the user's cache folder, so that the next run on about "
            "as many rows starts at once.",
        ),
    ] = True

    def __post_init__(self) -> None:
        if self.restarts is not None:
            require(self.restarts >= 1, "--restarts", self.restarts, "at least 1")
        require(0 <= self.seed < 2**32, "--seed", self.seed, "an integer from 0 to 2^32 - 1")
        require(1 < self.factor < math.inf, "--factor", self.factor, "more than 1")
        self.check_positive("beta_min", "beta_max")
        self.check_choice("scale", KINDS)
        if self.beta_min is not None and self.beta_max is not None:
            expected = f"at least --beta-min {self.beta_min:g}"
            require(self.beta_max >= self.beta_min, "--beta-max", self.beta_max, expected)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """In the precision asked for, with compiled programs kept unless they are not to be."""
        if self.cache:
            keep_programs()
        with jax.enable_x64(self.float64):
            yield

    @property
    def dtype(self) -> Any:
        """Precision of the solve."""
        return np.float64 if self.float64 else np.float32

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
        open_ended = self.beta_max is None
        return mj.Geometric(beta_min, beta_max, self.factor, open_ended=open_ended)

    def scaled(self, scaling: Scaling, *places: np.ndarray) -> list[np.ndarray]:
        """Places in scaled units and in the precision of the solve.

        **Raises:** `CommandError` for coordinates whose squares that precision cannot hold.
        """
        found = [scaling.apply(place) for place in places]
        largest = max(float(np.max(np.abs(place))) for place in found)
        low, high = square_range(self.dtype)
        if not (largest == 0 or low < largest < high):
            raise CommandError(
                f"--scale: got {scaling.kind} and coordinates up to {largest:g}; expected "
                f"{'larger' if largest <= low else 'smaller'} ones, or --scale unit."
            )
        return [place.astype(self.dtype) for place in found]

    def shares(self, weights: np.ndarray | None) -> np.ndarray | None:
        """Weights with the sum one, in the precision of the solve."""
        return None if weights is None else (weights / np.sum(weights)).astype(self.dtype)

    def padded(self, x: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Rows and their shares, with rows of weight zero at the end.

        Files of about as many rows then share compiled programs. All that is said of rows has to
        be cut to the first `len(x)`.
        """
        shares = np.full(len(x), 1 / len(x)) if weights is None else weights / np.sum(weights)
        return pad_rows(x), pad_weights(shares).astype(self.dtype)
