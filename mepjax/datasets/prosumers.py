"""Consumers and producers of a power grid, each with its own limits and priority."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._core.arrays import default_float
from ..problems.facility_path import FacilityPath
from .supply import HEIGHT, WIDTH, supply_network

# What a critical consumer, such as a hospital, counts for beside an ordinary one.
_CRITICAL = 5.0
_EVERY = 10


class ProsumerGrid(NamedTuple):
    """A grid in the plane. Facility 0 is the producer to be placed, then come those that stand.

    **Fields:** `consumers` (n, 2); `priority` (n,), 1, or 5 where critical; `producers` (m, 2);
    `substation` (2,); `output` (m + 1,), the share of the weighted demand that each producer may
    feed; `lines` (m + 1, m + 1), the share that may pass from one to another, 0 without a line.
    """

    consumers: Float[Array, "n 2"]
    priority: Float[Array, " n"]
    producers: Float[Array, "m 2"]
    substation: Float[Array, "2"]
    output: Float[Array, " m+1"]
    lines: Float[Array, "m+1 m+1"]

    def problem(self, **options: Any) -> FacilityPath:
        """The network with one producer to place; options are those of `FacilityPath`."""
        given: dict[str, Any] = {
            "weights": self.priority, "fixed": self.producers, "entry_capacity": self.output,
            "link_capacity": self.lines,
        }  # fmt: skip
        return FacilityPath(self.consumers, self.substation, 1, **(given | options))


def prosumer_grid(
    n: int = 40, producers: int = 4, *, seed: int = 0, margin: float = 1.2, line: float = 0.2
) -> ProsumerGrid:
    """Consumers in towns, producers among them, and a substation that balances what is left.

    A consumer is fed by a producer, through others if need be, and the substation ends every path.
    Outputs differ by up to a factor of three. Each producer has lines to its two nearest, both
    ways; the one to be placed has lines to all. Every tenth consumer is critical.

    **Arguments:**

    - `n`, `producers`: consumers, and producers that stand already.
    - `seed`: of NumPy's `default_rng`.
    - `margin`: sum of all outputs, in units of the weighted demand, at least 1.
    - `line`: what a line may carry, as a share of the weighted demand, > 0.

    **Returns:** a `ProsumerGrid`, the same on every machine.

    **Raises:** `ValueError` naming the argument.

    Source: parameterized sequential decision making, chapter 8, which describes such grids in words
    and has no data: these are made up.

    **Example:**

    ```python
    >>> from mepjax.datasets import prosumer_grid
    >>> grid = prosumer_grid(12, 3)
    >>> grid.consumers.shape, grid.output.shape, grid.problem().n_stages
    ((12, 2), (4,), 4)

    ```
    """
    if producers < 1:
        raise ValueError(f"prosumer_grid: `producers` must be at least 1; got {producers}.")
    if not 1 <= margin < np.inf:
        raise ValueError(f"prosumer_grid: `margin` must be finite and >= 1; got {margin}.")
    if not 0 < line < np.inf:
        raise ValueError(f"prosumer_grid: `line` must be finite and > 0; got {line}.")
    consumers, substation = supply_network(n, seed=seed)
    # A stream of its own, so that consumers are the nodes of `supply_network`.
    rng = np.random.default_rng([seed, 2])
    places = rng.uniform((0.0, 0.0), (WIDTH, HEIGHT), size=(producers, 2))
    output = rng.uniform(1.0, 3.0, size=producers + 1)
    output *= margin / output.sum()
    apart = np.sum((places[:, None] - places) ** 2, axis=2)
    np.fill_diagonal(apart, np.inf)
    linked = np.zeros((producers + 1, producers + 1), bool)
    linked[0, 1:] = True
    nearest = np.argsort(apart, axis=1, kind="stable")[:, : min(2, producers - 1)]
    linked[1 + np.arange(producers)[:, None], 1 + nearest] = True
    linked |= linked.T
    priority = np.where(np.arange(n) % _EVERY == 0, _CRITICAL, 1.0)
    with jax.ensure_compile_time_eval():
        made = (
            jnp.asarray(part, default_float())
            for part in (priority, places, output, np.where(linked, line, 0.0))
        )
        priority, standing, output, lines = made
        return ProsumerGrid(consumers, priority, standing, substation, output, lines)
