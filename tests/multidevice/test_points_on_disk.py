"""Contract item 9 for points on disk: their sums are those in memory, row by row."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj

from ..registry import row_named
from ..registry.points import D, K, N
from .test_executors import (
    BETA,
    ENTITIES,
    KEY,
    PATHS,
    assert_same,
    everything_of_paths,
    path_params,
    somewhere,
)

# The row whose sums know nothing of the cost and the autonomy; soft means are in unit/exec.
DISK_DEFAULT = {"softmax-frozen"}
NODES = {"paths", "paths-bounds", "paths-function"}
ON_DISK = (mj.costs.SquaredEuclidean, mj.costs.Mahalanobis, mj.costs.Euclidean)


def per_entity(problem) -> bool:
    """Whether the autonomy has numbers for each entity."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(problem.autonomy)]
    return any(shape[:1] == (N,) for shape in shapes)


def rows_of(points, weights) -> mj.exec.Rows:
    """Points that a function reads."""
    table = np.column_stack([points, weights])
    read = lambda first, last: table[first:last]  # noqa: E731
    return mj.exec.Rows(read, weights=D, shape=table.shape, dtype=table.dtype)


def on_disk(problem) -> mj.Clustering:
    """The same problem in slabs of two blocks."""
    rows = rows_of(problem.x, problem.weights)
    moved = problem.replace(x=rows, weights=None).on(mj.exec.FromDisk(rows=10, block=5))
    # Both are measured to rounding; what is compared here is the sums.
    for one, other in ((moved.origin, problem.origin), (moved.spread, problem.spread)):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    return moved


@eqx.filter_jit
def everything_on_disk(problem, y, v):
    """The same without a number for each entity, but for what it is differentiated in."""
    energy = lambda problem, y: problem.free_energy(y, BETA)  # noqa: E731
    slope = jax.grad(lambda y: energy(problem, y))
    residual = lambda problem: jnp.vdot(v, problem.residual(y, BETA))  # noqa: E731
    terms = problem.terms(y, BETA)
    hard = problem.harden(y)
    numbers = lambda problem: (problem.autonomy, problem.cost)  # noqa: E731
    return {
        "init": problem.init(KEY),
        "free energy": energy(problem, y),
        "slope": slope(y),
        "Hessian product": jax.jvp(slope, (y,), (v,))[1],
        "update": problem.update(y, BETA),
        "residual": problem.residual(y, BETA),
        "metric": problem.metric(y, BETA).mv(v),
        "precondition": problem.precondition(y, BETA, v),
        "terms": (terms.free_energy, terms.distortion, terms.entropy),
        "hard": (hard.cost, hard.excess),
        "d free energy": numbers(eqx.filter_grad(energy)(problem, y)),
        "d residual": numbers(eqx.filter_grad(residual)(problem)),
        "d beta": jax.grad(lambda b: problem.free_energy(y, b))(BETA),
    }


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=[] if row.name in DISK_DEFAULT else pytest.mark.slow, id=row.name)
        for row in ENTITIES
    ],
)
def test_every_sum_over_points_on_disk_is_that_in_memory(row):
    problem = row.build(np.float64)
    if per_entity(problem):
        with pytest.raises(TypeError, match="`autonomy` must be the same for all entities"):
            on_disk(problem)
        return
    if not isinstance(problem.cost, (*ON_DISK, mj.costs.CostFunction)):
        with pytest.raises(TypeError, match="`cost` must be one of SquaredEuclidean"):
            on_disk(problem)
        return
    y = somewhere(problem)
    v = jnp.asarray(np.random.default_rng(6).normal(size=y.shape))
    moved = on_disk(problem)
    got, expected = (everything_on_disk(p, y, v) for p in (moved, problem))
    assert_same(got, expected, rtol=1e-8, atol=1e-11)
    # Minimisers are sought, here and there, before it is known.
    np.testing.assert_allclose(moved.beta_scale(), problem.beta_scale(), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["softmax-entity", "clustering-shares"])
def test_an_anneal_over_points_on_disk_is_that_in_memory(name, tmp_path):
    problem = row_named(name).build(np.float64)
    moved = on_disk(problem)
    # One begins by the continuation of its autonomy; of the other, coincident centres that are
    # told apart by their shares part at random.
    limited = problem.capacity is not None
    schedule = mj.Geometric(3.0 if limited else 0.3, 40.0 if limited else 4.0, 1.3)
    start = problem.at(problem.x[:K]) if limited else None
    found, expected = (mj.anneal(p, schedule, key=KEY, init=start) for p in (moved, problem))
    assert int(found.code) == int(expected.code)
    np.testing.assert_allclose(found.free_energy, expected.free_energy, rtol=1e-7)
    hard = problem.harden(found.params)
    cost = moved.harden_to(tmp_path / "labels.npy", found.params)
    np.testing.assert_allclose(cost, hard.cost, rtol=1e-9)
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), hard.assignments)


# Masks and hop limits, which stay in memory; all capacities with two destinations; other legs.
@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in PATHS if row.name in NODES], ids=lambda r: r.name)
def test_every_sum_over_nodes_on_disk_is_that_in_memory(row):
    problem = row.build(np.float64)
    rows = rows_of(problem.nodes, problem.weights)
    if problem.max_hops is not None:
        with pytest.raises(TypeError, match="`max_hops` must be left out"):
            problem.replace(nodes=rows, weights=None)
        problem = problem.replace(
            max_hops=None, links=mj.paths.Links(between=problem.links.between)
        )
    moved = problem.replace(nodes=rows, weights=None).on(mj.exec.FromDisk(rows=10, block=5))
    params = path_params(problem)
    got, expected = (everything_of_paths(p, params) for p in (moved, problem))
    # Weighted here, as one pass measures it, and not there.
    for found in (got, expected):
        del found["scale"]
    np.testing.assert_allclose(got["hard"][-1], expected["hard"][-1], rtol=1e-9)
    del got["hard"], expected["hard"]
    derivatives = ("d free energy", "d residual")
    for name in derivatives:
        assert eqx.filter(got[name].nodes, eqx.is_array).source is rows.source
        for found in (got, expected):
            parts = found[name]
            found[name] = parts.destinations, parts.fixed, parts.capacities, parts.stage_costs
    assert_same(got, expected, rtol=1e-7, atol=1e-10)
    for ours, theirs in (
        (moved.size(), problem.size()),
        (moved.beta_scale(), problem.beta_scale()),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_points_on_disk_have_no_derivative():
    problem = on_disk(row_named("uniform").build(np.float64))
    slopes = eqx.filter_grad(lambda problem: jnp.sum(problem.origin**2))(problem)
    with pytest.raises(TypeError, match="Points on disk have no derivative"):
        _ = slopes.x + 1.0
