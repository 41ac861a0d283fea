"""Control laws: how fast the unknowns of a problem should move while its data do.

All are computed from the free energy F, its residual g, the metric M and the drift, which is
d residual / d t at held unknowns; so every smooth problem has them.
"""

import abc
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from .._core import checks, trees
from .._core.linear import solve_scaled
from .._core.params import join_params, split_params
from ..engine.drift import moving_parts, primal_drift
from ..engine.problem import Problem
from ..engine.schedules import as_scalar
from ..problems.facility_path.problem import FacilityPath
from ..solvers import floored, spectrum


class Moment(eqx.Module):
    """What laws see of one moment: the problem, its data's velocities, and what follows.

    `slope` is the primal residual and `drift` its rate at held unknowns, shaped like the primal;
    what is eliminated follows in both. `solve_metric` is M^-1.
    """

    problem: Problem
    params: Any
    beta: Float[Array, ""]
    tangents: Any
    slope: Any
    drift: Any
    solve_metric: Callable[[Any], Any]

    def energy_rate(self) -> Float[Array, ""]:
        """dF / dt at held unknowns."""
        moving, velocities, at = moving_parts(self.problem, self.tangents)
        if not moving:
            return jnp.zeros((), self.beta.dtype)
        energy = lambda moved: at(moved).free_energy(self.params, self.beta)  # noqa: E731
        return jax.jvp(energy, (moving,), (velocities,))[1]


def moment(problem: Problem, params: Any, beta: Float[Array, ""], tangents: Any) -> Moment:
    """One pass over the data."""
    moving, velocities, at = moving_parts(problem, tangents)

    def equation(moved: list[Any]) -> tuple[Any, Any]:
        return at(moved).residual_and_metric(params, beta)

    if moving:
        whole, change, metric = jax.jvp(equation, (moving,), (velocities,), has_aux=True)
    else:
        whole, metric = equation(moving)
        change = jax.tree.map(jnp.zeros_like, whole)

    def solve(vector: Any) -> Any:
        flat, unravel = ravel_pytree(vector)
        if lx.is_diagonal(metric):
            return unravel(flat / ravel_pytree(lx.diagonal(metric))[0])
        if flat.size > floored.DENSE_LIMIT:
            return problem.precondition(params, beta, vector)
        # The metric is here already; `precondition` would go through the data again.
        row = lambda unit: ravel_pytree(metric.mv(unravel(unit)))[0]  # noqa: E731
        matrix = jax.vmap(row)(jnp.eye(flat.size, dtype=flat.dtype))
        return unravel(solve_scaled(matrix, flat[:, None])[:, 0])

    slope, _ = split_params(whole)
    drift = primal_drift(problem, params, beta, change)
    return Moment(problem, params, beta, tangents, slope, drift, solve)


class AbstractLaw(eqx.Module):
    """A control law: velocities of the unknowns from what is known of one moment."""

    @abc.abstractmethod
    def control(self, now: Moment) -> tuple[Any, Bool[Array, ""]]:
        """(velocity of the primal, whether the law is saturated)."""

    def check_problem(self, problem: Problem) -> None:
        """Raise `TypeError` naming the law and the problem where it cannot serve."""
        if not problem.smooth:
            raise TypeError(
                f"{type(self).__name__} needs a free energy with second derivatives; this "
                f"{type(problem).__name__} has none (`problem.smooth` is false)."
            )

    def _need_gradient(self, problem: Problem) -> None:
        if not problem.variational:
            raise TypeError(
                f"{type(self).__name__} needs a residual that is the gradient of the free "
                f"energy; this {type(problem).__name__} has another (`problem.variational` is "
                "false). Follow() serves it."
            )

    def checks(self) -> tuple[checks.Check, ...]:
        """Conditions on the gains."""
        return ()


class Follow(AbstractLaw):
    """Feed-forward plus proportional: u = -M^-1 (drift + gain g); the default.

    For squared costs M and the drift are exact at a fixed policy, and the policy is allowed to
    move. It asks for nothing but the equation of the problem.

    **Arguments:** `gain`, > 0, in units of one over time: what is left of the error after a time t
    is about exp(-gain t) of it.

    Source: parameterized sequential decision making, section 4.2, with the metric for S.
    """

    gain: Any

    def __init__(self, gain: Any = 5.0) -> None:
        self.gain = as_scalar("Follow", "gain", gain)
        checks.enforce(self.checks())

    def checks(self) -> tuple[checks.Check, ...]:
        """The gain is positive."""
        return (checks.check_range("Follow", "gain", self.gain, low=0.0, open_low=True),)

    def control(self, now: Moment) -> tuple[Any, Bool[Array, ""]]:
        """-M^-1 (drift + gain g); never saturated."""
        wanted = trees.axpy(self.gain, now.slope, now.drift)
        return jax.tree.map(jnp.negative, now.solve_metric(wanted)), jnp.asarray(False)


class Newton(AbstractLaw):
    """Exact tracking with a floored Hessian: u = -H_floor^-1 (drift + gain g).

    H_floor is the Hessian with the eigenvalues of M^-1/2 H M^-1/2 replaced by max(|.|, floor):
    without that the velocity is unbounded at phase transitions and leads to saddles. Dense up to
    256 unknowns; above, conjugate gradients end at the first direction below the floor.

    **Arguments:** `gain`, > 0, in units of one over time; `floor`, >= 0, of one. A floor of 0 is
    allowed and warned of.

    Source: `u = -Hess^-1 (d grad / dt + k grad)`, the tracker of time-varying optimisation.
    """

    gain: Any
    floor: Any

    def __init__(self, gain: Any = 5.0, floor: Any = 0.1) -> None:
        self.gain = as_scalar("Newton", "gain", gain)
        self.floor = as_scalar("Newton", "floor", floor)
        checks.enforce(self.checks())
        if checks.is_concrete(self.floor) and float(self.floor) == 0:
            warnings.warn(
                "Newton: with a `floor` of 0 velocities are unbounded at phase transitions and "
                "lead uphill at saddles; the default is 0.1.",
                UserWarning,
                stacklevel=2,
            )

    def checks(self) -> tuple[checks.Check, ...]:
        """The gain is positive, the floor not negative."""
        return (
            checks.check_range("Newton", "gain", self.gain, low=0.0, open_low=True),
            checks.check_range("Newton", "floor", self.floor, low=0.0),
        )

    def check_problem(self, problem: Problem) -> None:
        """It needs a symmetric Hessian."""
        super().check_problem(problem)
        self._need_gradient(problem)

    def control(self, now: Moment) -> tuple[Any, Bool[Array, ""]]:
        """-H_floor^-1 (drift + gain g); never saturated."""
        wanted, unravel = ravel_pytree(trees.axpy(self.gain, now.slope, now.drift))
        pencil = spectrum.primal_pencil(now.problem, now.params, now.beta)
        return unravel(-floored.floored_solve(pencil, wanted, self.floor)), jnp.asarray(False)


class _Descent(AbstractLaw):
    """What the two printed laws share: gains K0 and eps, and the guarded factor."""

    K0: Any
    eps: Any

    def checks(self) -> tuple[checks.Check, ...]:
        """K0 is positive, eps not negative."""
        owner = type(self).__name__
        return (
            checks.check_range(owner, "K0", self.K0, low=0.0, open_low=True),
            checks.check_range(owner, "eps", self.eps, low=0.0),
        )

    def check_problem(self, problem: Problem) -> None:
        """It needs the gradient of F."""
        super().check_problem(problem)
        self._need_gradient(problem)

    def _factor(self, rate: Array, size: Array) -> tuple[Array, Array]:
        """K0 + (alpha + sqrt(alpha^2 + q^2)) / q, with q at least eps where alpha > 0.

        Where alpha <= 0 the quotient is q / (sqrt(alpha^2 + q^2) - alpha), which needs no guard
        but at alpha = q = 0.
        """
        rising = rate > 0
        still = (rate == 0) & (size == 0)
        square = jnp.where(still, 1.0, rate**2 + size**2)
        root = jnp.where(still, 0.0, jnp.sqrt(square))
        falling = size / jnp.where(rising | still, 1.0, root - rate)
        climbing = (rate + root) / jnp.where(rising, jnp.maximum(size, self.eps), 1.0)
        return self.K0 + jnp.where(rising, climbing, falling), rising & (size < self.eps)


class Lyapunov(_Descent):
    """The printed law (4.8) on F: u = -[K0 + (alpha + sqrt(alpha^2 + q^2)) / q] M^-1 g.

    alpha is dF/dt at held unknowns and q = g . M^-1 g, so that dF/dt = -K0 q - sqrt(alpha^2 + q^2)
    wherever q >= eps or alpha <= 0. Elsewhere the cost rises faster than any bounded velocity could
    lower it, the law is `saturated`, and dF/dt may be positive.

    **Arguments:** `K0`, > 0; `eps`, >= 0, in units of q, which with the metric are those of F (so
    K0 is one over time); 0 is the law as printed, whose velocity grows without bound as q goes to 0
    while alpha > 0. `metric=False` takes M = 1, as printed: then units matter.

    Source: parameterized sequential decision making, (4.8), Theorem 11, with a guard.
    """

    metric: bool = eqx.field(static=True)

    def __init__(self, K0: Any = 1.0, eps: Any = 0.1, *, metric: bool = True) -> None:
        self.K0 = as_scalar("Lyapunov", "K0", K0)
        self.eps = as_scalar("Lyapunov", "eps", eps)
        self.metric = bool(metric)
        checks.enforce(self.checks())

    def control(self, now: Moment) -> tuple[Any, Bool[Array, ""]]:
        """Down the gradient, by as much as the data raise F."""
        downhill = now.solve_metric(now.slope) if self.metric else now.slope
        size = trees.dot(now.slope, downhill)
        factor, saturated = self._factor(now.energy_rate(), size)
        return jax.tree.map(lambda leaf: -factor * leaf, downhill), saturated


class LyapunovPaths(_Descent):
    """The printed law (2.31) for facility networks with squared legs.

    u = S^-1 (f0^T phi + fd psi^T) - [K0 + (alpha + sqrt(alpha^2 + q^2)) / q] (y - y_c), where y_c
    is the best place at the present traffic, q = (y - y_c)^T S (y - y_c), and alpha half of dF/dt
    under the first part alone. Then dF/dt = -2 (K0 q + sqrt(alpha^2 + q^2)), twice what (2.30)
    prints, wherever q >= eps or alpha <= 0.

    **Arguments:** `K0`, > 0, one over time; `eps`, >= 0, in units of q, those of F; 0 is the law as
    printed, whose velocity grows without bound as q goes to 0 while alpha > 0.

    Source: parameterized sequential decision making, (2.31), Theorem 4, with a guard.
    """

    def __init__(self, K0: Any = 1.0, eps: Any = 0.1) -> None:
        self.K0 = as_scalar("LyapunovPaths", "K0", K0)
        self.eps = as_scalar("LyapunovPaths", "eps", eps)
        checks.enforce(self.checks())

    def check_problem(self, problem: Problem) -> None:
        """A `FacilityPath` with squared legs."""
        super().check_problem(problem)
        if not isinstance(problem, FacilityPath) or not problem.all_squared:
            raise TypeError(
                "LyapunovPaths needs a FacilityPath whose legs all cost the squared distance; got "
                f"{type(problem).__name__}. Lyapunov() serves any free energy."
            )

    def control(self, now: Moment) -> tuple[Any, Bool[Array, ""]]:
        """Feed-forward at the present traffic, and down the gradient."""
        forward = jax.tree.map(jnp.negative, now.solve_metric(frozen_drift(now)))
        off = now.solve_metric(now.slope)
        rate = 0.5 * (now.energy_rate() + trees.dot(now.slope, forward))
        size = 0.5 * trees.dot(now.slope, off)
        factor, saturated = self._factor(rate, size)
        return trees.axpy(-factor, off, forward), saturated


def frozen_drift(now: Moment) -> Any:
    """Drift of the gradient in the locations while the traffic stays as it is."""
    assert isinstance(now.problem, FacilityPath)  # as `check_problem` has seen
    traffic = now.problem.traffic(now.params, now.beta)
    locations, prices = split_params(now.params)
    moving, velocities, at = moving_parts(now.problem, now.tangents)
    if not moving:
        return jax.tree.map(jnp.zeros_like, locations)

    def cost(locations: Any, moved: list[Any]) -> Float[Array, ""]:
        legs = at(moved).leg_costs(join_params(locations, prices))
        paid = jax.tree.map(lambda f, c: jnp.sum(jnp.where(f > 0, f * c, 0.0)), traffic, legs)
        return jnp.sum(jnp.stack(jax.tree.leaves(paid)))

    slope = lambda moved: jax.grad(cost)(locations, moved)  # noqa: E731
    return jax.jvp(slope, (moving,), (velocities,))[1]
