"""Markov decision processes: what is known, in one checked object."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import arrays, checks
from .kernels.base import AbstractKernel, check_indices
from .kernels.deterministic import Deterministic
from .reach import earning_state, proper_policy
from .soft import SoftBellman

_OWNER = "MDP"


class MDP(eqx.Module):
    """Costs and transitions; costs are minimised.

    **Arguments:**

    - `kernel`: `Dense`, `Deterministic`, `Sparse` or `Functional` transitions.
    - `costs`: c(s, a), shape (states, actions), or by outcome: c(s, a, s') of shape (states,
        actions, states) for `Dense`, one per edge for `Sparse`, (states, actions, events) for
        `Functional`. +inf is not permitted; use `permitted`.
    - `discount`: in (0, 1]. At 1 there has to be a terminal state that some policy reaches from
        everywhere with probability one, and no cycle may earn more than it costs: a
        `Deterministic` kernel with one is refused, with others the code of the solve is
        `UNBOUNDED`.
    - `terminal`: indices or a boolean mask of states at which all ends; they cost nothing whatever
        the kernel says of them.
    - `permitted`: boolean (states, actions); default all.
    - `start`: distribution of the first state, shape (states,); default uniform over the states
        that are not terminal.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was expected.

    **Example:** a step costs 1; waiting costs nothing but does not end.

    ```python
    >>> import jax.numpy as jnp
    >>> from mepjax import mdp
    >>> model = mdp.MDP(
    ...     mdp.Deterministic([[1, 0], [2, 0], [2, 2]]),
    ...     jnp.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]]),
    ...     discount=1.0,
    ...     terminal=[2],
    ... )
    >>> print(mdp.solve(model).values)
    [2. 1. 0.]

    ```
    """

    kernel: AbstractKernel
    costs: Float[Array, "..."]
    discount: Float[Array, ""]
    terminal: Bool[Array, " states"]
    # Indices of terminal states that were traced, and so could not be checked at once.
    terminal_index: Int[Array, "..."] | None
    permitted: Bool[Array, "states actions"] | None
    start: Float[Array, " states"]
    # A policy that ends from everywhere, where there is need of one and it could be looked for.
    proper: Int[Array, " states"] | None

    def __init__(
        self, kernel: Any, costs: Any, *, discount: Any, terminal: Any = None,
        permitted: Any = None, start: Any = None,
    ) -> None:  # fmt: skip
        if not isinstance(kernel, AbstractKernel):
            raise TypeError(
                f"{_OWNER}: `kernel` must be a transition kernel such as mdp.Dense(p); "
                f"got {type(kernel).__name__}."
            )
        self.kernel = kernel
        self.costs = arrays.as_float_array("costs", costs)
        dtype = self.costs.dtype
        check_costs(_OWNER, kernel, self.costs)
        self.discount = as_discount(_OWNER, discount, dtype)
        self.terminal = as_terminal(_OWNER, terminal, kernel.n_states)
        self.terminal_index = traced_indices(terminal)
        self.permitted = as_permitted(_OWNER, permitted, kernel)
        if start is None:
            xp, ends = checks.on_host(self.terminal)
            on = xp.asarray(~ends, dtype)
            start = on / xp.maximum(xp.sum(on), 1)
        self.start = arrays.as_data_like("start", start, dtype)
        if self.start.shape != (kernel.n_states,):
            raise ValueError(
                f"{_OWNER}: `start` must have shape ({kernel.n_states},); got {self.start.shape}."
            )
        checks.enforce(self.checks())
        self.proper = find_proper(_OWNER, kernel, self.discount, self.terminal, self.permitted)
        refuse_earning_cycles(
            _OWNER, "costs", kernel, self.costs, self.discount, self.terminal, self.permitted
        )

    def checks(self) -> tuple[checks.Check, ...]:
        """Finite costs, rows that sum to one, a discount in (0, 1], an action in every state."""
        found = [
            checks.check_finite(_OWNER, "costs", self.costs),
            *self.kernel.checks(_OWNER),
            checks.check_range(_OWNER, "discount", self.discount, low=0.0, high=1.0, open_low=True),
            checks.check_range(_OWNER, "start", self.start, low=0.0),
            checks.check_rows_sum_to_one(_OWNER, "start", self.start),
        ]
        found += check_terminal(_OWNER, self.terminal_index, self.n_states)
        return (*found, *check_actions(_OWNER, self.kernel, self.permitted, self.terminal))

    @property
    def n_states(self) -> int:
        """Number of states."""
        return self.kernel.n_states

    @property
    def n_actions(self) -> int:
        """Number of actions."""
        return self.kernel.n_actions

    def expected_costs(self) -> Float[Array, "states actions"]:
        """c(s, a): the mean over outcomes where costs differ by outcome."""
        if self.costs.shape == (self.n_states, self.n_actions):
            return self.costs
        return self.kernel.mean(self.costs)

    def default_prior(self) -> Float[Array, "states actions"]:
        """Log of the uniform distribution over permitted actions."""
        return uniform_prior(self.n_states, self.n_actions, self.permitted, self.costs.dtype)

    def bellman(self, *, entropy: str, prior: Any = None, hard: bool = False) -> SoftBellman:
        """The operator that `solve` solves."""
        costs, log_prior = self.expected_costs(), None
        if self.permitted is not None:
            costs = jnp.where(self.permitted, costs, jnp.inf)
        if entropy == "prior" and not hard:
            log_prior = self.default_prior() if prior is None else prior
        noise = self.kernel.entropy() if entropy == "paths" else None
        return SoftBellman(
            costs=costs, kernel=self.kernel, discount=self.discount, log_prior=log_prior,
            noise=noise, ends=self.terminal, proper=self.proper, hard=hard,
        )  # fmt: skip


def check_costs(owner: str, kernel: AbstractKernel, costs: Any) -> None:
    """Raise `ValueError` unless costs are by state and action or by outcome."""
    plain = (kernel.n_states, kernel.n_actions)
    shapes = {plain}
    if not isinstance(kernel, Deterministic):
        shapes.add(jax.eval_shape(kernel.probabilities).shape)
    if costs.shape not in shapes:
        expected = " or ".join(map(str, sorted(shapes, key=len)))
        raise ValueError(f"{owner}: `costs` must have shape {expected}; got {costs.shape}.")


def as_discount(owner: str, discount: Any, dtype: Any) -> Float[Array, ""]:
    """A scalar."""
    discount = arrays.as_data_like("discount", discount, dtype)
    if discount.shape != ():
        raise ValueError(f"{owner}: `discount` must be a number; got shape {discount.shape}.")
    return discount


def as_terminal(owner: str, terminal: Any, n: int) -> Bool[Array, " states"]:
    """A mask of the states at which all ends."""
    if checks.is_concrete(terminal):
        # Constants stay concrete where traced, so that what can end is found there too.
        with jax.ensure_compile_time_eval():
            return _as_terminal(owner, terminal, n)
    return _as_terminal(owner, terminal, n)


def _as_terminal(owner: str, terminal: Any, n: int) -> Bool[Array, " states"]:
    if terminal is None:
        return jnp.zeros((n,), bool)
    given = terminal if isinstance(terminal, jax.Array) else np.asarray(terminal)
    if given.dtype == bool:
        if given.shape != (n,):
            raise ValueError(
                f"{owner}: `terminal` must be {n} booleans or indices of states; "
                f"got booleans of shape {given.shape}."
            )
        return jnp.asarray(given)
    if not jnp.issubdtype(given.dtype, jnp.integer) and given.size:
        raise TypeError(
            f"{owner}: `terminal` must be booleans or indices of states; got dtype {given.dtype}."
        )
    if checks.is_concrete(given) and given.size:
        checks.enforce([checks.check_range(owner, "terminal", given, low=0.0, high=float(n - 1))])
    return jnp.zeros((n,), bool).at[jnp.atleast_1d(jnp.asarray(given, jnp.int32))].set(True)


def traced_indices(terminal: Any) -> Int[Array, "..."] | None:
    """Indices of terminal states that only the compiled program knows; `None` for others."""
    if checks.is_concrete(terminal) or not jnp.issubdtype(terminal.dtype, jnp.integer):
        return None
    return jnp.asarray(terminal, jnp.int32)


def check_terminal(owner: str, index: Any, n: int) -> list[checks.Check]:
    """Traced indices of terminal states are those of states."""
    return [] if index is None else [check_indices(owner, "terminal", index, n)]


def as_permitted(
    owner: str, permitted: Any, kernel: AbstractKernel
) -> Bool[Array, "states actions"] | None:
    """A mask of actions, or `None` where all are permitted."""
    if permitted is None:
        return None
    given = permitted if isinstance(permitted, jax.Array) else np.asarray(permitted)
    shape = (kernel.n_states, kernel.n_actions)
    if given.dtype != bool or given.shape != shape:
        raise ValueError(
            f"{owner}: `permitted` must be booleans of shape {shape}; "
            f"got {given.dtype} of shape {given.shape}."
        )
    if isinstance(given, jax.Array) and not checks.is_concrete(given):
        return given
    with jax.ensure_compile_time_eval():
        return jnp.asarray(given)


def check_actions(
    owner: str, kernel: AbstractKernel, permitted: Any, terminal: Any
) -> list[checks.Check]:
    """Every state that is not terminal has an action, and every action leads somewhere."""
    return _check_some(owner, permitted, terminal) + _check_leads(
        owner, kernel, permitted, terminal
    )


def _check_leads(
    owner: str, kernel: AbstractKernel, permitted: Any, terminal: Any
) -> list[checks.Check]:
    leads = kernel.leads()
    if leads is None:
        return []
    concrete = checks.is_concrete(leads, permitted, terminal)
    xp: Any = np if concrete else jnp
    nowhere = ~xp.asarray(leads) & ~xp.asarray(terminal)[:, None]
    if permitted is not None:
        nowhere &= xp.asarray(permitted)
    states = xp.any(nowhere, axis=1)
    return [
        checks.Check(
            ~xp.any(states),
            xp.argmax(states),
            f"{owner}: every permitted action must lead somewhere; one of state {{got}} has no "
            "edges. Leave it out of `permitted`.",
        )
    ]


def _check_some(owner: str, permitted: Any, terminal: Any) -> list[checks.Check]:
    if permitted is None:
        return []
    xp: Any = np if checks.is_concrete(permitted, terminal) else jnp
    some = xp.any(xp.asarray(permitted), axis=1) | xp.asarray(terminal)
    return [
        checks.Check(
            xp.all(some),
            xp.argmin(some),
            f"{owner}: `permitted` must leave every state an action; state {{got}} has none.",
        )
    ]


def uniform_prior(
    n: int, a: int, permitted: Bool[Array, "states actions"] | None, dtype: Any
) -> Float[Array, "states actions"]:
    """Log of the uniform distribution over permitted actions."""
    if permitted is None:
        return jnp.full((n, a), -np.log(a), dtype)
    count = jnp.maximum(jnp.sum(permitted, axis=1, keepdims=True), 1).astype(dtype)
    return jnp.where(permitted, -jnp.log(count), -jnp.inf)


def find_proper(
    owner: str, kernel: AbstractKernel, discount: Any, terminal: Any, permitted: Any
) -> Int[Array, " states"] | None:
    """A policy that ends from everywhere, if ends matter and everything is concrete.

    **Raises:** `ValueError` naming a state from which nothing ends, at a concrete discount of 1.
    """
    structure = jax.tree.leaves((kernel, terminal, permitted))
    known = checks.is_concrete(discount)
    if known and float(discount) < 1:
        return None
    if not checks.is_concrete(*structure):
        return None
    ends = np.asarray(terminal)
    with jax.ensure_compile_time_eval():
        found = proper_policy(kernel, ends, None if permitted is None else np.asarray(permitted))
    if not found.good.all():
        if known:
            state = int(np.argmin(found.good))
            raise ValueError(
                f"{owner}: at `discount` 1 some policy must end with probability one from every "
                f"state; state {state} cannot reach a terminal state."
            )
        return None
    return jnp.asarray(found.policy)


def refuse_earning_cycles(
    owner: str, name: str, kernel: AbstractKernel, costs: Any, discount: Any, terminal: Any,
    permitted: Any,
) -> None:  # fmt: skip
    """Raise `ValueError` where a deterministic cycle earns without discount, if all is concrete."""
    if not checks.is_concrete(kernel, costs, discount, terminal, permitted):
        return
    if float(discount) < 1 or np.shape(costs) != (kernel.n_states, kernel.n_actions):
        return
    allowed = None if permitted is None else np.asarray(permitted)
    state = earning_state(kernel, np.asarray(costs), np.asarray(terminal), allowed)
    if state is not None:
        raise ValueError(
            f"{owner}: at `discount` 1 `{name}` must not add up to less than 0 along a cycle, "
            f"which would be gone round for ever; got one that is reached from state {state}."
        )
