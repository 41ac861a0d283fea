"""What the tests of a row share: one eager anneal, and one program of each kind."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import mepjax as mj
from mepjax._core.params import primal_of

from ..registry import ROWS, Row

# One static length for all schedules, so that each row compiles its anneal once.
MAX_STAGES = 64
SEED = 3


def each(holds: Callable[[Row], Any] = lambda row: True) -> Any:
    """Runs a test for every row of which `holds` says that the test is about it."""
    rows = [row for row in ROWS if holds(row)]
    return pytest.mark.parametrize(
        "row",
        [
            pytest.param(row, marks=[] if row.default else pytest.mark.slow, id=row.name)
            for row in rows
        ],
    )


def each_with(items: Callable[[Row], Sequence[tuple[str, Any]]]) -> Any:
    """Runs a test for every row and each of its named items."""
    return pytest.mark.parametrize(
        ("row", "item"),
        [
            pytest.param(
                row, item, marks=[] if row.default else pytest.mark.slow, id=f"{row.name}/{name}"
            )
            for row in ROWS
            for name, item in items(row)
        ],
    )


def key(seed: Any = SEED) -> Any:
    return jax.random.key(seed)


class Traces:
    """Counts how often `update` has been traced or run."""

    def __init__(self) -> None:
        self._calls = itertools.count()
        self._read = 0

    def add(self) -> None:
        next(self._calls)

    def new(self) -> int:
        """Since this was asked last."""
        total = next(self._calls) - self._read
        self._read += total + 1
        return total


@functools.cache
def traces_of(row: Row) -> Traces:
    del row
    return Traces()


@functools.cache
def _counting(row: Row, kind: Any) -> Any:
    def update(self: Any, params: Any, beta: Any) -> Any:
        traces_of(row).add()
        return kind.update(self, params, beta)

    return type(kind.__name__, (kind,), {"update": update})


def counted(row: Row, problem: Any) -> Any:
    """The same problem, of a class that counts traces and that all problems of the row have."""
    changed: Any = object.__new__(_counting(row, type(problem)))
    for name, value in vars(problem).items():
        object.__setattr__(changed, name, value)
    return changed


def like(row: Row, problem: Any) -> Any:
    """`counted` unless it is."""
    return problem if isinstance(problem, type(problem_of(row))) else counted(row, problem)


@functools.cache
def problem_of(row: Row) -> Any:
    with jax.enable_x64(True):
        return counted(row, row.build(np.float64))


def geometric(
    row: Row, beta_min: Any = None, beta_max: Any = None, factor: Any = None
) -> mj.Geometric:
    given = (beta_min, beta_max, factor)
    numbers = [
        jnp.asarray(own if other is None else other)
        for own, other in zip(row.schedule, given, strict=True)
    ]
    return mj.Geometric(*numbers, max_stages=MAX_STAGES)


class Solved(NamedTuple):
    state: mj.AnnealState  # no stage of it is left
    solution: mj.Solution
    traces: int


@functools.cache
def solved(row: Row) -> Solved:
    """The one eager anneal of a row."""
    with jax.enable_x64(True):
        problem = problem_of(row)
        traces_of(row).new()
        state = mj.begin(problem, geometric(row), key=key())
        state = mj.advance(
            problem,
            state,
            MAX_STAGES + (problem.continuation.stages if problem.continuation else 0),
        )
        solution = mj.finish(problem, state)
        return Solved(state, solution, traces_of(row).new())


def solve(
    row: Row,
    problem: Any,
    schedule: mj.Geometric | None = None,
    seed: Any = SEED,
    detector: Any = None,
) -> Any:
    """An eager anneal, which compiles nothing where the shapes are those of the row."""
    solved(row)  # counts traces, so it has to come first
    own_key = key(seed) if isinstance(seed, int) else seed
    schedule = schedule or geometric(row)
    return mj.anneal(like(row, problem), schedule, key=own_key, detector=detector)


def readout(problem: Any, solution: Any) -> Any:
    """A number that depends on all values of a solution and on its distortion."""
    flat = ravel_pytree(primal_of(solution.params))[0]
    weights = np.random.default_rng(11).normal(size=flat.shape)
    return jnp.sum(jnp.sin(flat) * weights) + solution.distortion


# One jit(vmap(value_and_grad)) of the whole anneal.

GOOD, SHIFTED, UNFINISHED, BAD = range(4)
SHIFT = 0.03
SEEDS = (SEED, 5)


class Lanes(NamedTuple):
    value: Any
    solution: mj.Solution
    gradient: Any
    gradient_in_beta: Any


def stacked(problems: Sequence[Any]) -> Any:
    arrays, rest = zip(*[eqx.partition(problem, eqx.is_array) for problem in problems], strict=True)
    return eqx.combine(jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays), rest[0])


def lane(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index] if eqx.is_array(leaf) else leaf, tree)


@functools.cache
def lanes_of(row: Row) -> Lanes:
    """A good problem, a shifted one, one that ends unfinished, and one for each bad value."""
    solved(row)  # counts traces, which a staged anneal would leave it none of
    with jax.enable_x64(True):
        good = problem_of(row)
        problems = [good, row.shifted(good, SHIFT), good, *(bad(good) for bad in row.bad)]
        _, beta_max, factor = row.schedule
        count = len(problems)
        factors = np.full(count, factor)
        # So many small steps that more stages are left than there is place for.
        factors[UNFINISHED] = 1 + 0.1 * (factor - 1) * 24 / MAX_STAGES
        betas = np.full(count, beta_max)
        keys = jnp.stack([key(SEEDS[index == SHIFTED]) for index in range(count)])
        return _lanes(row, stacked(problems), jnp.asarray(betas), jnp.asarray(factors), keys)


@eqx.filter_jit
def _lanes(row: Row, problems: Any, betas: Any, factors: Any, keys: Any) -> Lanes:
    def one(problem: Any, beta_max: Any, factor: Any, key: Any) -> Lanes:
        def value(pair: Any) -> tuple[Any, mj.Solution]:
            problem, beta_max = pair
            schedule = geometric(row, beta_max=beta_max, factor=factor)
            solution = mj.anneal(problem, schedule, key=key)
            return readout(problem, solution), solution

        (number, solution), slopes = eqx.filter_value_and_grad(value, has_aux=True)(
            (problem, beta_max)
        )
        return Lanes(number, solution, *slopes)

    return eqx.filter_vmap(one)(problems, betas, factors, keys)


# Derivatives through `finish` of a state that is done, which leaves the loop out.


def finished(row: Row, adjoint: Any = None) -> Callable[[Any], Any]:
    """The readout as a function of the problem."""
    state = solved(row).state
    if adjoint is not None:
        state = eqx.tree_at(lambda s: s.adjoint, state, adjoint)
    return lambda problem: readout(problem, mj.finish(problem, state))


# What a problem says at given params.


class Said(NamedTuple):
    policy: Any
    terms: Any
    free_energy: Any
    hard_cost: Any
    update: Any
    residual: Any
    # One step of what provably lowers F, its F, and by how much it has to fall.
    step: Any
    stepped_energy: Any
    gain: Any


@eqx.filter_jit
def said(row: Row, problem: Any, params: Any, beta: Any) -> Said:
    update = problem.update(params, beta)
    residual = problem.residual(params, beta)
    step, gain = update, jnp.zeros_like(beta)
    if not row.monotone:
        solver = problem.default_solver()
        step, _, _ = solver.step(problem, params, beta, solver.init(problem, params, beta))
    if row.quadratic:
        slope = primal_of(residual)
        gain = 0.5 * jnp.sum(slope * problem.precondition(params, beta, slope))
    return Said(
        problem.policy(params, beta),
        problem.terms(params, beta),
        problem.free_energy(params, beta),
        problem.harden(params).cost,
        update,
        residual,
        step,
        problem.free_energy(step, beta),
        gain,
    )


@eqx.filter_jit
def settled(problem: Any, values: Any, beta: Any) -> Any:
    """Params at values, prices solved."""
    return problem.eliminate(problem.at(values), beta)


@eqx.filter_jit
def energy_and_policy(problem: Any, params: Any, beta: Any) -> Any:
    return problem.free_energy(params, beta), problem.policy(params, beta)


def random_params(row: Row, seed: int, beta: Any) -> Any:
    problem = problem_of(row)
    values = row.random_values(problem, np.random.default_rng(seed))
    return settled(problem, values, jnp.asarray(beta))


def assert_same(got: Any, expected: Any, **tolerance: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), got, expected)
