"""Prices that make use meet capacity: the concave dual, maximised by a projected Newton method."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._core import trees
from .._core.codes import Code, as_code
from .backtracking import backtrack
from .base import AbstractSolver, Convergence, StepInfo
from .equation import Equation
from .loop import solve_stage

# Sums of shares over the data are right to so many times the relative precision of their mean.
_ROUNDING = 64.0
# So many columns of the dual's Hessian are computed at a time.
_COLUMNS = 32


def optimality(price: Array, gap: Array, active: Array, free: Array, beta: Any) -> Array:
    """Zero where use is capacity or, for a bound, below it at price zero.

    A price acts through beta times the price, which is comparable with use.
    """
    met = jnp.where(free, gap, jnp.maximum(gap, -beta * price))
    return jnp.where(active, met, beta * price)


def constraint_code(
    prices: Any, difference: Any, limits: Any, active: Any, free: Any, beta: Any
) -> Int[Array, ""]:
    """INFEASIBLE where use misses a limit, WEAKLY_ACTIVE at a tight bound without price.

    All but `beta` are pytrees of one shape; `difference` is use less limit. A limit may be missed
    by 10 times the root of the rounding error, relative to the smallest: many limits are small.
    """

    def of(price: Array, gap: Array, limit: Array, on: Array, either: Array) -> Array:
        left = jnp.max(jnp.abs(optimality(price, gap, on, either, beta)))
        smallest = jnp.min(jnp.where(on, limit, 1.0))
        tolerance = 10 * float(jnp.finfo(left.dtype).eps) ** 0.5 * jnp.minimum(smallest, 1.0)
        idle = on & ~either & (jnp.abs(gap) < tolerance) & (beta * price < tolerance)
        code = jnp.where(jnp.any(idle), as_code(Code.WEAKLY_ACTIVE), as_code(Code.OK))
        return jnp.where(left <= tolerance, code, as_code(Code.INFEASIBLE))

    codes = jax.tree.map(of, prices, difference, limits, active, free)
    return jnp.max(jnp.stack(jax.tree.leaves(codes)))


class Dual(Equation):
    """The conditions under which prices maximise a concave function of them.

    `value_and_gap(prices)` is the function and its gradient, use minus capacity. Prices that are
    not `free` in sign are at least zero; those that are not `active` stay zero. `shifts` is an
    orthonormal basis of changes among free prices that change nothing. Where one pass over the
    data gives the second derivatives too, `expansion(prices)` is (value, gap, minus the Hessian)
    and `value_and_gap` is not called.
    """

    value_and_gap: Callable[[Array], tuple[Array, Array]]
    free: Bool[Array, " q"]
    active: Bool[Array, " q"]
    shifts: Float[Array, "directions q"] | None
    beta: Float[Array, ""]
    expansion: Callable[[Array], tuple[Array, Array, Array]] | None = None

    def params_scale(self, params: Float[Array, " q"]) -> Float[Array, ""]:
        """Prices act through beta times the price."""
        del params
        return 1 / self.beta

    def unmet(self, prices: Float[Array, " q"], gap: Float[Array, " q"]) -> Float[Array, " q"]:
        """The optimality conditions, where the gap is known."""
        return optimality(prices, gap, self.active, self.free, self.beta)

    def residual(self, params: Float[Array, " q"], beta: Any) -> Float[Array, " q"]:
        """Zero at the best prices: use meets its limit, or the price is zero and use below it."""
        del beta
        known = None if self.expansion is None else self.expansion(params)
        _, gap = self.value_and_gap(params) if known is None else known[:2]
        return self.unmet(params, gap)

    def projected(self, prices: Float[Array, " q"]) -> Float[Array, " q"]:
        """The nearest admissible prices."""
        admissible = jnp.where(self.free, prices, jnp.maximum(prices, 0.0))
        return jnp.where(self.active, admissible, 0.0)


class _State(eqx.Module):
    damping: Float[Array, ""]
    # The dual's `expansion` at the present prices, where it has one.
    known: tuple[Array, Array, Array] | None


class ProjectedNewton(AbstractSolver[Dual]):
    """Newton's method on the prices that are not held at zero, damped until the dual rises.

    The damping (Levenberg-Marquardt) is in units of beta, which is the size of the dual's
    curvature where use is spread evenly: where use saturates and the curvature vanishes, steps
    stay bounded. At the rounding level of the dual the optimality conditions decide instead.
    """

    max_tries: int = eqx.field(static=True, default=12)
    rtol: float | None = eqx.field(static=True, default=None)
    max_steps: int = eqx.field(static=True, default=100)
    stage_rtol: float | None = eqx.field(static=True, default=None)
    stage_max_steps: int = eqx.field(static=True, default=100)

    def init(self, problem: Dual, params: Float[Array, " q"], beta: Float[Array, ""]) -> _State:
        """The damping to start with, and no step behind."""
        del beta
        known = None if problem.expansion is None else problem.expansion(params)
        return _State(jnp.asarray(1e-3, params.dtype), known)

    def step(
        self,
        problem: Dual,
        params: Float[Array, " q"],
        beta: Float[Array, ""],
        state: _State,
    ) -> tuple[Any, Any, StepInfo]:
        """One accepted step; the state has the next damping."""
        dual, prices = problem, params
        dtype = prices.dtype
        eps = float(jnp.finfo(dtype).eps)
        unit = jnp.eye(prices.size, dtype=dtype)
        if state.known is not None:
            value, gap, bend = state.known
        else:
            (value, gap), derivative = jax.linearize(dual.value_and_gap, prices)
            if prices.size <= _COLUMNS:
                _, columns = jax.vmap(derivative)(unit)
            else:
                _, columns = jax.lax.map(derivative, unit, batch_size=_COLUMNS)
            bend = -0.5 * (columns + columns.T)
        held = ~dual.active | (~dual.free & (prices <= 0) & (gap < 0))
        moving = ~held[:, None] & ~held[None, :]
        push = jnp.where(held, 0.0, gap)
        matrix = jnp.where(moving, bend, 0.0)
        error = jnp.linalg.norm(dual.unmet(prices, gap))
        slack = 8 * eps * jnp.abs(value)

        def attempt(damping: Array) -> tuple[Array, Any]:
            factor = jax.scipy.linalg.cho_factor(matrix + damping * beta * unit)
            step = jax.scipy.linalg.cho_solve(factor, push)
            if dual.shifts is not None:
                step = step - dual.shifts.T @ (dual.shifts @ step)
            new = dual.projected(prices + step)
            move = new - prices
            predicted = gap @ move - 0.5 * move @ (bend @ move)
            new_known = None
            if dual.expansion is None:
                new_value, new_gap = dual.value_and_gap(new)
            else:
                new_known = dual.expansion(new)
                new_value, new_gap, _ = new_known
            gain = new_value - value
            new_error = jnp.linalg.norm(dual.unmet(new, new_gap))
            rises = gain >= 1e-4 * predicted
            clear = predicted > slack
            accepted = jnp.where(clear, rises, new_error <= error) & (predicted >= -slack)
            accepted = accepted & jnp.isfinite(new_value)
            good = accepted & ((gain >= 0.75 * predicted) | ~clear)
            return accepted, (new, new_known, good)

        def within(damping: Array) -> Array:
            # Directions that change nothing stay put above this floor.
            return jnp.clip(damping, 100 * eps, 1e6).astype(dtype)

        trial = backtrack(
            attempt,
            state.damping,
            (prices, state.known, jnp.asarray(False)),
            retry=lambda damping: within(10 * damping),
            most=self.max_tries,
        )
        new, known, good = trial.found
        factor = jnp.where(good, 0.1, jnp.where(trial.accepted, 1.0, 10.0))
        new = jnp.where(trial.accepted, new, prices)
        known = trees.where(trial.accepted, known, state.known)
        following = _State(within(trial.size * factor), known)
        return new, following, StepInfo(new - prices, ~trial.accepted)

    def terminate(
        self,
        problem: Dual,
        params: Float[Array, " q"],
        beta: Float[Array, ""],
        state: _State,
        info: StepInfo,
        convergence: Convergence,
    ) -> Bool[Array, ""]:
        """Also where use meets capacity to the rounding of its sums, if one pass tells both.

        Single precision has prices wander there, in steps that are large beside their own rounding.
        """
        ended = super().terminate(problem, params, beta, state, info, convergence)
        if state.known is None:
            return ended
        # Of shares, whose sum is one.
        left = params.size * jnp.max(jnp.abs(problem.unmet(params, state.known[1])))
        return ended | (left <= _ROUNDING * jnp.finfo(left.dtype).eps)


def solve_dual(dual: Dual, prices: Float[Array, " q"]) -> Float[Array, " q"]:
    """Maximise the dual from given prices; without derivative.

    It never fails loudly: what is left of `dual.residual` tells how well use meets capacity.
    """
    solver = ProjectedNewton()
    rtol = 1e-11 if prices.dtype == jnp.float64 else 1e-6
    result = solve_stage(
        dual,
        dual.projected(prices),
        dual.beta,
        solver,
        rtol=jnp.asarray(rtol, prices.dtype),
        max_steps=jnp.asarray(solver.max_steps, jnp.int32),
    )
    return jax.lax.stop_gradient(result.params)
