"""Facility location with path optimisation against the enumeration of every walk."""

import functools
import itertools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax._core.paths import without_cycles

from ...jitted import jitted
from ...oracles import paths_numpy as oracle

TOY_NODES = np.array([[0.0, 0.0], [2.0, 0.0]])
TOY_END = np.array([1.0, 2.0])
TOY_PLACES: Any = np.array([[0.5, 0.5], [1.5, 1.0]])


# The printed numbers of a toy with two nodes and two facilities.


@pytest.mark.parametrize(
    ("options", "energy"),
    [
        ({"direct": True, "self_loops": True}, 1.669643866038),
        ({"self_loops": True}, 1.706127094099),
        ({}, 2.236367922668),
        ({"direct": True}, 2.175161437977),
        ({"self_loops": True, "max_hops": np.array([1, 2])}, 2.226715578533),
    ],
)
def test_toy_free_energies(options, energy):
    problem = mj.FacilityPath(TOY_NODES, TOY_END, 2, **options)
    np.testing.assert_allclose(jitted.free_energy(problem, TOY_PLACES, 1.0), energy, atol=1e-11)


def test_toy_gradient_and_rise_to_the_hard_cost():
    problem = mj.FacilityPath(TOY_NODES, TOY_END, 2)
    expected = [[-0.63051932, -0.66007931], [1.02046481, -0.14494795]]
    np.testing.assert_allclose(jitted.residual(problem, TOY_PLACES, 1.0), expected, atol=1e-8)
    energies = [
        float(jitted.free_energy(problem, TOY_PLACES, b)) for b in (1.0, 10.0, 100.0, 1000.0)
    ]
    np.testing.assert_allclose(energies, [2.236368, 2.715343, 2.746534, 2.749653], atol=1e-6)
    np.testing.assert_allclose(jitted.harden(problem, TOY_PLACES).cost, 2.75, rtol=1e-14)


# Brute force. (nodes, placed, fixed, destinations, stages, self loops, direct, masks, hop limits)


class Case(NamedTuple):
    placed: int
    fixed: int
    ends: int
    stages: int
    self_loops: bool
    direct: bool
    masked: bool
    hops: bool


CASES = [
    Case(4, 0, 1, 4, False, False, False, False),
    Case(3, 0, 2, 4, True, True, False, False),
    Case(2, 2, 2, 3, False, False, True, True),
    Case(4, 0, 2, 4, False, True, True, True),
    Case(3, 1, 1, 4, True, False, True, True),
    Case(1, 0, 1, 3, False, False, False, False),
    Case(2, 1, 2, 2, False, True, False, True),
    Case(3, 0, 1, 1, False, False, True, False),
]
every_case = pytest.mark.parametrize("case", CASES, ids=[str(i) for i in range(len(CASES))])
N, D = 4, 2


class Setting(NamedTuple):
    problem: Any
    params: np.ndarray
    walks: oracle.Walks
    x: np.ndarray
    rho: np.ndarray
    y: np.ndarray
    z: np.ndarray


@functools.cache
def setting(case: Case) -> Setting:
    rng = np.random.default_rng(CASES.index(case))
    m = case.placed + case.fixed
    x, y, z = (rng.normal(size=(size, D)) + 5.0 for size in (N, m, case.ends))
    weights = rng.uniform(0.5, 2.0, N)
    masks, links, limits = oracle.EVERY_LEG, None, None
    if case.masked:
        entry, between, end = (
            rng.uniform(size=shape) < 0.6 for shape in ((N, m), (m, m), (m, case.ends))
        )
        masks = oracle.Masks(
            entry,
            between,
            end,
            rng.uniform(size=(N, case.ends)) < 0.5 if case.direct else True,
        )
        # Keep a way out for every node, in one hop.
        masks.entry[:, 0] = True
        masks.exit[0, 0] = True
        links = mj.paths.Links(
            entry=masks.entry,
            between=masks.link,
            exit=masks.exit,
            direct=masks.direct if case.direct else None,
        )
    if case.hops:
        limits = rng.integers(1, case.stages + 1, N)
        if case.direct and not case.masked:
            limits[0] = 0
    walks = oracle.walks(
        (N, m, case.ends, case.stages),
        self_loops=case.self_loops,
        direct=case.direct,
        masks=masks,
        max_hops=np.inf if limits is None else limits,
    )
    with jax.enable_x64(True):
        problem = mj.FacilityPath(
            x,
            z,
            case.placed,
            weights=weights,
            fixed=y[case.placed :] if case.fixed else None,
            n_stages=case.stages,
            links=links,
            max_hops=limits,
            direct=case.direct,
            self_loops=case.self_loops,
        )
    return Setting(problem, y[: case.placed], walks, x, weights / weights.sum(), y, z)


@eqx.filter_jit
def _evaluate(problem, params, beta):
    return {
        "energy": problem.free_energy(params, beta),
        "terms": problem.terms(params, beta),
        "gradient": problem.residual(params, beta),
        "update": problem.update(params, beta),
        "policies": problem.stage_policies(params, beta),
        "usage": problem.usage(params, beta),
        "hard": problem.harden(params),
        "metric": problem.metric(params, beta).mv(params),
        "solved": problem.precondition(params, beta, params),
    }


@eqx.filter_jit
def _metric(problem, params, beta, vector):
    return problem.metric(params, beta).mv(vector)


@every_case
@pytest.mark.parametrize("beta", [pytest.param(0.2, marks=pytest.mark.slow), 3.0])
def test_everything_equals_the_sum_over_all_walks(case, beta):
    problem, params, walks, x, rho, y, z = setting(case)
    found = _evaluate(problem, jnp.asarray(params), jnp.asarray(beta))
    costs = oracle.priced(walks, x, y, z)
    p = oracle.gibbs(costs, beta)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)
    close(found["energy"], oracle.free_energy(costs, rho, beta))
    close(found["terms"].distortion, oracle.distortion(p, costs, rho))
    close(found["terms"].entropy, oracle.entropy(p, rho))
    close(found["usage"], oracle.facility_usage(walks, p, rho))
    close(found["gradient"], oracle.gradient(walks, p, rho, x, y, z)[: case.placed])
    fixed = np.arange(len(y)) >= case.placed
    step = oracle.location_step(walks, p, rho, x, y, z, fixed)
    close(found["update"], step[: case.placed])
    first, _ = oracle.stage_policies(walks, costs, beta)
    close(np.exp(found["policies"].first), first if case.direct else first[:, : len(y)])
    # grad F = metric (y - y+), as far as there is traffic.
    live = np.asarray(found["usage"])[: case.placed] > 0
    moved = _metric(problem, params, jnp.asarray(beta), params - step[: case.placed])
    close(np.asarray(moved)[live], np.asarray(found["gradient"])[live])
    solved = np.asarray(_metric(problem, params, jnp.asarray(beta), found["solved"]))
    close(solved, params)


@every_case
def test_hard_routes_are_the_cheapest_walks(case):
    problem, params, walks, x, rho, y, z = setting(case)
    hard = _evaluate(problem, jnp.asarray(params), jnp.asarray(1.0))["hard"]
    costs = oracle.priced(walks, x, y, z)
    best, each, total = oracle.hard_optimum(walks, costs, rho)
    np.testing.assert_allclose(hard.node_costs, each, rtol=1e-12)
    np.testing.assert_allclose(hard.cost, total, rtol=1e-12)
    for i, (route, end) in enumerate(best):
        assert tuple(int(a) for a in hard.routes[i] if a >= 0) == route
        assert int(hard.destinations[i]) == end


@every_case
def test_start_is_the_location_step_at_equal_weight_on_all_walks(case):
    problem, _, walks, x, rho, y, z = setting(case)
    start = np.asarray(eqx.filter_jit(lambda q: q.init(jax.random.key(0)))(problem))
    p = oracle.gibbs(np.where(walks.allowed, 0.0, np.inf), 1.0)
    used = oracle.facility_usage(walks, p, rho)[: case.placed] > 0
    fixed = np.arange(len(y)) >= case.placed
    everywhere = np.concatenate([start, y[case.placed :]])
    expected = oracle.location_step(walks, p, rho, x, everywhere, z, fixed)[: case.placed]
    np.testing.assert_allclose(start[used], expected[used], rtol=1e-10)
    np.testing.assert_allclose(start[~used], np.tile((rho @ x + z.mean(0)) / 2, (sum(~used), 1)))


# The first transition.


@pytest.mark.parametrize(
    ("m", "k", "self_loops"),
    [(2, 1, False), (3, 3, False), (2, 4, True)]
    + [
        pytest.param(*case, marks=pytest.mark.slow)
        for case in ((3, 1, True), (2, 2, False), (4, 2, True))
    ],
)
def test_first_transition_is_the_closed_form(m, k, self_loops):
    x, weights, z = cloud()
    problem = mj.FacilityPath(x, z[0], m, weights=weights, n_stages=k, self_loops=self_loops)
    expected = oracle.first_critical_beta(x, weights / weights.sum(), z[:1], m, k, self_loops)
    np.testing.assert_allclose(problem.beta_scale(), expected, rtol=1e-10)
    start = problem.init(jax.random.key(0))
    assert abs(mj.curvature(problem, start, expected)) < 1e-9
    assert mj.curvature(problem, start, 0.5 * expected) > 0.1


def test_one_stage_splits_where_clustering_of_the_middles_does():
    x, weights, z = cloud()
    rho = weights / weights.sum()
    covariance = np.cov(x.T, aweights=rho, bias=True)
    problem = mj.FacilityPath(x, z[0], 3, weights=weights, n_stages=1)
    expected = 1 / np.linalg.eigvalsh(covariance)[-1]
    np.testing.assert_allclose(problem.beta_scale(), expected, rtol=1e-10)


@pytest.mark.parametrize(("ends", "direct"), [(2, True), (1, True), (2, False)])
def test_first_transition_where_the_start_drifts(ends, direct):
    x, weights, z = cloud()
    z = z[:ends]
    problem = mj.FacilityPath(x, z, 3, weights=weights, n_stages=2, direct=direct)
    expected = oracle.first_critical_beta(
        x, weights / weights.sum(), z, 3, 2, self_loops=False, direct=direct
    )

    @jax.jit
    def lowest(beta):
        # The alternation keeps coincident facilities together, past the transition too.
        start = problem.init(jax.random.key(0))
        rest = jax.lax.fori_loop(0, 400, lambda _, y: jitted.update(problem, y, beta), start)
        return mj.curvature(problem, jnp.broadcast_to(rest.mean(axis=0), rest.shape), beta)

    below, at, above = (float(lowest(jnp.asarray(f * expected))) for f in (0.9, 1.0, 1.1))
    assert abs(at) < 1e-7
    assert below > 0.05
    assert above < -0.05


def cloud():
    rng = np.random.default_rng(8)
    x = rng.normal(size=(12, 2)) * [1.0, 0.6]
    return x, rng.uniform(0.5, 1.5, 12), np.array([[3.0, 1.0], [-2.0, 2.5]])


# Costs, cycles and what has no traffic.


def test_routes_lose_their_cycles():
    rng = np.random.default_rng(0)
    walks = np.full((200, 7), -1)
    for row in walks:
        length = rng.integers(0, 8)
        row[:length] = rng.integers(0, 4, length)
    expected = np.full_like(walks, -1)
    for row, out in zip(walks, expected, strict=True):
        kept: list[int] = []
        for a in row[row >= 0]:
            kept = kept[: kept.index(a)] if a in kept else kept
            kept.append(a)
        out[: len(kept)] = kept
    np.testing.assert_array_equal(jax.jit(without_cycles)(jnp.asarray(walks)), expected)
    assert (expected != walks).any()


def test_a_facility_without_traffic_stays_and_disturbs_nothing():
    far: Any = np.array([[0.5, 0.5], [1.5, 1.0], [1e3, 1e3]])
    three = mj.FacilityPath(TOY_NODES, TOY_END, 3, n_stages=2)
    two = mj.FacilityPath(TOY_NODES, TOY_END, 2)
    beta = 50.0
    np.testing.assert_array_equal(jitted.update(three, far, beta)[2], far[2])
    np.testing.assert_allclose(
        jitted.update(three, far, beta)[:2], jitted.update(two, far[:2], beta), rtol=1e-12
    )
    np.testing.assert_array_equal(jitted.residual(three, far, beta)[2], [0.0, 0.0])


class Toll(eqx.Module):
    """A user's cost that is not symmetric: eastward is dearer."""

    rate: jax.Array

    def __call__(self, start, end):
        east = jnp.maximum(end[0] - start[0], 0.0)
        return jnp.sum((end - start) ** 2) + self.rate * east**2


@pytest.mark.slow
def test_any_function_of_two_points_is_a_cost():
    x, weights, z = cloud()
    problem = mj.FacilityPath(x, z, 3, weights=weights, stage_costs=Toll(jnp.asarray(0.2)))
    toll = lambda a, b: np.sum((b - a) ** 2) + 0.2 * max(b[0] - a[0], 0.0) ** 2  # noqa: E731
    y: Any = np.random.default_rng(1).normal(size=(3, 2))
    table = [
        np.array([[toll(a, b) for b in ends] for a in starts])
        for starts, ends in ((x, y), (y, y), (y, z), (x, z))
    ]
    walks = oracle.walks((12, 3, 2, 3))
    costs = oracle.walk_costs(walks, oracle.Costs(*table))
    rho = weights / weights.sum()
    expected = oracle.free_energy(costs, rho, 1.5)
    np.testing.assert_allclose(jitted.free_energy(problem, y, 1.5), expected, rtol=1e-12)
    solution = mj.anneal(problem, mj.Geometric(0.3, 30.0, 1.4), key=jax.random.key(0))
    solution.raise_if_failed()
    assert np.abs(jitted.residual(problem, solution.params, solution.beta)).max() < 1e-7
    assert jitted.harden(problem, solution.params).cost < jitted.harden(problem, y).cost


@pytest.mark.slow
def test_great_circle_cost_places_hubs_on_the_sphere():
    def squared_great_circle(a, b):
        a, b = jnp.deg2rad(a), jnp.deg2rad(b)
        h = jnp.sin((b[1] - a[1]) / 2) ** 2
        h = h + jnp.cos(a[1]) * jnp.cos(b[1]) * jnp.sin((b[0] - a[0]) / 2) ** 2
        return 4 * jnp.arcsin(jnp.sqrt(h + 1e-12)) ** 2

    madrid, helsinki = np.array([[-3.7, 40.4]]), np.array([24.9, 60.2])
    problem = mj.FacilityPath(madrid, helsinki, 1, stage_costs=squared_great_circle)
    solution = mj.anneal(problem, mj.Geometric(1.0, 300.0, 4.0), key=jax.random.key(0))
    hub = solution.raise_if_failed().params[0]
    # Half-way on the arc: both legs are half as long as the way without a stop.
    whole = squared_great_circle(jnp.asarray(madrid[0]), jnp.asarray(helsinki))
    for end in (madrid[0], helsinki):
        leg = squared_great_circle(hub, jnp.asarray(end))
        np.testing.assert_allclose(leg, whole / 4, rtol=1e-6)


def test_one_stage_with_a_free_exit_is_clustering():
    x, weights, z = cloud()
    problem = mj.FacilityPath(
        x, z, 3, weights=weights, n_stages=1, stage_costs=("sqeuclidean", None, None)
    )
    clusters = mj.Clustering(x, 3, weights=weights)
    y: Any = np.random.default_rng(2).normal(size=(3, 2))
    beta = 0.8
    # Two free destinations count every path twice.
    gap = clusters.free_energy(y, beta) - jitted.free_energy(problem, y, beta)
    np.testing.assert_allclose(gap, np.log(2) / beta, rtol=1e-12)
    np.testing.assert_allclose(
        jitted.update(problem, y, beta), clusters.update(y, beta), rtol=1e-12
    )
    np.testing.assert_allclose(
        jitted.residual(problem, y, beta), clusters.residual(y, beta), rtol=1e-11
    )
    np.testing.assert_allclose(problem.beta_scale(), clusters.beta_scale(), rtol=1e-12)
    assert jitted.harden(problem, y).cost == pytest.approx(
        float(clusters.harden(y).cost), rel=1e-12
    )


def test_a_facility_behind_free_legs_alone_stays():
    problem = mj.FacilityPath(
        TOY_NODES, TOY_END, 2, stage_costs=("sqeuclidean", None, None),
        links=mj.paths.Links(entry=np.array([[True, False]] * 2)),
    )  # fmt: skip
    new = jitted.update(problem, TOY_PLACES, 1.0)
    np.testing.assert_array_equal(new[1], TOY_PLACES[1])
    np.testing.assert_allclose(new[0], [1.0, 0.0], rtol=1e-12)
    assert np.isfinite(mj.curvature(problem, TOY_PLACES, 1.0))


@pytest.mark.slow
def test_deciding_both_at_once_beats_locating_first():
    x, weights, z = cloud()
    problem = mj.FacilityPath(x, z[0], 3, weights=weights)
    schedule = mj.Geometric(0.2, 100.0, 1.3)
    baseline = mj.locate_then_route(problem, key=jax.random.key(0), schedule=schedule)
    clusters = mj.Clustering(x, 3, weights=weights)
    # The places are those of clustering the nodes.
    nearest = clusters.update(baseline.locations, 100.0)
    np.testing.assert_allclose(nearest, baseline.locations, atol=1e-6)
    np.testing.assert_allclose(
        baseline.hard.cost, jitted.harden(problem, baseline.locations).cost, rtol=1e-12
    )
    both = mj.anneal(problem, schedule, key=jax.random.key(0)).raise_if_failed()
    assert jitted.harden(problem, both.params).cost < 0.8 * baseline.hard.cost


def test_destinations_are_drawn_to_by_vmap():
    ends = jnp.asarray([[1.0, 2.0], [4.0, -1.0]])
    one = lambda z: mj.FacilityPath(TOY_NODES, z, 2).free_energy(TOY_PLACES, 1.0)  # noqa: E731
    np.testing.assert_allclose(jax.jit(jax.vmap(one))(ends), [one(z) for z in ends], rtol=1e-12)


# Bad input.

GOOD: dict[str, Any] = {"nodes": TOY_NODES, "destinations": TOY_END, "n_facilities": 2}
BAD = [
    ({"n_facilities": 0}, ValueError, "`n_facilities` must be at least 1; got 0"),
    ({"n_facilities": 1.5}, TypeError, "`n_facilities` must be an int"),
    ({"n_facilities": True}, TypeError, "`n_facilities` must be an int"),
    ({"nodes": np.zeros(3)}, ValueError, "`nodes` must be 2-D"),
    ({"nodes": np.zeros((0, 2))}, ValueError, "`nodes` must be 2-D"),
    ({"nodes": TOY_NODES * np.nan}, ValueError, "`nodes` must be finite; got 4 NaN"),
    ({"destinations": np.zeros(3)}, ValueError, r"`destinations` must have shape \(number, 2\)"),
    ({"destinations": np.zeros((0, 2))}, ValueError, "`destinations` must have shape"),
    ({"destinations": [np.inf, 0]}, ValueError, "`destinations` must be finite"),
    ({"destinations": "here"}, TypeError, "must be an array of"),
    ({"weights": np.ones(3)}, ValueError, r"`weights` must have shape \(2,\)"),
    ({"weights": [-1.0, 2.0]}, ValueError, "`weights` must be >= 0; got -1"),
    ({"weights": [0, 0]}, ValueError, "`weights` must not all be zero"),
    ({"fixed": [[0.0, 0.0, 0.0]]}, ValueError, r"`fixed` must have shape \(number, 2\)"),
    ({"fixed": [0.0, 0.0]}, ValueError, "`fixed` must have shape"),
    ({"fixed": [[0.0, np.nan]]}, ValueError, "`fixed` must be finite"),
    ({"n_stages": 0}, ValueError, "`n_stages` must be at least 1"),
    ({"max_hops": 0}, ValueError, r"`max_hops` must be in \[1, 2\]; got 0"),
    ({"max_hops": [1, 5]}, ValueError, r"`max_hops` must be in \[1, 2\]; got 5"),
    ({"max_hops": 1.0}, ValueError, "`max_hops` must be an int or 2 of them"),
    ({"max_hops": [1, 1, 1]}, ValueError, "`max_hops` must be an int or 2 of them"),
    ({"stage_costs": "manhatan"}, TypeError, "`stage_costs` must be the name of a cost"),
    ({"stage_costs": "manhattan"}, ValueError, "`stage_costs` Manhattan has no second derivatives"),
    ({"stage_costs": Toll}, TypeError, "`stage_costs` must be"),
    ({"stage_costs": ("sqeuclidean", None)}, ValueError, "must be one cost or three"),
    ({"stage_costs": (None, "sqeuclidean", None)}, ValueError, "both entry and exit free"),
    ({"stage_costs": None}, TypeError, "`stage_costs` must be"),
    ({"direct": 1}, TypeError, "`direct` must be True or False; got int 1"),
    ({"self_loops": None}, TypeError, "`self_loops` must be True or False"),
    ({"links": np.ones((3, 3), bool)}, ValueError, r"`links.between` must have shape \(2, 2\)"),
    ({"links": np.ones((2, 2))}, TypeError, "`between` must be boolean"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input_is_named(change, error, message):
    with pytest.raises(error, match=message):
        mj.FacilityPath(**{**GOOD, **change})


def test_a_cost_that_returns_no_scalar_is_named():
    problem = mj.FacilityPath(**GOOD, stage_costs=lambda a, b: b - a)
    with pytest.raises(ValueError, match="`stage_costs` must return a scalar"):
        jitted.free_energy(problem, TOY_PLACES, 1.0)


@pytest.mark.parametrize(
    ("masks", "options", "node"),
    [
        ({"entry": [[True, True], [False, False]]}, {}, 1),
        ({"exit": [[False], [False]]}, {}, 0),
        ({"entry": [[True, False], [True, True]], "exit": [[False], [True]]}, {"max_hops": 1}, 0),
        (
            {"entry": [[True, True], [False, False]], "direct": [[True], [False]]},
            {"direct": True},
            1,
        ),
    ],
)
def test_a_node_that_cannot_reach_a_destination_is_named(masks, options, node):
    links = mj.paths.Links(**{name: np.array(mask) for name, mask in masks.items()})
    with pytest.raises(ValueError, match=f"node {node} cannot reach a destination"):
        mj.FacilityPath(**GOOD, links=links, **options)


@pytest.mark.slow
def test_traced_masks_that_cut_a_node_off_mark_their_lane():
    def run(entry):
        links = mj.paths.Links(entry=entry)
        problem = mj.FacilityPath(**GOOD, links=links)
        return mj.anneal(problem, mj.Explicit([0.5, 50.0]), key=jax.random.key(0))

    masks = np.ones((2, 2, 2), bool)
    masks[1, 1] = False
    solution = jax.jit(jax.vmap(run))(jnp.asarray(masks))
    assert list(solution.code) == [mj.Code.OK, mj.Code.INVALID_INPUT]
    with pytest.raises(ValueError, match="node 1 cannot reach a destination"):
        jax.tree.map(lambda leaf: leaf[1], solution).raise_if_failed()


def test_masks_and_their_meaning_belong_together():
    links = mj.paths.Links(direct=np.ones((2, 1), bool))
    with pytest.raises(ValueError, match="`links.direct` has a meaning only with `direct=True`"):
        mj.FacilityPath(**GOOD, links=links)


def test_masks_tell_slots_apart():
    between = np.array([[True, True], [False, True]])
    assert mj.FacilityPath(**GOOD).exchangeable
    assert not mj.FacilityPath(**GOOD, links=between).exchangeable
    places = itertools.permutations(TOY_PLACES)
    energies = [
        float(mj.FacilityPath(**GOOD, links=between).free_energy(jnp.stack(p), 1.0)) for p in places
    ]
    assert abs(energies[0] - energies[1]) > 1e-3


def test_locations_and_params_are_inverse():
    problem = mj.FacilityPath(**GOOD, fixed=[[0.0, 1.0]])
    params = problem.at(TOY_PLACES)
    np.testing.assert_array_equal(problem.locations(params), TOY_PLACES)
    np.testing.assert_array_equal(problem.facilities(params)[2], [0.0, 1.0])
    with pytest.raises(ValueError, match=r"`locations` must have shape \(2, 2\)"):
        problem.at(np.zeros((3, 2)))
