"""What of a process may be limited: arrivals, first steps, steps between two states, actions."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .kernels.base import AbstractKernel


class Uses(eqx.Module):
    """Expected discounted numbers of times something happens, linear in those of actions.

    Built by `visits`, `entries`, `uses` and `takes`.

    **Fields:** one of each per place in the list, -1 for any: `start` and `end` (q,), from which
    state to which a step goes; `action` (q,); `stage` (q,), the number of the step from 0 on;
    `first`, whether only steps from states count that no other leads to.
    """

    start: Int[Array, " q"]
    end: Int[Array, " q"]
    action: Int[Array, " q"]
    stage: Int[Array, " q"]
    first: bool = eqx.field(static=True)

    @property
    def count(self) -> int:
        """How many are listed."""
        return self.end.shape[0]

    def checks_of(
        self, owner: str, n_states: int, n_actions: int, horizon: int | None = None
    ) -> None:
        """Raise `ValueError` for a state, an action or a stage that there is not."""
        for kind, given, most in (
            ("state", self.start, n_states), ("state", self.end, n_states),
            ("action", self.action, n_actions), ("stage", self.stage, horizon or 0),
        ):  # fmt: skip
            largest = int(np.max(np.asarray(given), initial=-1))
            if largest >= most:
                raise ValueError(
                    f"{owner}: `capacities` name {kind} {largest}; there are {most}, from 0 on."
                )

    def per_action(
        self, kernel: AbstractKernel, outside: Bool[Array, " states"]
    ) -> Float[Array, "q states actions"]:
        """How often each happens where an action is taken once in a state.

        **Arguments:** `outside`, states that no other leads to.
        """
        state, action, after = kernel.outcomes()
        counts = outside[state] if self.first else jnp.ones((), bool)
        p = kernel.probabilities()

        def of(start: Any, end: Any, act: Any) -> Float[Array, "states actions"]:
            on = ((start < 0) | (state == start)) & ((end < 0) | (after == end))
            on = on & ((act < 0) | (action == act)) & counts
            return kernel.mean(jnp.broadcast_to(on, jnp.broadcast_shapes(p.shape, on.shape)) * 1.0)

        rows = [of(self.start[i], self.end[i], self.action[i]) for i in range(self.count)]
        return jnp.stack(rows).astype(p.dtype)


def visits(states: Any, *, stage: Any = None) -> Uses:
    """How often each of these states is arrived at, from anywhere.

    **Arguments:** `states`, a number or numbers; `stage`, with a horizon, the step or steps at
    which they count, from 0 on; default any.

    **Returns:** `Uses`, a part of the `capacities` of `ParametricMDP`.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> mdp.visits([4, 5]).count
    2

    ```
    """
    return _of("visits", "states", stage=stage, end=states)


def entries(states: Any, *, stage: Any = None) -> Uses:
    """How often each of these states is arrived at from states no other leads to, as users are.

    **Arguments:** `states`, a number or numbers; `stage`, with a horizon, the step or steps at
    which they count, from 0 on; default any.

    **Returns:** `Uses`.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> mdp.entries(4).first
    True

    ```
    """
    return _of("entries", "states", stage=stage, end=states, first=True)


def uses(start: Any, end: Any, *, stage: Any = None) -> Uses:
    """How often one goes from each of these states to the one at its place in the other list.

    **Arguments:** `start`, `end`, numbers or as many numbers; `stage` as for `visits`.

    **Returns:** `Uses`.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> mdp.uses([0, 1], [4, 4]).count
    2

    ```
    """
    return _of("uses", stage=stage, start=start, end=end)


def takes(actions: Any, *, stage: Any = None) -> Uses:
    """How often each of these actions is taken, wherever.

    **Arguments:** `actions`, a number or numbers; `stage` as for `visits`.

    **Returns:** `Uses`.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> mdp.takes(range(3)).count
    3

    ```
    """
    return _of("takes", "actions", stage=stage, action=actions)


def _of(
    owner: str, called: str | None = None, *, stage: Any, first: bool = False, **given: Any
) -> Uses:
    found = {name: _numbers(owner, called or name, value) for name, value in given.items()}
    sizes = {len(value) for value in found.values()}
    if len(sizes) > 1:
        raise ValueError(f"mdp.{owner}: `start` and `end` must be as many; got {sorted(sizes)}.")
    anything = np.full(sizes.pop(), -1, np.int32)
    if stage is not None:
        wanted = _numbers(owner, "stage", stage)
        if len(wanted) not in (1, len(anything)):
            raise ValueError(
                f"mdp.{owner}: `stage` must be one or {len(anything)} numbers; got {len(wanted)}."
            )
        found["stage"] = np.broadcast_to(wanted, anything.shape)
    columns: dict[str, Any] = {
        name: np.asarray(found.get(name, anything), np.int32)
        for name in ("start", "end", "action", "stage")
    }
    return Uses(first=first, **columns)


def _numbers(owner: str, name: str, value: Any) -> np.ndarray:
    numbers = np.atleast_1d(np.asarray(value))
    if not np.issubdtype(numbers.dtype, np.integer) or numbers.ndim != 1 or numbers.size == 0:
        raise TypeError(
            f"mdp.{owner}: `{name}` must be a number of a state or an action, or a list of them; "
            f"got {value!r:.60}."
        )
    if numbers.min() < 0:
        raise ValueError(f"mdp.{owner}: `{name}` must be at least 0; got {numbers.min()}.")
    return numbers
