import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code

from ...jitted import jitted

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(12, 2))
Z = np.array([3.0, 0.0])
EQUAL = [0.5, 0.3, 0.2]


def build(k=3, **options):
    return mj.FacilityPath(X, Z, k, **options)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"entry_capacity": [0.5, 0.5]}, ValueError, r"`entry_capacity` must have shape \(3,\)"),
        ({"entry_capacity": [0.2, 0.2, 0.2]}, ValueError, r"sum of at least 1; got 0\.6"),
        ({"entry_capacity": mj.Equal([0.5, 0.5, 0.5])}, ValueError, r"sum 1; got 1\.5"),
        ({"entry_capacity": [1.5, -0.5, 0.5]}, ValueError, r"`entry_capacity` must be >= 0"),
        ({"entry_capacity": [np.nan, 1, 1]}, ValueError, r"`entry_capacity` must be >= 0"),
        ({"facility_capacity": [0.2, 0.2, 0.2]}, ValueError, r"sum of at least 1"),
        (
            {"facility_capacity": mj.Equal([2.0, 2.0, 2.0])},
            ValueError,
            r"`facility_capacity` given as Equal must have a sum in \[1, 3\]; got 6",
        ),
        ({"link_capacity": np.ones((2, 3))}, ValueError, r"`link_capacity` must have shape"),
        ({"link_capacity": "wide"}, (TypeError, ValueError), "link_capacity"),
        (
            {"facility_capacity": [0.0, 1.0, 1.0], "links": mj.paths.Links(
                entry=np.tile([True, False, False], (12, 1)))},
            ValueError,
            "node 0 cannot reach a destination",
        ),
    ],
)  # fmt: skip
def test_bad_capacities_are_named(options, error, sentence):
    with pytest.raises(error, match=sentence):
        build(**options)


def test_without_capacities_params_are_the_locations():
    problem = build()
    assert problem.at(np.zeros((3, 2))).shape == (3, 2)
    assert build(entry_capacity=EQUAL).at(np.zeros((3, 2))).primal.shape == (3, 2)


@pytest.mark.slow
def test_what_only_the_solve_can_tell_is_infeasible():
    # All enter at 0, from where only a link of capacity 0.25 leads on to the way out.
    links = mj.paths.Links(entry=np.tile([True, False], (12, 1)), exit=np.array([[False], [True]]))
    tight = mj.FacilityPath(X, Z, 2, links=links, link_capacity=np.full((2, 2), 0.25))
    solution = mj.anneal(tight, mj.Explicit([0.5, 1.0]), key=KEY)
    assert int(solution.code) == Code.INFEASIBLE
    with pytest.raises(mj.SolveError, match="No decision satisfies all constraints"):
        solution.raise_if_failed()


def test_a_bound_that_is_met_exactly_without_a_price_is_flagged():
    free = build()
    y = free.init(KEY) + np.array([[0.0, 0.0], [0.3, 0.1], [-0.2, 0.4]])
    natural = np.array(jitted.entry_shares(free, y, 1.0))
    problem = build(entry_capacity=np.array([natural[0], 1.0, 1.0]))
    params = jitted.eliminate(problem, problem.at(y), 1.0)
    assert int(jitted.constraint_code(problem, params, 1.0)) == Code.WEAKLY_ACTIVE
    roomy = build(entry_capacity=np.array([natural[0] + 0.01, 1.0, 1.0]))
    assert (
        int(jitted.constraint_code(roomy, jitted.eliminate(roomy, roomy.at(y), 1.0), 1.0))
        == Code.OK
    )


def test_slack_bounds_change_nothing():
    y = np.array([[0.0, 0.0], [0.8, 0.3], [-0.5, 0.2]])
    free, bounded = build(), build(facility_capacity=[5.0, 5.0, np.inf])
    params = jitted.eliminate(bounded, bounded.at(y), 2.0)
    np.testing.assert_array_equal(params.dual.facility, 0)
    np.testing.assert_allclose(
        jitted.update(bounded, params, 2.0).primal, jitted.update(free, y, 2.0)
    )
    np.testing.assert_allclose(
        jitted.free_energy(bounded, params, 2.0), jitted.free_energy(free, y, 2.0)
    )


def test_capacities_vmap_and_price_is_the_derivative_of_free_energy():
    y = np.array([[0.0, 0.0], [0.8, 0.3], [-0.5, 0.2]])
    limits = jnp.array([[0.5, 0.4, 0.6], [0.45, 0.45, 0.45]])

    @jax.jit
    @jax.vmap
    def run(limit):
        def energy(limit):
            problem = build(facility_capacity=limit)
            params = problem.eliminate(problem.at(jnp.asarray(y)), 2.0)
            return problem.free_energy(params, 2.0), params.dual.facility

        (value, prices), slope = jax.value_and_grad(energy, has_aux=True)(limit)
        return value, prices, slope

    values, prices, slopes = run(limits)
    # A wider capacity saves its price.
    np.testing.assert_allclose(slopes, -prices, atol=1e-8)
    step = 1e-5
    for lane, limit in enumerate(limits):
        for j in range(3):
            moved = jnp.stack([limit.at[j].add(step), limit.at[j].add(-step)])
            upper, lower = run(moved)[0]
            np.testing.assert_allclose((upper - lower) / (2 * step), slopes[lane, j], atol=1e-7)
    assert values.shape == (2,)


@pytest.mark.slow
def test_infeasible_lane_leaves_the_other_alone():
    links = mj.paths.Links(entry=np.tile([True, False], (12, 1)), exit=np.array([[False], [True]]))

    def run(width):
        problem = mj.FacilityPath(X, Z, 2, links=links, link_capacity=jnp.full((2, 2), width))
        return mj.anneal(problem, mj.Explicit([0.5, 1.0]), key=KEY).code

    codes = jax.jit(jax.vmap(run))(jnp.array([0.25, 1.5]))
    assert list(codes) == [Code.INFEASIBLE, Code.OK]


@pytest.mark.slow
def test_descent_costs_meet_capacities_too():
    def distance(a, b):
        return jnp.sqrt(jnp.sum((a - b) ** 2) + 1e-2)

    problem = build(k=2, stage_costs=distance, entry_capacity=mj.Equal(np.array([0.6, 0.4])))
    b = float(problem.beta_scale())
    solution = mj.anneal(problem, mj.Geometric(b, 20 * b, 1.5), key=KEY)
    assert int(solution.code) == Code.OK
    shares = problem.entry_shares(solution.params, solution.beta)
    np.testing.assert_allclose(shares, [0.6, 0.4], atol=1e-8)
    residual = jitted.residual(problem, solution.params, solution.beta)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(residual)) < 1e-7


def test_gauge_rows_change_nothing():
    entry, visits = mj.Equal(np.array(EQUAL)), mj.Equal(np.array([0.6, 0.6, 0.5]))
    links = mj.Equal(np.full((3, 3), 0.7 / 6))
    problem = build(entry_capacity=entry, facility_capacity=visits, link_capacity=links)
    y = np.array([[0.0, 0.0], [0.8, 0.3], [-0.5, 0.2]])
    start = problem.at(y)
    rows = problem.gauge(start)
    count = len(rows.primal)
    assert count == 4
    values = []
    for i in range(count):
        moved = jax.tree.map(lambda p, r, i=i: p + 0.7 * r[i], start, rows)
        values += [jitted.traffic(problem, moved, 1.3)]
    plain = jitted.traffic(problem, start, 1.3)
    for value in values:
        np.testing.assert_allclose(value.first, plain.first, atol=1e-12)
        np.testing.assert_allclose(value.links, plain.links, atol=1e-12)
