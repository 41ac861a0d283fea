"""Facilities on paths: where they split, what that gains, what one is worth; growth, repair."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import mepjax as mj
from mepjax import Code

from ...jitted import jitted

KEY = jax.random.key(0)
RNG = np.random.default_rng(4)
NODES, WEIGHTS = RNG.normal(size=(14, 2)) * [1.0, 0.6], RNG.uniform(0.5, 2.0, size=14)
END = np.array([3.0, 1.0])
Y = np.array([[0.4, 0.1], [1.6, 0.6], [1.2, -0.3], [-0.2, 0.5]])


def problem_of(m, **options):
    return mj.FacilityPath(NODES, END, m, weights=WEIGHTS, **{"n_stages": 3, **options})


spectrum_of = jitted.slot_spectrum


@eqx.filter_jit
def dense(problem, y, beta):
    hessian = jax.hessian(problem.free_energy)(y, beta)
    return hessian, problem.metric(y, beta).as_matrix().reshape(hessian.shape)


def apart(hessian, one, other):
    """The block of a symmetric form for two slots that move apart."""
    hessian = np.asarray(hessian)
    return hessian[one, :, one] - hessian[one, :, other]


def lowest_apart(problem, y, beta, one, other):
    """Lowest curvature and critical beta of two members of a group, from dense matrices."""
    hessian, metric = dense(problem, jnp.asarray(y), beta)
    values, vectors = scipy.linalg.eigh(apart(hessian, one, other), apart(metric, one, other))
    return beta / (1 - values[0]), vectors[:, 0]


OPTIONS = [
    {},
    {"n_stages": 1},
    {"self_loops": True, "direct": True},
    {"fixed": [[1.0, 1.0]], "max_hops": RNG.integers(1, 4, size=14)},
    {"stage_costs": ("euclidean", "sqeuclidean", "euclidean")},
]
each_kind = pytest.mark.parametrize("options", OPTIONS, ids=["plain", "one", "loops", "hops", "l2"])


@each_kind
def test_critical_betas_of_groups_are_those_of_the_dense_hessian(options):
    # Groups of three, of two, and one alone, off any solution.
    problem, y, beta = problem_of(6, **options), Y[np.array([0, 0, 1, 1, 0, 2])], 1.3
    spectrum = jax.device_get(spectrum_of(problem, y, beta))
    expected = [lowest_apart(problem, y, beta, *pair)[0] for pair in ((0, 1), (2, 3))]
    np.testing.assert_allclose(spectrum.critical_beta[[0, 1, 4]], expected[0], rtol=1e-9)
    np.testing.assert_allclose(spectrum.critical_beta[2:4], expected[1], rtol=1e-9)
    more = problem_of(7, **options)
    alone, _ = lowest_apart(more, np.concatenate([y, y[5:]]), beta, 5, 6)
    np.testing.assert_allclose(spectrum.critical_beta[5], alone, rtol=1e-9)
    np.testing.assert_allclose(spectrum.mass, jitted.usage(problem, y, beta)[:6], rtol=1e-12)


@pytest.mark.parametrize(("m", "options"), [(4, {}), (3, {"n_stages": 4, "self_loops": True})])
def test_first_critical_beta_is_the_closed_form(m, options):
    problem = problem_of(m, **options)
    # Equal to the last bit, as growth has them.
    start = problem.init(KEY)[np.zeros(m, int)]
    spectrum = spectrum_of(problem, start, 0.7)
    np.testing.assert_allclose(spectrum.critical_beta, problem.beta_scale(), rtol=1e-10)


def test_one_stage_with_a_free_exit_splits_as_clustering_does():
    problem = problem_of(4, n_stages=1, stage_costs=("sqeuclidean", None, None))
    clusters = mj.Clustering(NODES, 4, weights=WEIGHTS)
    # In pairs: what is alone is judged in F with a facility more, there with the policy held.
    y, beta = jnp.asarray(Y[:2].repeat(2, axis=0)), 1.7
    ours, theirs = spectrum_of(problem, y, beta), jitted.slot_spectrum(clusters, y, beta)
    np.testing.assert_allclose(ours.critical_beta, theirs.critical_beta, rtol=1e-9)
    np.testing.assert_allclose(ours.mass, theirs.mass, rtol=1e-10)
    # With a clear choice the two mean the same.
    y, beta = jnp.asarray(Y), 1e3
    ours, theirs = spectrum_of(problem, y, beta), jitted.slot_spectrum(clusters, y, beta)
    np.testing.assert_allclose(ours.removal, theirs.removal, rtol=1e-9)
    np.testing.assert_allclose(ours.critical_beta, theirs.critical_beta, rtol=1e-2)


def test_a_pair_gains_what_the_free_energy_of_one_facility_more_falls_by():
    problem, more, beta = problem_of(4), problem_of(5), 20.0
    spectrum = jax.device_get(spectrum_of(problem, Y, beta))
    for slot in range(4):
        others = np.delete(Y, slot, axis=0)
        tied = jitted.free_energy(
            more, np.concatenate([others, Y[slot][None], Y[slot][None]]), beta
        )
        places = np.stack([spectrum.first[slot], spectrum.second[slot]])
        split = np.concatenate([others, places])
        np.testing.assert_allclose(
            spectrum.gain[slot], tied - jitted.free_energy(more, split, beta)
        )
        use = jitted.usage(more, split, beta)[3:]
        np.testing.assert_allclose(spectrum.share[slot], use[0] / np.sum(use))
    # Nowhere would nothing be gained: a chain of two halves a leg.
    assert np.all(np.asarray(spectrum.gain) > 0)


def test_removal_is_what_the_hard_cost_rises_by():
    problem, fewer = problem_of(4), problem_of(3)
    removal = spectrum_of(problem, Y, 1e4).removal
    hard = jitted.harden(problem, Y).cost
    for slot in range(4):
        without = jitted.harden(fewer, np.delete(Y, slot, axis=0)).cost
        np.testing.assert_allclose(removal[slot], without - hard, rtol=1e-9, atol=1e-12)
    twins = np.concatenate([Y[:3], Y[:1]])
    np.testing.assert_allclose(spectrum_of(problem, twins, 1e4).removal[0], 0.0, atol=1e-12)


def test_the_only_facility_is_worth_everything_and_can_be_in_two():
    problem = problem_of(1)
    spectrum = spectrum_of(problem, Y[:1], 2.0)
    assert spectrum.removal[0] == np.inf
    critical, _ = lowest_apart(problem_of(2), np.repeat(Y[:1], 2, axis=0), 2.0, 0, 1)
    np.testing.assert_allclose(spectrum.critical_beta[0], critical, rtol=1e-9)


def test_a_facility_without_traffic_wants_nothing():
    far = np.concatenate([Y[:3], [[1e4, 1e4]]])
    spectrum = spectrum_of(problem_of(4), far, 10.0)
    assert spectrum.mass[3] == 0
    assert spectrum.critical_beta[3] == np.inf
    assert spectrum.gain[3] == 0
    assert all(np.all(np.isfinite(leaf)) for leaf in (spectrum.first, spectrum.second))


# Growth.


def towns(side=2, each=8, seed=0):
    """Nodes in towns far from their destination: a facility for each, and no use for chains."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[10.0 * np.arange(side)] * 2), axis=-1).reshape(-1, 2)
    return np.repeat(places, each, axis=0) + 0.3 * rng.normal(size=(side * side * each, 2))


def town_problem(x, **options):
    return mj.FacilityPath(x, np.array([5.0, 5.0]), 5, n_stages=2, **options)


@pytest.mark.slow
def test_facilities_grow_from_one_and_the_last_stage_is_plain():
    problem = town_problem(towns())
    count = lambda problem, params, beta: mj.n_distinct(problem, params)  # noqa: E731
    solution = mj.anneal(
        problem, key=KEY, detector=mj.Growth(), record=mj.Record(statistic=count)
    ).raise_if_failed()
    numbers = np.asarray(solution.trace.statistic[: int(solution.n_stages)])
    assert numbers[0] == 1
    assert numbers[-1] == 5
    assert int(solution.n_transitions) == 4
    np.testing.assert_allclose(solution.transitions[0], problem.beta_scale(), rtol=1e-6)
    assert np.max(np.abs(problem.residual(solution.params, solution.beta))) < 1e-8
    plain = mj.anneal(problem, key=KEY)
    ours, theirs = (float(problem.harden(s.params).cost) for s in (solution, plain))
    assert ours <= theirs * (1 + 1e-6)


@pytest.mark.slow
def test_vmap_equals_loop():
    @jax.jit
    def run(x, key):
        schedule = mj.CriticalJump(overshoot=1.1, min_factor=1.2, max_stages=48)
        options = {"detector": mj.Growth(sample=24), "repair": mj.Repair()}
        solution = mj.anneal(town_problem(x), schedule, key=key, **options)
        return solution.params, solution.code

    def places(params):
        # Slots are exchangeable, and which of two gets a place may hang on rounding.
        return sorted(map(tuple, np.asarray(params)))

    keys = jax.random.split(KEY, 2)
    xs = jnp.stack([jnp.asarray(towns(seed=1)), 2 * jnp.asarray(towns(seed=2)) + 1])
    alone = [run(x, key) for x, key in zip(xs, keys, strict=True)]
    assert all(code == Code.OK for _, code in alone)
    together, codes = jax.vmap(run)(xs, keys)
    for params, (own, _) in zip(together, alone, strict=True):
        np.testing.assert_allclose(places(params), places(own), atol=1e-6)
    assert np.all(np.asarray(codes) == int(Code.OK))


@pytest.mark.slow
def test_the_gradient_is_that_of_the_solution():
    x = jnp.asarray(towns(each=3))
    schedule = mj.Geometric(0.01, 0.6, 1.3)

    @jax.jit
    def places(x):
        options = {"detector": mj.Growth(), "repair": mj.Repair()}
        solution = mj.anneal(town_problem(x), schedule, key=KEY, **options)
        return jnp.sum(jnp.sin(solution.params)), solution.code

    direction = RNG.normal(size=x.shape)
    step = 1e-5
    difference = (places(x + step * direction)[0] - places(x - step * direction)[0]) / (2 * step)
    gradient, code = jax.grad(places, has_aux=True)(x)
    assert code == Code.OK
    np.testing.assert_allclose(jnp.sum(gradient * direction), difference, rtol=1e-6)


@pytest.mark.slow
def test_repair_moves_a_facility_to_where_it_is_worth_more():
    x = towns()
    problem = mj.FacilityPath(x, np.array([5.0, 5.0]), 4, n_stages=1)
    middles = (x.reshape(4, 8, 2).mean(axis=1) + 5.0) / 2
    # Two for one town, none for another.
    stuck = np.concatenate([middles[:3], middles[:1] + 0.01])
    schedule, quiet = mj.Explicit([50.0]), mj.NoDetector(noise=0.0)
    options = {"key": KEY, "init": stuck, "detector": quiet}
    mended = mj.anneal(problem, schedule, **options, repair=mj.Repair())
    best = problem.harden(middles).cost
    assert problem.harden(mj.anneal(problem, schedule, **options).params).cost > 1.2 * best
    np.testing.assert_allclose(problem.harden(mended.params).cost, best, rtol=1e-6)


def test_random_swaps_move_facilities_too():
    x = towns()
    problem = mj.FacilityPath(x, np.array([5.0, 5.0]), 4, n_stages=1)
    middles = (x.reshape(4, 8, 2).mean(axis=1) + 5.0) / 2
    # All for one town.
    stuck = middles[0] + 0.01 * np.arange(4)[:, None]
    schedule, quiet = mj.Explicit([50.0]), mj.NoDetector(noise=0.0)
    # The first move that is refused is the last of its kind.
    repair = mj.Repair(max_refusals=1, max_moves=1, swaps=40)
    mended = mj.anneal(problem, schedule, key=KEY, init=stuck, detector=quiet, repair=repair)
    best = problem.harden(middles).cost
    np.testing.assert_allclose(problem.harden(mended.params).cost, best, rtol=1e-6)


# What is sampled, and what is refused.


def test_a_sample_takes_what_belongs_to_its_nodes_in_proportion_to_weight():
    hops = np.arange(14) % 3 + 1
    weights = np.where(np.arange(14) < 2, 3.0, np.arange(14) % 2)
    nodes = mj.paths.Covariance(NODES, np.eye(2) * (1 + np.arange(14))[:, None, None])
    links = mj.paths.Links(direct=np.arange(14)[:, None] % 2 == 0)
    options = {"weights": weights, "n_stages": 3, "max_hops": hops, "links": links}
    problem = mj.FacilityPath(nodes, END, 2, direct=True, **options)
    small = problem.subsample(KEY, 12)
    rows = np.array([np.flatnonzero(np.all(NODES == node, axis=1))[0] for node in small.nodes])
    # Strips of weight one: three, three, and one for every other node with any weight.
    np.testing.assert_array_equal(rows, [0] * 3 + [1] * 3 + [3, 5, 7, 9, 11, 13])
    np.testing.assert_array_equal(small.weights, np.ones(12))
    np.testing.assert_array_equal(small.max_hops, hops[rows])
    np.testing.assert_array_equal(small.links.direct, rows[:, None] % 2 == 0)
    assert small.node_spread is not None and problem.node_spread is not None
    np.testing.assert_array_equal(small.node_spread.variance, problem.node_spread.variance[rows])
    np.testing.assert_allclose(small.free_energy(Y[:2], 1.0), problem.free_energy(Y[:2], 1.0))
    assert problem.subsample(KEY, 14) is problem


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"entry_capacity": np.full(4, 0.5)}, "capacities"),
        ({"links": np.ones((4, 4), bool)}, "masks"),
        ({"stage_costs": "euclidean"}, "kink"),
    ],
)
def test_where_there_is_no_spectrum_the_reason_is_named(options, reason):
    problem = problem_of(4, **options)
    assert not problem.has_slot_spectrum
    with pytest.raises(NotImplementedError, match=rf"FacilityPath.*slot_spectrum.*{reason}"):
        problem.slot_spectrum(problem.at(Y), 1.0)
