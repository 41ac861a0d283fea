"""Nodes that move, and ship to a destination that moves too."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._core.arrays import default_float
from .supply import supply_network

# Of the thesis's scene, in seconds.
_DURATION = 20.0


class Wandering(eqx.Module):
    """Velocities in time: a steady part and a swing, for every node and the destination.

    v(t) = steady + swing * cos(rate t + phase), as a function for `mepjax.control.track`.
    """

    steady: Float[Array, "m 2"]
    swing: Float[Array, "m 2"]
    rate: Float[Array, "m 1"]
    phase: Float[Array, "m 1"]

    def __call__(self, time: Any, problem: Any, values: Any) -> dict[str, Array]:
        """Velocities of nodes, the first rows, and of the destination, the last."""
        speed = self.steady + self.swing * jnp.cos(self.rate * time + self.phase)
        return {"nodes": speed[:-1], "destinations": speed[-1:]}


class MovingNetwork(NamedTuple):
    """Where all stand at time 0, and how they move.

    **Fields:** `nodes` (n, 2); `destination` (2,); `velocity`, for `mepjax.control.track`.
    """

    nodes: Float[Array, "n 2"]
    destination: Float[Array, "2"]
    velocity: Wandering


def moving_network(
    n: int = 200, *, seed: int = 0, groups: int = 6, spread: float = 0.6, speed: float = 0.3
) -> MovingNetwork:
    """The scene of `supply_network` in motion, for about 20 seconds.

    Each town goes its own way and swings to and fro once or twice in 20 seconds; nodes stray from
    their town, and the destination moves as towns do. The same on every machine and, up to
    rounding, in both precisions. The thesis chooses its motion at random and does not print it.

    **Arguments:**

    - `n`, `groups`, `spread`: as in `supply_network`.
    - `seed`: of NumPy's `default_rng`; another seed has other towns and other ways.
    - `speed`: typical speed of a town in each coordinate, in units of length per second.

    **Returns:** a `MovingNetwork`: `nodes, destination, velocity`.

    **Raises:** `ValueError` as `supply_network`, and for a speed that is negative or not finite.

    Source: parameterized sequential decision making, section 2.7, "d-FLPO in partially connected
    network".

    **Example:**

    ```python
    >>> import mepjax as mj
    >>> from mepjax.datasets import moving_network
    >>> nodes, destination, velocity = moving_network(12)
    >>> problem = mj.FacilityPath(nodes, destination, 2)
    >>> {name: v.shape for name, v in velocity(0.0, problem, None).items()}
    {'nodes': (12, 2), 'destinations': (1, 2)}

    ```
    """
    if not 0 <= speed < np.inf:
        raise ValueError(f"moving_network: `speed` must be finite and >= 0; got {speed}.")
    nodes, destination = supply_network(n, seed=seed, groups=groups, spread=spread)
    # A stream of its own, so that nodes are those of `supply_network`.
    rng = np.random.default_rng([seed, 1])
    movers = groups + 1
    steady = rng.normal(size=(movers, 2))
    swing = rng.normal(size=(movers, 2))
    rate = 2 * np.pi / _DURATION * rng.uniform(1.0, 2.0, size=(movers, 1))
    phase = rng.uniform(0.0, 2 * np.pi, size=(movers, 1))
    towns = np.append(np.arange(n) % groups, groups)
    strayed = 0.2 * rng.normal(size=(n + 1, 2))
    # Towns that went on steadily as fast as they swing would leave the plane.
    parts = (speed * (0.2 * steady[towns] + strayed), speed * swing[towns], rate[towns],
             phase[towns])  # fmt: skip
    with jax.ensure_compile_time_eval():
        velocity = Wandering(*(jnp.asarray(part, default_float()) for part in parts))
    return MovingNetwork(nodes, destination, velocity)
