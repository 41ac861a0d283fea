"""`track`: follow the minimum of a free energy whose data move, by a control law."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from .._core import arrays, checks, trees
from .._core.codes import Code, as_code
from .._core.params import dual_of, join_params, primal_of, split_params
from .._core.programs import program
from ..engine.anneal import anneal
from ..engine.branching.watch import Detector
from ..engine.curvature import near_critical_threshold, random_start
from ..engine.problem import Constrained, Problem
from ..engine.schedules import Explicit
from ..solvers.floored import curvature_and_decrement
from ..solvers.spectrum import SpectrumOptions, lowest, primal_pencil
from .arguments import conditions_of, sizes_of, start_of, times_of
from .evaluation import evaluate, speeds
from .integrators import AbstractIntegrator, Adaptive, Flow
from .laws import AbstractLaw, Follow
from .moving import Moving, scene_of
from .trajectory import Row, Track

_OWNER = "track"
# Floor of the Hessian in `Track.lag`.
_LAG_FLOOR = 0.1


class Reanneal(eqx.Module):
    """Solve anew, at the same beta, wherever the curvature has fallen below `below`.

    A solution that has become a saddle is left along its unstable direction first.
    """

    below: float = eqx.field(static=True, default=0.05)

    def __check_init__(self) -> None:
        if not 0 <= self.below < 1:
            raise ValueError(f"Reanneal: `below` must be in [0, 1); got {self.below}.")


class _Scene(eqx.Module):
    """All that a flow depends on."""

    scene: Any
    beta: Float[Array, ""]
    law: AbstractLaw
    limit: Float[Array, ""] | None
    reanneal: Reanneal | None
    key: Any

    def params(self, problem: Problem, primal: Any, carry: Any) -> Any:
        """Params with what is eliminated solved for."""
        return problem.eliminate(join_params(primal, carry), self.beta)

    def moving(self, time: Any, state: Any, carry: Any) -> Moving:
        """The problem and its params at one time."""
        fields, primal = state
        return self.scene.moving(time, fields, lambda problem: self.params(problem, primal, carry))

    def rate(self, time: Any, state: Any, carry: Any) -> tuple[Any, Any]:
        """Rates of the moved fields and of the primal."""
        problem, params, tangents, rates = self.moving(time, state, carry)
        control = evaluate(problem, params, self.beta, tangents, self.law, self.limit)
        return (rates, control.velocity), dual_of(params)

    def row(self, time: Any, state: Any, carry: Any) -> Row:
        """What is told of one time."""
        problem, params, tangents, _ = self.moving(time, state, carry)
        control = evaluate(problem, params, self.beta, tangents, self.law, self.limit)
        terms = problem.terms(params, self.beta)
        energy = terms.free_energy
        curvature, lag = _curvature_and_lag(problem, params, self.beta)
        fastest = [jnp.max(speeds(leaf)) for leaf in jax.tree.leaves(control.velocity)]
        critical = ~(curvature > near_critical_threshold(energy.dtype))
        code = jnp.where(critical, int(Code.NEAR_CRITICAL), int(Code.OK)).astype(jnp.int32)
        code = jnp.maximum(code, problem_code(problem, params, self.beta))
        finite = trees.all_finite((params, energy)) & trees.all_finite(control.velocity)
        nothing = jnp.zeros_like(energy)
        # What the problem says against itself tells more than the Inf that follows from it.
        told = finite | (code == int(Code.INVALID_INPUT))
        return Row(
            values=params, free_energy=energy, free_energy_rate=control.free_energy_rate,
            distortion=terms.distortion, curvature=curvature, lag=lag,
            speed=jnp.max(jnp.stack(fastest)), saturated=control.saturated, jump=nothing,
            fall=nothing, code=jnp.where(told, code, as_code(Code.NON_FINITE)),
        )  # fmt: skip

    def reannealed(self, time: Any, state: Any, carry: Any, index: Any) -> tuple[Any, ...]:
        """State and carry after the re-anneal if one is due; curvature before, jump and fall."""
        assert self.reanneal is not None
        problem, params, _, _ = self.moving(time, state, carry)
        curvature, _ = _curvature_and_lag(problem, params, self.beta)

        def solved(_: Any) -> tuple[Any, ...]:
            solution = anneal(
                problem, Explicit(self.beta[None]), key=jax.random.fold_in(self.key, index),
                detector=Detector(), init=params,
            )  # fmt: skip
            good = solution.code < int(Code.MAX_STEPS)
            primal, dual = split_params(trees.where(good, solution.params, params))
            apart = jax.tree.map(lambda a, b: jnp.max(speeds(a - b)), primal, primal_of(params))
            fall = problem.free_energy(params, self.beta) - solution.free_energy
            jump = jnp.max(jnp.stack(jax.tree.leaves(apart)))
            return primal, dual, jump, jnp.where(good, fall, 0.0)

        def kept(_: Any) -> tuple[Any, ...]:
            nothing = jnp.zeros_like(curvature)
            return (*split_params(params), nothing, nothing)

        due = curvature < self.reanneal.below
        primal, dual, jump, fall = jax.lax.cond(due, solved, kept, None)
        return (state[0], primal), dual, curvature, jump, fall


def problem_code(problem: Problem, params: Any, beta: Any) -> Int[Array, ""]:
    """What the data of a moment, or its constraints, are found to be."""
    code = checks.report(problem.checks()).code
    if isinstance(problem, Constrained):
        return jnp.maximum(code, problem.constraint_code(params, beta))
    return jnp.asarray(code, jnp.int32)


def _curvature_and_lag(problem: Problem, params: Any, beta: Any) -> tuple[Array, Array]:
    start = random_start(problem, params, jax.random.key(0))
    pencil = primal_pencil(problem, params, beta)
    if not problem.variational:
        return lowest(pencil, start, SpectrumOptions()).value, jnp.full((), jnp.nan, beta.dtype)
    slope, _ = ravel_pytree(primal_of(problem.residual(params, beta)))
    floor = jnp.asarray(_LAG_FLOOR, beta.dtype)
    curvature, lag = curvature_and_decrement(pencil, slope, floor, start)
    return jax.lax.stop_gradient(curvature), lag


@program
def _track(
    scene: _Scene, problem: Problem, params: Any, times: Array, integrator: Any, plan: Any
) -> tuple[Row, dict[str, Array], Array]:
    primal, carry = split_params(params)
    state = (scene.scene.fields(), primal)
    flow = Flow(scene.rate, trees.stop_gradient(sizes_of(problem, params, state[0])))
    if scene.reanneal is not None:
        return _with_reanneals(scene, flow, state, carry, times, integrator, plan)
    flown = integrator.run(flow, state, carry, times, plan)
    # All rows, and one that tells what is next to where the flow ended, in one pass.
    after = flown.time + 1e-6 * (times[-1] - times[0])
    told = [(times[:1], times[1:], after[None])]
    for first, between, last in zip(
        jax.tree.leaves((state, carry)),
        jax.tree.leaves((flown.states, flown.carries)),
        jax.tree.leaves((flown.state, flown.carry)),
        strict=True,
    ):
        told.append((first[None], between, last[None]))
    clock, *rest = [jnp.concatenate(parts) for parts in told]
    states, carries = jax.tree.unflatten(jax.tree.structure((state, carry)), rest)
    rows = jax.lax.map(lambda now: scene.row(*now), (clock, states, carries))
    ended = _ending(flown.code, rows.code[-1])
    rows, moved = jax.tree.map(lambda leaf: leaf[:-1], (rows, states[0]))
    return _closed(rows, ended), moved, flown.n_steps


def _with_reanneals(
    scene: _Scene, flow: Flow, state: Any, carry: Any, times: Array, integrator: Any, plan: Any
) -> tuple[Row, Any, Array]:
    """Row by row, since values may jump there, and from each on to the next."""

    def row(now: tuple[Any, ...], at: tuple[Array, ...]) -> tuple[Any, Any]:
        state, carry, n_steps, ended = now
        time, later, index = at
        state, carry, curvature, jump, fall = scene.reannealed(time, state, carry, index)
        told = eqx.tree_at(
            lambda r: (r.curvature, r.jump, r.fall), scene.row(time, state, carry),
            (curvature, jump, fall),
        )  # fmt: skip
        told = eqx.tree_at(lambda r: r.code, told, jnp.maximum(told.code, ended))
        # A scene that has ended rests, at no cost.
        going = (ended == int(Code.OK)) & (told.code < int(Code.MAX_STEPS))
        flown = integrator.run(
            flow, state, carry, jnp.stack([time, jnp.where(going, later, time)]), plan
        )
        arrived = going & (flown.code == int(Code.OK))
        ended = jnp.where(going, flown.code, jnp.maximum(ended, told.code))
        onward = trees.where(arrived, (flown.state, flown.carry), (state, carry))
        return (*onward, n_steps + flown.n_steps, ended), (told, state[0])

    count = jnp.arange(times.shape[0])
    later = jnp.concatenate([times[1:], times[-1:]])
    start = (state, carry, jnp.zeros((), jnp.int32), as_code(Code.OK))
    end, (rows, moved) = jax.lax.scan(row, start, (times, later, count))
    return _closed(rows, as_code(Code.OK)), moved, end[2]


def _ending(code: Int[Array, ""], probe: Int[Array, ""]) -> Int[Array, ""]:
    """The code of a flow: what stalls next to where there is no number is NON_FINITE."""
    number = (code == int(Code.STALLED)) & (probe == int(Code.NON_FINITE))
    return jnp.where(number, as_code(Code.NON_FINITE), code)


def _closed(rows: Row, ended: Int[Array, ""]) -> Row:
    """Rows from where a scene ended: NaN, with the code of its end."""
    failed = rows.code >= int(Code.MAX_STEPS)
    gone = jnp.cumsum(failed) > 0
    first = jnp.argmax(failed)
    # Rows that were not reached are NaN because of how the flow ended, if it did.
    # A problem that is invalid there is why.
    own = (ended == int(Code.OK)) | (rows.code[first] == int(Code.INVALID_INPUT))
    reason = jnp.where(own, rows.code[first], ended)

    def closed(leaf: Array) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.where(gone.reshape(gone.shape + (1,) * (leaf.ndim - 1)), jnp.nan, leaf)

    code = jnp.where(gone, reason, rows.code)
    return eqx.tree_at(
        lambda r: (r.code, r.saturated), jax.tree.map(closed, rows), (code, rows.saturated & ~gone)
    )


def track(
    problem: Problem,
    start: Any,
    times: Any,
    *,
    beta: Any,
    velocity: Any = None,
    at: Any = None,
    traces: Any = None,
    law: AbstractLaw | None = None,
    integrator: AbstractIntegrator | None = None,
    speed_limit: Any = None,
    reanneal: Reanneal | None = None,
    key: Any = None,
) -> Track:
    """Move the unknowns of a problem so that they stay at its minimum while its data move.

    No anneal at every instant and no jumps: unknowns follow a control law. One compiled program for
    each shape; legal inside `jit`, `grad` (reverse) and `vmap`, and differentiable in the gains of
    the law, the start, beta, the problem's arrays and the parameters of the velocities.

    **Arguments:**

    - `problem`: a smooth `Problem`, as it is at `times[0]`.
    - `start`: a `Solution` of it at `beta`, or params.
    - `times`: shape (T,), increasing, at least two: when rows are told and, with `reanneal`, looked
        at. Between them the flow is integrated.
    - `beta`: inverse temperature, > 0, in units of one over the cost.
    - What moves, in one of three ways. `velocity`, a function of (time, problem, params) that gives
        a mapping from names of fields to their velocities; a field that is absent rests. `at`, a
        function of time that gives the problem, differentiated in time. A decision process is
        built outside and its places replaced: which of its states are entered is found from
        concrete transitions only, and `at` is refused where it loses that. `traces`, a mapping from
        names of fields to (times (F,), positions (F, *shape of the field)), or to a sequence of one
        such pair for each row; positions between fixes and velocities are interpolated. To
        differentiate parameters of a function, or to compile once for many, make it an
        `equinox.Module` with a `__call__`.
    - `law`: default `Follow()`.
    - `integrator`: `Adaptive()` (default) or `Euler(step)`.
    - `speed_limit`: largest speed of any slot, > 0; directions are kept. dF/dt <= 0 is given up.
    - `reanneal`: `Reanneal(below)` solves anew where the curvature has fallen so low; needs `key`.
        Without it rows there have the code NEAR_CRITICAL and the run goes on.

    **Returns:** a `Track`. It never raises for what happens on the way: look at its `code`.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was expected.

    Source: parameterized sequential decision making, sections 2.6 and chapter 4, as corrected.

    **Example:** two groups of points drift apart, and centres with them.

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.1], [-0.9], [0.9], [1.1]]), 2)
    >>> apart = lambda time, problem, centres: {"x": jnp.sign(problem.x)}
    >>> start = jnp.array([[-1.0], [1.0]])
    >>> track = mj.control.track(problem, start, [0.0, 1.0, 2.0], beta=10.0, velocity=apart)
    >>> print(f"{track.values[2, 1, 0]:.3f}", track.code)
    3.000 [0 0 0]

    ```
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"{_OWNER}: `problem` must be a Problem; got {type(problem).__name__}.")
    law = law if law is not None else Follow()
    integrator = integrator if integrator is not None else Adaptive()
    for name, value, kind in (
        ("law", law, AbstractLaw),
        ("integrator", integrator, AbstractIntegrator),
        ("reanneal", reanneal, Reanneal),
    ):
        if value is not None and not isinstance(value, kind):
            raise TypeError(
                f"{_OWNER}: `{name}` must be a {kind.__name__}; got {type(value).__name__}."
            )
    if reanneal is not None and key is None:
        raise TypeError(f"{_OWNER}: `reanneal` needs a `key`; got None.")
    law.check_problem(problem)
    params = start_of(_OWNER, "start", problem, start)
    dtype = trees.dtype_of(primal_of(params))
    times = times_of(_OWNER, times, dtype)
    beta = arrays.as_float_array("beta", beta, dtype)
    limit = (
        None if speed_limit is None else arrays.as_float_array("speed_limit", speed_limit, dtype)
    )
    moving = scene_of(_OWNER, problem, params, times, velocity, at, traces)
    plan = integrator.check_times(times)
    gains: Any = arrays.cast_floats(law, dtype)
    conditions = (*conditions_of(_OWNER, times, beta, limit), *gains.checks(), *moving.checks())
    checks.enforce(conditions)
    report = checks.report((*conditions, *problem.checks()))
    scene = _Scene(moving, beta, gains, limit, reanneal, key)
    rows, moved, n_steps = _track(scene, problem, params, times, integrator, plan)
    code = jnp.maximum(rows.code, jnp.asarray(report.code, jnp.int32))
    return Track(
        times=times, beta=beta, values=rows.values, free_energy=rows.free_energy,
        free_energy_rate=rows.free_energy_rate, distortion=rows.distortion,
        curvature=rows.curvature, lag=rows.lag, speed=rows.speed, saturated=rows.saturated,
        jump=rows.jump, fall=rows.fall, code=code, n_steps=n_steps, scene=moving, moved=moved,
        input_report=report,
    )  # fmt: skip
