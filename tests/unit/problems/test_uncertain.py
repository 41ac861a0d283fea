from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj

from ...jitted import jitted

RNG = np.random.default_rng(5)
POINTS, ENDS = RNG.normal(size=(4, 3, 2)), 2 + RNG.normal(size=(2, 5, 2))
SHARES = RNG.dirichlet(np.ones(3), size=4)
LIKELY = RNG.dirichlet(np.ones(5))
Y = RNG.normal(size=(2, 2))


def smooth_distance(a, b):
    return jnp.sqrt(jnp.sum((a - b) ** 2) + 0.01)


def squared(a, b):
    return ((a - b) ** 2).sum(-1)


def build(stage_costs: Any, **options):
    return mj.FacilityPath(
        mj.paths.Samples(POINTS, SHARES), mj.paths.Samples(ENDS, LIKELY), 2,
        stage_costs=stage_costs, direct=True, **options,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["squared", "function"])
def test_costs_are_expectations_over_the_samples(kind):
    cost = squared if kind == "squared" else lambda a, b: np.sqrt(squared(a, b) + 0.01)
    problem = build("sqeuclidean" if kind == "squared" else smooth_distance)
    legs = problem.leg_costs(problem.at(Y))
    first = (SHARES[:, :, None] * cost(POINTS[:, :, None], Y)).sum(1)
    last = (LIKELY[:, None] * cost(Y[:, None, None], ENDS)[..., None]).sum((2, 3))
    pairs = cost(POINTS[:, None, :, None], ENDS[None, :, None, :])
    direct = np.einsum("nlst,ns,t->nl", pairs, SHARES, LIKELY)
    np.testing.assert_allclose(legs.first, first, rtol=1e-12)
    np.testing.assert_allclose(legs.last, last, rtol=1e-12)
    assert legs.direct is not None
    np.testing.assert_allclose(legs.direct, direct, rtol=1e-12)


def test_a_covariance_is_what_samples_amount_to_for_squared_distances():
    mean = np.einsum("ns,nsd->nd", SHARES, POINTS)
    offsets = POINTS - mean[:, None]
    covariance = np.einsum("ns,nsd,nse->nde", SHARES, offsets, offsets)
    sampled = mj.FacilityPath(mj.paths.Samples(POINTS, SHARES), np.ones(2), 2)
    known = mj.FacilityPath(mj.paths.Covariance(mean, covariance), np.ones(2), 2)
    plain = mj.FacilityPath(mean, np.ones(2), 2)
    np.testing.assert_allclose(
        jitted.free_energy(sampled, Y, 2.0), jitted.free_energy(known, Y, 2.0), rtol=1e-12
    )
    # The scatter adds to the cost and moves nothing.
    spread = np.mean(np.trace(covariance, axis1=1, axis2=2))
    np.testing.assert_allclose(
        jitted.free_energy(known, Y, 2.0), jitted.free_energy(plain, Y, 2.0) + spread, rtol=1e-12
    )
    np.testing.assert_allclose(
        jitted.update(known, Y, 2.0), jitted.update(plain, Y, 2.0), rtol=1e-12
    )


def test_free_energy_is_differentiable_in_samples():
    def energy(points):
        problem = mj.FacilityPath(
            mj.paths.Samples(points, SHARES), np.ones(2), 2, stage_costs=smooth_distance
        )
        return problem.free_energy(Y, 2.0)

    points = jnp.asarray(POINTS)
    change = jnp.asarray(RNG.normal(size=POINTS.shape))
    slope = jnp.sum(jax.jit(jax.grad(energy))(points) * change)
    step = 1e-6
    run = jax.jit(energy)
    expected = (run(points + step * change) - run(points - step * change)) / (2 * step)
    np.testing.assert_allclose(slope, expected, rtol=1e-7)


@pytest.mark.parametrize(
    ("nodes", "options", "sentence"),
    [
        (mj.paths.Samples(POINTS[0]), {}, r"points of shape \(places, samples, coordinates\)"),
        (mj.paths.Samples(POINTS, np.ones(4)), {}, r"must have shape \(4, 3\) or \(3,\)"),
        (mj.paths.Samples(POINTS, [1.0, 1.0, -0.5]), {}, r"`nodes.weights` must be >= 0"),
        (mj.paths.Covariance(POINTS[0], np.eye(3)), {}, r"must have shape \(3, 2, 2\) or \(2, 2\)"),
        (mj.paths.Covariance(POINTS[0], -np.eye(2)), {}, r"`nodes.variance` must be >= 0"),
        (
            mj.paths.Covariance(POINTS[0], np.eye(2)),
            {"stage_costs": smooth_distance},
            "determines expected squared distances only",
        ),
    ],
)
def test_bad_uncertainty_is_named(nodes, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        mj.FacilityPath(nodes, np.ones(2), 2, **options)


def test_concrete_samples_are_checked_under_a_trace_too():
    @jax.jit
    def run(y):
        nodes = mj.paths.Samples(POINTS, [1.0, 1.0, -0.5])
        return mj.FacilityPath(nodes, np.ones(2), 2).free_energy(y, 1.0)

    with pytest.raises(ValueError, match="`nodes.weights` must be >= 0"):
        run(Y)


@pytest.mark.slow
@pytest.mark.slow
def test_the_baseline_is_placed_for_uncertain_nodes():
    # One node, one facility, the cost of a distance: the place is the samples' median.
    points = np.array([[[0.0], [1.0], [9.0]]])
    problem = mj.FacilityPath(
        mj.paths.Samples(points), np.array([4.0]), 1, stage_costs=smooth_distance
    )
    found = mj.locate_then_route(problem, key=jax.random.key(0), schedule=mj.Explicit([0.5, 1.0]))
    np.testing.assert_allclose(found.locations, [[1.0]], atol=0.02)
