"""The data of a parameterised decision process, and what follows from them alone."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._core import arrays, checks
from ..._core.params import Params, join_params, primal_of, split_params
from ...engine.problem import Constrained, Growable
from ...mdp.kernels.base import AbstractKernel
from ...mdp.model import (
    as_discount,
    as_permitted,
    as_terminal,
    check_actions,
    check_terminal,
    traced_indices,
    uniform_prior,
)
from ...mdp.soft import ENTROPIES
from ...solvers.armijo import Armijo
from ...solvers.base import AbstractSolver
from ...solvers.fixed_point import FixedPoint
from ..uncertain import checks_of
from .capacities import Limits, as_limits, with_outside
from .places import Unknowns, as_unknowns, middle
from .step_costs import Step, as_step
from .structure import Structure, find_structure, refuse_earning_extra
from .twins import Twins, find_twins

_OWNER = "ParametricMDP"


class Process(Growable, Constrained):
    """The data of a `ParametricMDP`, which documents them."""

    kernel: AbstractKernel
    step: Step
    unknowns: Unknowns
    extra_costs: Float[Array, "s a"] | None
    limits: Limits | None
    discount: Float[Array, ""]
    prior: Float[Array, "s a"] | None
    permitted: Bool[Array, "s a"] | None
    terminal: Bool[Array, " s"]
    # Indices of terminal states that were traced, and so could not be checked at once.
    terminal_index: Int[Array, "..."] | None
    start: Float[Array, " s"]
    end_costs: Float[Array, " s"] | None
    structure: Structure
    twins: Twins | None
    entropy: str = eqx.field(static=True)
    horizon: int | None = eqx.field(static=True)

    def __init__(
        self, kernel: Any, cost: Any, *, state_params: Any, unknown_states: Any,
        action_params: Any, unknown_actions: Any, start: Any, discount: Any, terminal: Any,
        permitted: Any, prior: Any, entropy: str, extra_costs: Any, capacities: Any,
        horizon: int | None, end_costs: Any,
    ) -> None:  # fmt: skip
        if not isinstance(kernel, AbstractKernel):
            raise TypeError(
                f"{_OWNER}: `kernel` must be a transition kernel such as mdp.Deterministic(next); "
                f"got {type(kernel).__name__}."
            )
        if entropy not in ENTROPIES:
            raise ValueError(f"{_OWNER}: `entropy` must be one of {ENTROPIES}; got {entropy!r}.")
        n, a = kernel.n_states, kernel.n_actions
        self.kernel, self.entropy = kernel, entropy
        self.unknowns = as_unknowns(
            state_params, unknown_states, action_params, unknown_actions, (n, a)
        )
        dtype, spread = self.unknowns.states.dtype, self.unknowns.spread
        self.step = arrays.cast_floats(
            as_step(cost, self.unknowns.states, self.unknowns.actions), dtype
        )
        if spread is not None and spread.offsets is None and not self.step.squared:
            raise ValueError(
                f"{_OWNER}: `state_params` given as Covariance determine expected squared "
                "distances only; give Samples for other `cost`."
            )
        self.discount = as_discount(_OWNER, discount, dtype)
        self.terminal = as_terminal(_OWNER, terminal, n)
        self.terminal_index = traced_indices(terminal)
        self.permitted = as_permitted(_OWNER, permitted, kernel)
        self.prior = self._table("prior", prior)
        self.extra_costs = self._table("extra_costs", extra_costs)
        checks.check_count(_OWNER, "horizon", horizon, optional=True)
        self.horizon = None if horizon is None else int(horizon)
        self.end_costs = self._end_costs(end_costs)
        self.limits = as_limits(capacities, (n, a), dtype, self.horizon)
        if start is None:
            start = self._default_start()
        self.start = arrays.as_data_like("start", start, dtype)
        if self.start.shape != (n,):
            raise ValueError(
                f"{_OWNER}: `start` must have shape ({n},), a probability for every state; "
                f"got {self.start.shape}."
            )
        checks.enforce(self.checks())
        self.structure = find_structure(
            kernel, self.terminal, self.permitted, self.discount, self.prior,
            counted=entropy != "prior", endless=horizon is None,
        )  # fmt: skip
        self.limits = with_outside(self.limits, self)
        refuse_earning_extra(self)
        self.twins = None if self.limits is not None else find_twins(self)

    def _table(self, name: str, value: Any) -> Float[Array, "s a"] | None:
        if value is None:
            return None
        shape = (self.kernel.n_states, self.kernel.n_actions)
        value = arrays.as_data_like(name, value, self.unknowns.states.dtype)
        if value.shape != shape:
            raise ValueError(f"{_OWNER}: `{name}` must have shape {shape}; got {value.shape}.")
        return value

    def _end_costs(self, value: Any) -> Float[Array, " s"] | None:
        if self.horizon is None:
            if value is not None:
                raise ValueError(f"{_OWNER}: `end_costs` are those at the end of a `horizon`.")
            return None
        n, dtype = self.kernel.n_states, self.unknowns.states.dtype
        value = np.zeros(n, dtype) if value is None else value
        value = arrays.as_data_like("end_costs", value, dtype)
        if value.shape != (n,):
            raise ValueError(f"{_OWNER}: `end_costs` must have shape ({n},); got {value.shape}.")
        return value

    def _default_start(self) -> Any:
        xp: Any = np if checks.is_concrete(self.terminal, self.unknowns.state_index) else jnp
        on = xp.asarray(~self.terminal, self.unknowns.states.dtype)
        index = self.unknowns.state_index
        if index is not None:
            known = jnp.ones(on.shape, on.dtype).at[index].set(0.0)
            on = xp.asarray(on * known)
        return on / xp.maximum(xp.sum(on), 1)

    def checks(self) -> tuple[checks.Check, ...]:
        """Finite data, rows that sum to one, a discount in (0, 1], an action in every state."""
        found = [checks.check_finite(_OWNER, "state_params", self.unknowns.states)]
        found += checks_of(_OWNER, "state_params", self.unknowns.spread)
        found += self.unknowns.checks()
        if self.unknowns.actions is not None:
            found += [checks.check_finite(_OWNER, "action_params", self.unknowns.actions)]
        found += self.kernel.checks(_OWNER)
        found += [
            checks.check_finite(_OWNER, "cost", leaf)
            for leaf in jax.tree.leaves(eqx.filter(self.step, eqx.is_inexact_array))
        ]
        if self.extra_costs is not None:
            found += [checks.check_finite(_OWNER, "extra_costs", self.extra_costs)]
        if self.end_costs is not None:
            low = float(np.finfo(self.end_costs.dtype).min)
            found += [checks.check_range(_OWNER, "end_costs", self.end_costs, low=low)]
        if self.limits is not None:
            found += self.limits.checks()
        if self.prior is not None:
            found += [
                checks.check_range(_OWNER, "prior", self.prior, low=0.0),
                checks.check_rows_sum_to_one(_OWNER, "prior", self.prior),
            ]
        found += [
            checks.check_range(_OWNER, "discount", self.discount, low=0.0, high=1.0, open_low=True),
            checks.check_finite(_OWNER, "start", self.start),
            checks.check_range(_OWNER, "start", self.start, low=0.0),
            checks.check_rows_sum_to_one(_OWNER, "start", self.start),
        ]
        found += check_terminal(_OWNER, self.terminal_index, self.kernel.n_states)
        return (*found, *check_actions(_OWNER, self.kernel, self.permitted, self.terminal))

    @property
    def convex_at_zero(self) -> bool:
        """For squared distance relative to a prior or within a horizon; else nothing is known."""
        return self.step.squared and (self.entropy == "prior" or self.horizon is not None)

    @property
    def n_slots(self) -> int:
        """Number of unknown parameters of states and actions."""
        return self.unknowns.count

    @property
    def has_slot_spectrum(self) -> bool:
        """Where unknown places differ in nothing but where they are, as far as can be read.

        For squared distance, a deterministic kernel, entropy relative to a prior, and numbers that
        are not traced.
        """
        return self.twins is not None

    @property
    def exchangeable(self) -> bool:
        """As `has_slot_spectrum`."""
        return self.twins is not None

    @property
    def references(self) -> tuple[str, ...]:
        """Deterministic annealing, and the thesis on parameterised decisions."""
        return (*super().references, "parameterised_decisions")

    @property
    def dtype(self) -> Any:
        """That of the parameters of states."""
        return self.unknowns.states.dtype

    def parameters(self, params: Any) -> tuple[Float[Array, "s d"], Float[Array, "a e"] | None]:
        """Parameters of all states and of all actions, known ones included."""
        return self.unknowns.filled(primal_of(params))

    def costs(self, params: Any) -> Float[Array, "s a"]:
        """Mean cost of every action in every state; finite also where it is not permitted."""
        places, spread = self.parameters(params), self.unknowns.spread
        expected = self.step.expected(self.kernel, *places, spread=spread)
        return expected if self.extra_costs is None else expected + self.extra_costs

    def least_costs(self) -> Float[Array, "s a"]:
        """Costs of actions that no places of the unknown parameters undercut.

        For a cost that is a function of the user's, those at the mean of known parameters.
        """
        states, actions = self.unknowns.states, self.unknowns.actions
        if self.step.cost is None:
            return self.costs(middle(self.unknowns, among_states=False))
        known = self.unknowns.known()
        least = self.step.expected(self.kernel, states, actions, known)
        return least if self.extra_costs is None else least + self.extra_costs

    def log_prior(self) -> Float[Array, "s a"]:
        """Log of the prior, -inf where an action is not permitted."""
        n, a = self.kernel.n_states, self.kernel.n_actions
        if self.prior is None:
            return uniform_prior(n, a, self.permitted, self.dtype)
        some = self.prior > 0
        log_prior = jnp.where(some, jnp.log(jnp.where(some, self.prior, 1.0)), -jnp.inf)
        if self.permitted is None:
            return log_prior
        return jnp.where(self.permitted, log_prior, -jnp.inf)

    def at(self, values: Any) -> Any:
        """Params at given places, shaped as `init` has them, with prices zero."""
        expected = self.unknowns.structure
        dtype = self.dtype
        values = jax.tree.map(lambda v: arrays.as_float_array("places", v, dtype), values)
        got, wanted = (jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (values, expected))
        if got != wanted:
            raise ValueError(f"{_OWNER}: places must have shape {wanted}; got {got}.")
        return self.params_at(values)

    def params_at(self, places: Any) -> Any:
        """Params at these places, with prices of zero where there are capacities."""
        limits = self.limits
        return join_params(places, None if limits is None else jnp.zeros_like(limits.limit))

    def size(self) -> Float[Array, ""]:
        """Root mean square distance of known states from their mean; 1 for none."""
        states = jax.lax.stop_gradient(self.unknowns.states)
        known = jnp.ones((states.shape[0],), states.dtype)
        if self.unknowns.state_index is not None:
            known = known.at[self.unknowns.state_index].set(0.0)
        total = jnp.maximum(jnp.sum(known), 1)
        mean = known @ states / total
        spread = known @ jnp.sum((states - mean) ** 2, axis=1) / total
        return jnp.where(spread > 0, jnp.sqrt(jnp.where(spread > 0, spread, 1.0)), 1.0)

    def params_scale(self, params: Any) -> Any:
        """The size of the data, and of prices the mean cost of an action."""
        size = self.size()
        primal, prices = split_params(params)
        sizes = jax.tree.map(lambda _: size, primal)
        if prices is None:
            return sizes
        mean = jax.lax.stop_gradient(jnp.mean(jnp.abs(self.costs(primal))))
        return Params(sizes, jnp.where(mean > 0, mean, 1.0))

    def default_solver(self) -> AbstractSolver:
        """`FixedPoint` for squared distance, whose alternation never raises F, else `Armijo`."""
        return FixedPoint() if self.step.squared else Armijo()
