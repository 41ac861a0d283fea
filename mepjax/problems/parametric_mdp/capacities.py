"""How much of a process may be used, and the prices that see to it."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._core import checks, trees
from ..._core.codes import Code, is_failing
from ..._core.params import Params, split_params
from ..._core.types import Scalar
from ...mdp.end_components import listed
from ...mdp.use import Uses
from ...solvers.duals import Dual, constraint_code, optimality, solve_dual
from ...solvers.equation import Equation
from ...solvers.implicit import LinearSolve, attach, orthonormal_rows
from ..capacity.limits import as_capacity, no_room
from .decisions import decide, started

if TYPE_CHECKING:
    from .process import Process

_OWNER = "ParametricMDP"


class Limits(eqx.Module):
    """What is limited, by how much (+inf: not), and where use has to meet the limit exactly.

    **Fields:** `uses`; `limit` (q,), those of all of them one after the other; `outside`, states
    that no other leads to; `equality`, of each of `uses`.
    """

    uses: tuple[Uses, ...]
    limit: Float[Array, " q"]
    outside: Bool[Array, " states"]
    equality: tuple[bool, ...] = eqx.field(static=True)

    def _each(self, values: Any) -> Any:
        return jnp.concatenate(
            [jnp.full((u.count,), value) for u, value in zip(self.uses, values, strict=True)]
        )

    @property
    def active(self) -> Bool[Array, " q"]:
        """Which limits have a price."""
        return jnp.isfinite(self.limit)

    @property
    def finite(self) -> Float[Array, " q"]:
        """The limits, zero for none."""
        return jnp.where(self.active, self.limit, 0.0)

    def free(self, process: "Process") -> Bool[Array, " q"]:
        """Which prices may have either sign: of equalities, and where bounds leave no room."""
        parts = zip(self._whole(process), self._parts(self.limit), self.equality, strict=True)
        return self._each([equal | (whole & no_room(limit)) for whole, limit, equal in parts])

    def _whole(self, process: "Process") -> list[Bool[Array, ""]]:
        """Of all uses, whether every path counts as one of them exactly once, by its first step."""
        table, going = self.per_action(process), ~process.terminal
        taken = going[:, None] & ~jnp.isneginf(process.log_prior())
        once = self.outside[:, None].astype(table.dtype)
        whenever = [jnp.all(jnp.asarray(u.stage) < 0) for u in self.uses]
        eps = 64 * float(jnp.finfo(table.dtype).eps)
        sums, place = [], 0
        for u in self.uses:
            sums.append(jnp.sum(table[place : place + u.count], axis=0))
            place += u.count
        starts = jnp.all(self.outside | (process.start == 0))
        return [
            jnp.all(~taken | (jnp.abs(total - once) < eps)) & starts & at_any
            for total, at_any in zip(sums, whenever, strict=True)
        ]

    def _parts(self, flat: Any) -> list[Any]:
        ends = np.cumsum([u.count for u in self.uses])[:-1]
        return jnp.split(flat, ends)

    def per_action(self, process: "Process") -> Float[Array, "q states actions"]:
        """How often each limited thing happens where an action is taken once."""
        parts = [u.per_action(process.kernel, self.outside) for u in self.uses]
        return jnp.concatenate(parts)

    def used(self, process: "Process", traffic: Float[Array, "*k s a"]) -> Float[Array, " q"]:
        """Use of each limited thing; what is limited at a stage is counted there."""
        table = self.per_action(process)
        if traffic.ndim == 2:
            return jnp.sum(table * traffic, axis=(1, 2))
        assert process.horizon is not None
        by_stage = jnp.einsum("qsa,ksa->qk", table, traffic, precision=jax.lax.Precision.HIGHEST)
        return jnp.sum(jnp.where(self.on(process.horizon), by_stage, 0.0), axis=1)

    def on(self, horizon: int) -> Bool[Array, "q k"]:
        """Which stages each limit is about."""
        stage = jnp.concatenate([jnp.asarray(u.stage) for u in self.uses])
        return (stage[:, None] < 0) | (stage[:, None] == jnp.arange(horizon))

    def gauge(self, process: "Process") -> Float[Array, "directions q"]:
        """Changes of the prices that change nothing; zero where they do not apply.

        Where every path counts exactly once as one of some uses, which are all met exactly.
        """
        rows, place = [], 0
        parts = zip(
            self.uses, self._whole(process), self._parts(self.limit), self.equality, strict=True
        )
        for u, whole, limit, equal in parts:
            met = whole & jnp.all(jnp.isfinite(limit)) & (equal | no_room(limit))
            shift = met.astype(limit.dtype)
            rows.append(jnp.zeros_like(self.limit).at[place : place + u.count].set(shift))
            place += u.count
        return jnp.stack(rows)

    def checks(self) -> list[checks.Check]:
        """Limits above zero."""
        return [checks.check_range(_OWNER, "capacities", self.limit, low=0.0, open_low=True)]


def as_limits(
    capacities: Any, sizes: tuple[int, int], dtype: Any, horizon: int | None = None
) -> Limits | None:
    """Limits of what the user gave, pairs of `Uses` and an array or an `Equal`."""
    if capacities is None:
        return None
    pairs = [capacities] if _is_pair(capacities) else capacities
    if not isinstance(pairs, list | tuple) or not pairs or not all(map(_is_pair, pairs)):
        raise TypeError(
            f"{_OWNER}: `capacities` must be a pair such as (mdp.visits([4, 5]), limits), or a "
            f"list of pairs; got {capacities!r:.60}."
        )
    found = []
    for use, limit in pairs:
        use.checks_of(_OWNER, *sizes, horizon)
        found.append((use, as_capacity(_OWNER, "capacities", limit, (use.count,), dtype)))
    return Limits(
        tuple(use for use, _ in found),
        jnp.concatenate([capacity.limit for _, capacity in found]),
        jnp.zeros((sizes[0],), bool),
        tuple(capacity.equality for _, capacity in found),
    )


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], Uses)


def with_outside(limits: Limits | None, process: "Process") -> Limits | None:
    """Limits that know which states nothing leads to.

    **Raises:** `ValueError` where there are none and entries are limited.
    """
    if limits is None:
        return None
    outside = jnp.zeros((process.kernel.n_states,), bool)
    if listed(process.kernel, process.terminal, process.permitted):
        with jax.ensure_compile_time_eval():
            state, action, after = process.kernel.graph()
            moves = after != state
            if process.permitted is not None:
                moves &= np.asarray(process.permitted)[state, action]
            outside = outside.at[after[moves]].set(True)
            outside = ~outside & ~process.terminal
    entered = any(use.first for use in limits.uses)
    if entered and checks.is_concrete(outside) and not np.any(np.asarray(outside)):
        raise ValueError(
            f"{_OWNER}: `capacities` of mdp.entries count steps from states no other leads to; "
            "there are none here, or transitions are traced."
        )
    return trees.replaced(limits, outside=outside)


def charged(process: "Process", params: Any) -> Float[Array, "*k s a"]:
    """Costs of all actions, prices included, which with a horizon differ by stage."""
    primal, prices = split_params(params)
    costs = process.costs(primal)
    return costs if prices is None else costs + charges_of(process, prices)


def charges_of(process: "Process", prices: Float[Array, " q"]) -> Float[Array, "*k s a"]:
    """What prices add to the cost of every action."""
    limits = process.limits
    assert limits is not None
    prices = jnp.where(limits.active, prices, 0.0)
    table, highest = limits.per_action(process), jax.lax.Precision.HIGHEST
    if process.horizon is None:
        return jnp.tensordot(prices, table, axes=1, precision=highest)
    by_stage = jnp.where(limits.on(process.horizon), prices[:, None], 0.0)
    return jnp.einsum("qk,qsa->ksa", by_stage, table, precision=highest)


def worth(process: "Process", params: Any) -> Float[Array, ""]:
    """What all capacity costs at the prices."""
    _, prices = split_params(params)
    if prices is None or process.limits is None:
        return jnp.zeros((), process.dtype)
    return jnp.sum(jnp.where(process.limits.active, prices, 0.0) * process.limits.finite)


def gap_at(process: "Process", traffic: Float[Array, "*k s a"]) -> Float[Array, " q"]:
    """Use less limit where there is one, at this traffic."""
    limits = process.limits
    assert limits is not None
    used = limits.used(process, traffic)
    return jnp.where(limits.active, used - limits.finite, 0.0)


def dual_at(process: "Process", costs: Float[Array, "s a"], beta: Scalar) -> Dual:
    """The dual of prices at fixed costs."""
    limits = process.limits
    assert limits is not None

    def value(prices: Array) -> Array:
        found = decide(process, costs + charges_of(process, prices), beta)
        energy = started(process, found.values) - jnp.sum(prices * limits.finite)
        # Below prices at which cycles earn F is -inf, which no step accepts.
        return jnp.where(is_failing(found.code), -jnp.inf, energy)

    return Dual(
        value_and_gap=jax.value_and_grad(value),
        free=limits.free(process),
        active=limits.active,
        shifts=orthonormal_rows(price_gauge(process)),
        beta=jnp.asarray(beta, costs.dtype),
    )


def level_prices(process: "Process") -> Float[Array, " q"]:
    """Prices times beta as beta -> 0: decisions nearest to the prior that meet the limits."""
    assert process.limits is not None
    still = trees.stop_gradient(process)
    nothing = jnp.zeros((process.kernel.n_states, process.kernel.n_actions), process.dtype)
    return solve_dual(dual_at(still, nothing, 1.0), jnp.zeros_like(still.limits.limit))


class _PriceEquation(Equation):
    """What prices solve at given places. Bounds make its Jacobian unsymmetric."""

    process: Any
    places: Any

    def residual(self, params: Float[Array, " q"], beta: Scalar) -> Float[Array, " q"]:
        traffic = self.process.counted_traffic(Params(self.places, params), beta)
        return condition(self.process, params, traffic, beta)

    def gauge(self, params: Float[Array, " q"]) -> Float[Array, "directions q"]:
        del params
        return price_gauge(self.process)


def price_gauge(process: "Process") -> Float[Array, "directions q"]:
    """Changes of prices that change nothing, stacked."""
    assert process.limits is not None
    return process.limits.gauge(process)


def condition(
    process: "Process", prices: Float[Array, " q"], traffic: Float[Array, "*k s a"], beta: Scalar
) -> Float[Array, " q"]:
    """What prices solve: use less limit, or -beta price below a bound."""
    limits = process.limits
    assert limits is not None
    gap = gap_at(process, traffic)
    return optimality(prices, gap, limits.active, limits.free(process), beta)


def eliminated(process: "Process", params: Params, beta: Scalar) -> Params:
    """The same places with the prices at which use meets capacity there."""
    still, start = trees.stop_gradient((process, params))
    beta = jnp.asarray(beta, process.dtype)
    dual = dual_at(still, still.costs(start.primal), jax.lax.stop_gradient(beta))
    prices = attach(
        solve_dual(dual, start.dual), _PriceEquation(process, params.primal), beta,
        jnp.asarray(False), options=LinearSolve(), on_failure="pass",
    )  # fmt: skip
    return Params(params.primal, prices)


def code_at(
    process: "Process", prices: Float[Array, " q"], traffic: Float[Array, "*k s a"], beta: Scalar
) -> Int[Array, ""]:
    """INFEASIBLE where use misses a limit, WEAKLY_ACTIVE at a tight bound without price."""
    limits = process.limits
    assert limits is not None
    gap = gap_at(process, traffic)
    # Prices that have run away are no longer numbers that costs compare with.
    code = constraint_code(prices, gap, limits.limit, limits.active, limits.free(process), beta)
    return jnp.where(jnp.all(jnp.isfinite(gap)), code, int(Code.INFEASIBLE))
