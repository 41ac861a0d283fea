"""Users that send packets to a base station through small cells."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._core.arrays import default_float
from ..mdp.kernels import AbstractKernel, Deterministic, Sparse
from ..problems.parametric_mdp import ParametricMDP

TOWNS, SPREAD = 6, 0.06
PATCHES, SIDE = 4, 0.2


class SmallCells(NamedTuple):
    """A network to be planned. States are the users, the cells and the base, in this order.

    **Fields:** `users` (N, 2); `base` (2,); `kernel`, whose action j is to send to cell j, and M
    to the base; `permitted`, users send to cells only; `start`, uniform over users; `patches`,
    lower corners of the squares in which users are, (4, 2), for layout `"patches"`.
    """

    users: Float[Array, "n 2"]
    base: Float[Array, "2"]
    kernel: AbstractKernel
    permitted: Bool[Array, "s a"]
    start: Float[Array, " s"]
    patches: Float[Array, "p 2"] | None = None

    @property
    def n_cells(self) -> int:
        """Number of cells to place."""
        return self.kernel.n_actions - 1

    def problem(self, **options: Any) -> ParametricMDP:
        """The parameterised decision process; options are those of `ParametricMDP`."""
        n, m = len(self.users), self.n_cells
        places = jnp.concatenate(
            [self.users, jnp.zeros((m, 2), self.users.dtype), self.base[None]]
        )  # fmt: skip
        given = {
            "state_params": places, "unknown_states": np.arange(n, n + m), "terminal": [n + m],
            "permitted": self.permitted, "start": self.start,
        }  # fmt: skip
        return ParametricMDP(self.kernel, **(given | options))


def small_cells(
    n_users: int = 46, n_cells: int = 5, *, seed: int = 0, layout: str = "towns",
    slip: float = 0.0,
) -> SmallCells:  # fmt: skip
    """Users of a 5G network in the unit square, and a base station.

    The same places on every machine. With squared distance as cost, waiting is free where there is
    a discount: plan without one, or with a price per hop.

    **Arguments:**

    - `n_users`, `n_cells`: users, and cells to place.
    - `seed`: of NumPy's `default_rng`.
    - `layout`: `"towns"`, user i scatters around town i mod 6 with standard deviation .06;
        `"patches"`, user i is anywhere in square i mod 4 of side .2; or `"uniform"`.
    - `slip`: probability that a packet goes to the first cell instead.

    **Returns:** `SmallCells`.

    **Raises:** `ValueError` for counts below 1, another layout, or a slip outside [0, 1).

    Source: parameterized sequential decision making, section 3.5; it prints neither places nor the
    way to the base, which its set of actions lacks.

    **Example:**

    ```python
    >>> from mepjax.datasets import small_cells
    >>> network = small_cells(12, 2)
    >>> network.users.shape, network.kernel.n_states, network.problem().init(None).shape
    ((12, 2), 15, (2, 2))

    ```
    """
    for name, count in (("n_users", n_users), ("n_cells", n_cells)):
        if count < 1:
            raise ValueError(f"small_cells: `{name}` must be at least 1; got {count}.")
    if layout not in ("towns", "patches", "uniform"):
        raise ValueError(
            f"small_cells: `layout` must be 'towns', 'patches' or 'uniform'; got {layout!r}."
        )
    if not 0 <= slip < 1:
        raise ValueError(f"small_cells: `slip` must be in [0, 1); got {slip}.")
    rng, patches = np.random.default_rng(seed), None
    if layout == "patches":
        patches = (1 - SIDE) * rng.uniform(size=(PATCHES, 2))
        users = patches[np.arange(n_users) % PATCHES] + SIDE * rng.uniform(size=(n_users, 2))
    elif layout == "towns":
        towns = rng.uniform(size=(TOWNS, 2))
        users = towns[np.arange(n_users) % TOWNS] + SPREAD * rng.normal(size=(n_users, 2))
    else:
        users = rng.uniform(size=(n_users, 2))
    base = rng.uniform(size=2)
    n, m, states = n_users, n_cells, n_users + n_cells + 1
    after = np.broadcast_to(n + np.arange(m + 1), (states, m + 1)).copy()
    after[-1] = states - 1
    permitted = np.ones((states, m + 1), bool)
    permitted[:n, m] = False
    start = np.where(np.arange(states) < n, 1 / n, 0.0)
    with jax.ensure_compile_time_eval():
        dtype = default_float()
        if slip == 0:
            kernel: AbstractKernel = Deterministic(after)
        else:
            s, a = np.meshgrid(*map(np.arange, after.shape), indexing="ij")
            others = after != n  # where a slip makes a difference
            others[-1] = False
            state = np.concatenate([s.ravel(), s[others]])
            action = np.concatenate([a.ravel(), a[others]])
            ends = np.concatenate([after.ravel(), np.full(others.sum(), n)])
            p = np.concatenate([np.where(others, 1 - slip, 1.0).ravel(), slip * others[others]])
            kernel = Sparse(
                state, action, ends, jnp.asarray(p, dtype), n_states=states, n_actions=m + 1
            )
        places = jnp.asarray(users, dtype), jnp.asarray(base, dtype)
        corners = None if patches is None else jnp.asarray(patches, dtype)
        permitted = jnp.asarray(permitted)
        return SmallCells(*places, kernel, permitted, jnp.asarray(start, dtype), corners)
