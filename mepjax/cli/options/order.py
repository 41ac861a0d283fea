"""Options of the commands that say how many."""

from dataclasses import dataclass
from typing import Annotated, Any

import jax
import numpy as np

from ..._core.program_cache import keep_programs
from .checks import Checked, numeric, require


@dataclass(frozen=True, kw_only=True)
class OrderOptions(Checked):
    """Largest size, random numbers and precision; fields bear the options' names."""

    max_size: Annotated[
        int | None,
        numeric(
            "--max-size", int, help="Largest size to compare.", show_default="depends on the data"
        ),
    ] = None
    seed: Annotated[int, numeric("--seed", int, help="Of the random numbers.")] = 0

    def __post_init__(self) -> None:
        if self.max_size is not None:
            require(self.max_size >= 2, "--max-size", self.max_size, "at least 2")
        require(0 <= self.seed < 2**32, "--seed", self.seed, "an integer from 0 to 2^32 - 1")

    @property
    def key(self) -> Any:
        """The random key."""
        return jax.random.key(self.seed)

    def size(self, default: int, most: int, what: str) -> int:
        """The largest size, of at most `most` things that `what` names."""
        if self.max_size is None:
            return min(default, most)
        require(self.max_size <= most, "--max-size", self.max_size, f"at most {what}, {most}")
        return self.max_size

    def start(self) -> None:
        """Keep compiled programs between runs."""
        keep_programs()


def float32(values: Any) -> np.ndarray:
    """Numbers in the precision that commands compute in by default."""
    return np.asarray(values, np.float32)
