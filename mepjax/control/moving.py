"""What moves: a problem whose data follow velocities, a function of time, or recorded traces."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._core import checks, trees
from ..engine.drift import as_tangents
from ..engine.problem import Problem
from ..problems.facility_path.problem import FacilityPath
from ..problems.parametric_mdp import ParametricMDP


class Moving(NamedTuple):
    """A problem at one time, its params, its tangents shaped like it, and rates of fields."""

    problem: Problem
    params: Any
    tangents: Any
    rates: dict[str, Any]


class AbstractScene(eqx.Module):
    """A problem in time. Fields that are integrated with the unknowns are in `fields`, by name."""

    @abc.abstractmethod
    def fields(self) -> dict[str, Array]:
        """Fields that are integrated, as they are at the start."""

    @abc.abstractmethod
    def problem_at(self, time: Any, fields: Any) -> Any:
        """The problem at one time, with what it measures from its data measured there."""

    @abc.abstractmethod
    def moving(self, time: Any, fields: Any, params_at: Callable[[Any], Any]) -> "Moving":
        """The problem, its params by `params_at(problem)`, and how it moves."""

    def checks(self) -> tuple[checks.Check, ...]:
        """Conditions on the data."""
        return ()


def replaced(problem: Problem, fields: Mapping[str, Any]) -> Any:
    """The problem with other fields, measured again; places known by a distribution stay so."""
    if not fields:
        return problem
    new = problem.replace(**fields)
    if isinstance(problem, FacilityPath):
        new = trees.replaced(
            new, node_spread=problem.node_spread, destination_spread=problem.destination_spread
        )
    return new


class ByVelocity(AbstractScene):
    """`velocity(time, problem, params)` gives velocities of fields, by name."""

    problem: Problem
    velocity: Any
    names: tuple[str, ...] = eqx.field(static=True)

    def fields(self) -> dict[str, Array]:
        """What moves."""
        return {name: getattr(self.problem, name) for name in self.names}

    def problem_at(self, time: Any, fields: Any) -> Any:
        """With the fields where they have moved."""
        return replaced(self.problem, fields)

    def moving(self, time: Any, fields: Any, params_at: Callable[[Any], Any]) -> "Moving":
        """Its velocity there."""
        problem = self.problem_at(time, fields)
        params = params_at(problem)
        velocity = self.velocity(time, problem, params)
        rates = {
            name: jnp.asarray(velocity[name], leaf.dtype) if name in velocity else 0 * leaf
            for name, leaf in fields.items()
        }
        return Moving(problem, params, as_tangents(problem, rates), rates)


def _asked(
    owner: str, velocity: Any, time: Any, problem: Problem, params: Any
) -> Mapping[str, Any]:
    answer = velocity(time, problem, params)
    if not isinstance(answer, Mapping):
        raise TypeError(
            f"{owner}: `velocity` must return a mapping from names of fields to velocities; got "
            f"{type(answer).__name__}."
        )
    return answer


class ByFunction(AbstractScene):
    """`at(time)` is the problem then, differentiated in time."""

    at: Any

    def fields(self) -> dict[str, Array]:
        """None: all that moves is in the function."""
        return {}

    def problem_at(self, time: Any, fields: Any) -> Any:
        """`at(time)`."""
        return self.at(time)

    def moving(self, time: Any, fields: Any, params_at: Callable[[Any], Any]) -> "Moving":
        """Its derivative."""
        problem, tangents = eqx.filter_jvp(self.at, (time,), (jnp.ones_like(time),))
        return Moving(problem, params_at(problem), tangents, {})


class Trace(eqx.Module):
    """Recorded places of a field: `times` (T,) for all rows, or (n, T) with times of each row.

    Between fixes they are interpolated by cubic Hermite splines with backward differences, which
    look at no later fix than the next one.
    """

    times: Float[Array, "*rows fixes"]
    positions: Float[Array, "fixes *shape"] | Float[Array, "n fixes *row"]
    coefficients: Any

    def _curve(self) -> Any:
        diffrax = needed_diffrax()
        if self.times.ndim == 1:
            return diffrax.CubicInterpolation(self.times, self.coefficients)
        return eqx.filter_vmap(diffrax.CubicInterpolation)(self.times, self.coefficients)

    def at(self, time: Any) -> Array:
        """Places at one time."""
        curve = self._curve()
        if self.times.ndim == 1:
            return curve.evaluate(time)
        return eqx.filter_vmap(lambda row: row.evaluate(time))(curve)

    def velocity(self, time: Any) -> Array:
        """Velocities estimated from the fixes."""
        curve = self._curve()
        if self.times.ndim == 1:
            return curve.derivative(time)
        return eqx.filter_vmap(lambda row: row.derivative(time))(curve)


class ByTraces(AbstractScene):
    """Fields follow recorded traces."""

    problem: Problem
    traces: dict[str, Trace]

    def fields(self) -> dict[str, Array]:
        """None: traces say where they are."""
        return {}

    def problem_at(self, time: Any, fields: Any) -> Any:
        """With the fields where the traces are."""
        return replaced(self.problem, {name: t.at(time) for name, t in self.traces.items()})

    def moving(self, time: Any, fields: Any, params_at: Callable[[Any], Any]) -> "Moving":
        """With velocities estimated from the traces."""
        problem = self.problem_at(time, fields)
        velocity = {name: trace.velocity(time) for name, trace in self.traces.items()}
        return Moving(problem, params_at(problem), as_tangents(problem, velocity), {})


def needed_diffrax() -> Any:
    """The package, or an error that says how to install it."""
    try:
        import diffrax
    except ImportError as error:
        raise ImportError(
            "tracking needs diffrax, which is not installed; run: pip install "
            '"mepjax[control]". Euler() with `velocity` or `at` does without.'
        ) from error
    return diffrax


def scene_of(
    owner: str, problem: Problem, params: Any, times: Any, velocity: Any, at: Any, traces: Any
) -> AbstractScene:
    """The scene in whichever of the three ways it was said; `owner` is who is called."""
    given = [
        n for n, v in (("velocity", velocity), ("at", at), ("traces", traces)) if v is not None
    ]
    if len(given) != 1:
        raise TypeError(
            f"{owner}: say what moves in exactly one of the ways `velocity`, `at` and `traces`; "
            f"got {', '.join(given) or 'none'}."
        )
    if velocity is not None:
        checks.check_function(owner, "velocity", velocity, "(self, time, problem, values)")
        shape = eqx.filter_eval_shape(_asked, owner, velocity, times[0], problem, params)
        as_tangents(problem, shape_only(shape))
        return ByVelocity(problem, velocity, tuple(sorted(shape)))
    if at is not None:
        checks.check_function(owner, "at", at, "(self, time)")
        shape = eqx.filter_eval_shape(at, times[0])
        if not isinstance(shape, Problem):
            raise TypeError(f"{owner}: `at` must return a Problem; got {type(shape).__name__}.")
        if type(shape) is not type(problem):
            raise TypeError(
                f"{owner}: `at` must return a {type(problem).__name__}, as `problem` is; got "
                f"{type(shape).__name__}."
            )
        _check_structure(owner, problem, shape)
        return ByFunction(at)
    if not isinstance(traces, Mapping) or not traces:
        raise TypeError(
            f"{owner}: `traces` must map names of fields to (times, positions); got {traces!r:.60}."
        )
    found = {name: _trace(owner, problem, name, trace, times) for name, trace in traces.items()}
    return ByTraces(problem, found)


def _check_structure(owner: str, problem: Any, shape: Any) -> None:
    """Raise where `at` loses what a decision process finds out from concrete transitions."""
    if not isinstance(problem, ParametricMDP):
        return
    had, has = problem.structure, shape.structure
    if any(getattr(had, name) is not None and getattr(has, name) is None
           for name in ("among", "onward", "proper")):  # fmt: skip
        raise ValueError(
            f"{owner}: `at` must not build the ParametricMDP from traced transitions: which states "
            "are entered and which policy ends cannot be found from them. Build the problem "
            "outside and replace what moves, such as `equinox.tree_at(lambda p: "
            "p.unknowns.states, problem, places)`."
        )


def shape_only(shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Zeros of these shapes, where only shapes are looked at."""
    return {name: np.zeros(np.shape(leaf)) for name, leaf in shapes.items()}


def _trace(owner: str, problem: Problem, name: str, trace: Any, times: Any) -> Trace:
    """One array of fixes for all rows, or a sequence of one (times, positions) for each."""
    as_tangents(problem, {name: np.zeros(np.shape(getattr(problem, name, ())))})
    field = getattr(problem, name)
    by_row = not (isinstance(trace, tuple) and len(trace) == 2 and np.ndim(trace[0]) == 1)
    diffrax = needed_diffrax()
    dtype = field.dtype
    if not by_row:
        fixes = jnp.asarray(trace[0], dtype)
        places = jnp.asarray(trace[1], dtype)
        expected = (*fixes.shape, *field.shape)
        if places.shape != expected:
            raise ValueError(
                f"{owner}: positions in the trace of `{name}` must have shape {expected}, "
                f"(times, *shape of the field); got {places.shape}."
            )
        _check_fixes(owner, f"`{name}`", fixes, places, times)
        return Trace(fixes, places, diffrax.backward_hermite_coefficients(fixes, places))
    if not isinstance(trace, Sequence) or len(trace) != field.shape[0]:
        raise ValueError(
            f"{owner}: the trace of `{name}` must be (times, positions), or a sequence of that "
            f"for each of its {field.shape[0]} rows."
        )
    rows = [(np.asarray(t, dtype), np.asarray(p, dtype)) for t, p in trace]
    for index, (fixes, places) in enumerate(rows):
        expected = (*np.shape(fixes), *field.shape[1:])
        if places.shape != expected:
            raise ValueError(
                f"{owner}: positions in the trace of row {index} of `{name}` must have shape "
                f"{expected}; got {places.shape}."
            )
        _check_fixes(owner, f"row {index} of `{name}`", fixes, places, times)
    fixes, places = _padded(rows)
    fixes, places = jnp.asarray(fixes), jnp.asarray(places)
    return Trace(fixes, places, jax.vmap(diffrax.backward_hermite_coefficients)(fixes, places))


def _padded(rows: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Traces of one length: shorter ones rest at their last place, after they are looked at."""
    longest = max(len(fixes) for fixes, _ in rows)
    times, places = [], []
    for fixes, at in rows:
        more = longest - len(fixes)
        step = fixes[-1] - fixes[0]
        times.append(np.concatenate([fixes, fixes[-1] + step * (1 + np.arange(more))]))
        places.append(np.concatenate([at, np.repeat(at[-1:], more, axis=0)]))
    return np.stack(times).astype(rows[0][0].dtype), np.stack(places)


def _check_fixes(owner: str, where: str, fixes: Any, places: Any, times: Any) -> None:
    if fixes.ndim != 1 or fixes.shape[0] < 2:
        raise ValueError(
            f"{owner}: the trace of {where} must have at least two fixes; got {fixes.shape[0]}."
        )
    if not checks.is_concrete(fixes, places, times):
        return
    fixes, times = np.asarray(fixes), np.asarray(times)
    if not (np.all(np.isfinite(fixes)) and np.all(np.isfinite(np.asarray(places)))):
        raise ValueError(f"{owner}: the trace of {where} must be finite; it has NaN or Inf.")
    steps = np.diff(fixes)
    if np.any(steps <= 0):
        worst = int(np.argmax(steps <= 0))
        what = "twice" if steps[worst] == 0 else "out of order"
        raise ValueError(
            f"{owner}: times in the trace of {where} must increase; got {fixes[worst + 1]:.7g} "
            f"{what}."
        )
    room = 1e-6 * (fixes[-1] - fixes[0])
    if times[0] < fixes[0] - room or times[-1] > fixes[-1] + room:
        raise ValueError(
            f"{owner}: the trace of {where} must cover `times` from {times[0]:.7g} to "
            f"{times[-1]:.7g}; it has {fixes[0]:.7g} to {fixes[-1]:.7g}."
        )
