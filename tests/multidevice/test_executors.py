"""Contract item 9: streaming and sharded sums are those in memory, on however many devices."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import mepjax as mj
from mepjax._core.params import dual_of, primal_of, split_params

from ..registry import ROWS, row_named
from ..registry.points import D, K, N, points

KEY = jax.random.key(0)
BETA = 3.0
# Blocks that do not divide the entities, and several on each of eight devices.
EXECUTORS = {
    "streaming": lambda: mj.Streaming(block=5),
    "sharded": lambda: mj.Sharded(block=2),
}
DEFAULT = {"uniform", "matrix", "softmax-frozen"}


def in_sums(row) -> bool:
    with jax.enable_x64(True):
        problem = row.build(np.float64)
    if not isinstance(problem, mj.Clustering) or not problem.smooth:
        return False
    return problem.capacity is None or isinstance(
        problem.autonomy, mj.autonomy.NoAutonomy | mj.autonomy.Uniform
    )


ENTITIES = [row for row in ROWS if in_sums(row)]


def in_node_sums(row) -> bool:
    with jax.enable_x64(True):
        problem = row.build(np.float64)
    return isinstance(problem, mj.FacilityPath)


PATHS = [row for row in ROWS if in_node_sums(row)]
OTHERS = [row for row in ROWS if row not in ENTITIES + PATHS]


def cases(rows, default) -> list[Any]:
    """Rows with executors: of those that are not in the default run one, the one that fits.

    On one device a mesh is a loop over blocks too, which the default rows show; the other rows are
    sharded where there are eight.
    """
    one = "sharded" if jax.device_count() > 1 else "streaming"
    return [
        pytest.param(
            row,
            executor,
            marks=[] if row.name in default else pytest.mark.slow,
            id=f"{row.name}-{executor}",
        )
        for row in rows
        for executor in (EXECUTORS if row.name in default else [one])
    ]


def somewhere(problem) -> jax.Array:
    rng = np.random.default_rng(5)
    return problem.x[:K] + jnp.asarray(0.1 * rng.uniform(size=(K, D)))


@eqx.filter_jit
def everything(problem, y, v):
    """All that the engine asks of a problem, and derivatives in all its arrays."""
    energy = lambda problem, y: problem.free_energy(y, BETA)  # noqa: E731
    slope = jax.grad(lambda y: energy(problem, y))
    residual = lambda problem: jnp.vdot(v, problem.residual(y, BETA))  # noqa: E731
    slope_in_x = jax.grad(lambda x, y: energy(eqx.tree_at(lambda p: p.x, problem, x), y))
    direction = jnp.sin(problem.x)
    terms = problem.terms(y, BETA)
    hard = problem.harden(y)
    return {
        "init": problem.init(KEY),
        "free energy": energy(problem, y),
        "slope": slope(y),
        "Hessian product": jax.jvp(slope, (y,), (v,))[1],
        "update": problem.update(y, BETA),
        "residual": problem.residual(y, BETA),
        "metric": problem.metric(y, BETA).mv(v),
        "precondition": problem.precondition(y, BETA, v),
        "terms": (terms.distortion, terms.entropy),
        "hard": (hard.assignments, hard.cost),
        "d free energy": eqx.filter_grad(energy)(problem, y),
        "slope in x": slope_in_x(problem.x, y),
        "mixed": jax.grad(lambda y: jnp.vdot(direction, slope_in_x(problem.x, y)))(y),
        "d residual": eqx.filter_grad(residual)(problem),
        "d beta": jax.grad(lambda b: problem.free_energy(y, b))(BETA),
    }


def assert_same(got, expected, **tolerance):
    for name, value in expected.items():
        for a, b in zip(jax.tree.leaves(got[name]), jax.tree.leaves(value), strict=True):
            np.testing.assert_allclose(a, b, err_msg=name, **tolerance)


@pytest.mark.parametrize(("row", "executor"), cases(ENTITIES, DEFAULT))
def test_every_sum_is_that_in_memory(row, executor):
    problem = row.build(np.float64)
    y = somewhere(problem)
    v = jnp.asarray(np.random.default_rng(6).normal(size=y.shape))
    moved = problem.on(EXECUTORS[executor]())
    assert_same(everything(moved, y, v), everything(problem, y, v), rtol=1e-9, atol=1e-12)


def path_params(problem) -> Any:
    rng = np.random.default_rng(5)
    at = problem.at(problem.nodes[: problem.n_facilities] + 0.1 * rng.uniform(size=D))
    prices = dual_of(at)
    if prices is None:
        return at
    leaves, structure = jax.tree.flatten(prices)
    some = [jnp.asarray(0.05 * rng.normal(size=leaf.shape)) for leaf in leaves]
    return mj.Params(at.primal, jax.tree.unflatten(structure, some))


@eqx.filter_jit
def everything_of_paths(problem, params):
    """The same of a network, prices included."""
    energy = lambda problem, params: problem.free_energy(params, BETA)  # noqa: E731
    locations, prices = split_params(params)
    rng = np.random.default_rng(6)
    v = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), params)
    along = lambda p: jnp.vdot(  # noqa: E731
        ravel_pytree(v)[0], ravel_pytree(p.residual(params, BETA))[0]
    )
    terms = problem.terms(params, BETA)
    hard = problem.harden(params)
    move = primal_of(v)
    return {
        "init": problem.init(KEY),
        "free energy": energy(problem, params),
        "slope": jax.grad(energy, 1)(problem, params),
        "Hessian product": jax.jvp(lambda p: jax.grad(energy, 1)(problem, p), (params,), (v,))[1],
        "update": problem.update(params, BETA),
        "residual": problem.residual(params, BETA),
        "metric": problem.metric(params, BETA).mv(move),
        "precondition": problem.precondition(params, BETA, move),
        "terms": terms,
        "usage": problem.usage(params, BETA),
        "entries": problem.entry_shares(params, BETA),
        "scale": problem.params_scale(params),
        "constraint_code": problem.constraint_code(params, BETA),
        "hard": (hard.routes, hard.destinations, hard.node_costs, hard.cost),
        "d free energy": eqx.filter_grad(energy)(problem, params),
        "d residual": eqx.filter_grad(along)(problem),
    }


@pytest.mark.parametrize(("row", "executor"), cases(PATHS, {"paths"}))
def test_every_sum_over_nodes_is_that_in_memory(row, executor):
    problem = row.build(np.float64)
    params = path_params(problem)
    moved = problem.on(EXECUTORS[executor]())
    got = everything_of_paths(moved, params)
    assert_same(got, everything_of_paths(problem, params), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_prices_of_a_capacity_are_those_in_memory(executor):
    row = row_named("clustering-shares")
    problem = row.build(np.float64)
    params = mj.Params(somewhere(problem), jnp.linspace(-0.1, 0.1, K))

    @eqx.filter_jit
    def all_of(problem):
        terms = problem.terms(params, BETA)
        return {
            "slope": jax.grad(problem.free_energy)(params, BETA),
            "settled": problem.eliminate(params, BETA),
            "update": problem.update(params, BETA),
            "residual": problem.residual(params, BETA),
            "terms": (terms.distortion, terms.entropy, terms.constraints),
        }

    moved = problem.on(EXECUTORS[executor]())
    assert_same(all_of(moved), all_of(problem), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(
    "name", ["uniform", pytest.param("softmax-entity", marks=pytest.mark.slow)]
)
def test_an_anneal_and_its_gradient_are_those_in_memory(name, executor):
    row = row_named(name)
    problem = row.build(np.float64)
    schedule = mj.Geometric(0.3, 4.0, 1.3)

    def solve(problem, executor):
        return mj.anneal(problem, schedule, key=KEY, executor=executor)

    def cost(problem, executor):
        return jnp.sum(jnp.cos(solve(problem, executor).params))

    got, expected = solve(problem, EXECUTORS[executor]()), solve(problem, None)
    assert int(got.code) == int(expected.code) == mj.Code.OK
    np.testing.assert_allclose(got.params, expected.params, rtol=1e-7)
    gradients = [
        eqx.filter_grad(cost)(problem, executor) for executor in (EXECUTORS[executor](), None)
    ]
    for name, get in row.arrays.items():
        np.testing.assert_allclose(
            get(gradients[0]), get(gradients[1]), rtol=1e-5, atol=1e-8, err_msg=name
        )


@pytest.mark.slow
@pytest.mark.parametrize("executor", EXECUTORS)
def test_growth_samples_and_repairs_on_any_executor(executor):
    x, _ = mj.datasets.nested_groups(320)
    problem = mj.Clustering(x, 16)
    solutions = [
        mj.anneal(
            problem,
            key=KEY,
            detector=mj.Growth(sample=64),
            repair=mj.Repair(swaps=4),
            executor=executor,
        ).raise_if_failed()
        for executor in (EXECUTORS[executor](), None)
    ]
    got, expected = solutions
    np.testing.assert_allclose(got.free_energy, expected.free_energy, rtol=1e-9)


def test_lanes_share_a_sharded_executor():
    x, _ = points()
    data = jnp.stack([x, x + 1.0, 2 * x])

    def energy(x):
        problem = mj.Clustering(x, K).on(mj.Sharded(block=2))
        return problem.free_energy(x[:K], BETA)

    np.testing.assert_allclose(
        jax.vmap(energy)(data), [mj.Clustering(x, K).free_energy(x[:K], BETA) for x in data]
    )


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: row.name)
def test_what_is_computed_in_memory_only_says_so(row):
    problem = row.build(np.float64)
    for executor in (mj.Streaming(), mj.Sharded()):
        with pytest.raises(TypeError, match="in memory only"):
            problem.on(executor)
    assert problem.on(mj.InMemory()) is problem


def test_a_sharded_mesh_of_explicit_axes_will_do():
    mesh = jax.make_mesh((jax.device_count(),), ("anything",))
    problem = mj.Clustering(points()[0], K)
    moved = problem.on(mj.Sharded(mesh))
    y = somewhere(problem)
    np.testing.assert_allclose(moved.free_energy(y, BETA), problem.free_energy(y, BETA))


@pytest.mark.skipif(jax.device_count() == 1, reason="one device divides everything")
def test_entities_that_sharded_devices_do_not_divide_are_refused():
    problem = mj.Clustering(points()[0][: N - 1], K)
    with pytest.raises(ValueError, match="multiple of the 8 devices of `mesh`; got 23. Add 1"):
        problem.on(mj.Sharded())


@pytest.mark.parametrize("cost", ["sqeuclidean", "euclidean"])
def test_memory_of_an_anneal_does_not_grow_with_the_data(cost):
    def bytes_of(n):
        x = np.random.default_rng(0).normal(size=(n, 8))
        problem = mj.Clustering(x, 4, cost=cost).on(mj.Streaming(block=100))
        arrays, rest = eqx.partition(problem, eqx.is_array)

        def run(arrays):
            schedule, quiet = mj.Geometric(0.1, 1.0, 1.5), mj.NoDetector()
            return mj.anneal(eqx.combine(arrays, rest), schedule, key=KEY, detector=quiet).params

        analysis = jax.jit(run).lower(arrays).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    few, many = bytes_of(5_000), bytes_of(20_000)
    assert many < few + 5_000 * 8


def test_memory_is_that_of_a_block():
    x, y = jnp.zeros((40_000, 8)), jnp.zeros((32, 8))

    def bytes_of(function):
        analysis = jax.jit(function).lower(x, y).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    def problem(x):
        return mj.Clustering(x, 32, autonomy=mj.autonomy.Matrix(jnp.eye(32))).on(
            mj.Streaming(block=100)
        )

    energy = lambda x, y: problem(x).free_energy(y, 1.0)  # noqa: E731
    for function in (energy, jax.grad(energy, 1), lambda x, y: problem(x).update(y, 1.0)):
        # A hundredth of an N x K array.
        assert bytes_of(function) < x.shape[0] * y.shape[0] * 8 / 20

    soft = lambda x, y: mj.Clustering(x, 32).on(mj.Streaming(block=100)).free_energy(y, 1.0)  # noqa: E731
    for function in (jax.grad(soft), jax.value_and_grad(soft, (0, 1))):
        assert bytes_of(function) < x.shape[0] * y.shape[0] * 8 / 20
