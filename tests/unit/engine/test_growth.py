"""Growth by tied slots, and repair."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code
from mepjax.engine.branching.growth import Groups, _deal, merge_groups, split_groups

from ...registry.points import points

KEY = jax.random.key(0)
GROWTH = mj.Growth()


def grid(side=4, each=30, spread=0.05, seed=0):
    """Clusters on a square grid, in which random kicks of all centres at once end badly."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(side, dtype=float)] * 2), axis=-1).reshape(-1, 2)
    return np.repeat(places, each, axis=0) + spread * rng.normal(size=(side * side * each, 2))


def lloyd_from_truth(x, side=4, each=30):
    groups = x.reshape(side * side, each, 2)
    return float(np.mean(np.sum((groups - groups.mean(axis=1, keepdims=True)) ** 2, axis=2)))


@pytest.mark.parametrize("seed", range(3))
def test_every_cluster_of_a_grid_is_found(seed):
    x = grid(seed=seed)
    problem = mj.Clustering(x, 16)
    solution = mj.anneal(
        problem, key=jax.random.key(seed), detector=GROWTH, repair=mj.Repair()
    ).raise_if_failed()
    np.testing.assert_allclose(problem.harden(solution.params).cost, lloyd_from_truth(x), rtol=1e-6)


def test_the_last_stage_is_solved_on_all_data_without_ties():
    x = grid()
    problem = mj.Clustering(x, 16)
    solution = mj.anneal(
        problem, key=KEY, detector=mj.Growth(sample=100), repair=mj.Repair()
    ).raise_if_failed()
    # One for every number of groups, however often pairs that fall back are split again.
    assert int(solution.n_transitions) == 15
    assert np.all(np.isfinite(np.asarray(solution.transitions)[:15]))
    residual = problem.residual(solution.params, solution.beta)
    assert np.max(np.abs(residual)) < 1e-9
    assert solution.sampling_gap > 0
    last = int(solution.n_stages) - 1
    np.testing.assert_allclose(solution.trace.free_energy[last], solution.free_energy, rtol=1e-9)
    assert int(mj.n_distinct(problem, solution.params, rtol=1e-3)) == 16
    # Compared with all data in every stage.
    whole = mj.anneal(problem, key=KEY, detector=mj.Growth(sample=None), repair=mj.Repair())
    np.testing.assert_allclose(solution.free_energy, whole.free_energy, rtol=1e-6)


def test_the_number_of_groups_rises_along_beta():
    problem = mj.Clustering(grid(side=2), 4)
    count = lambda problem, params, beta: mj.n_distinct(problem, params)  # noqa: E731
    solution = mj.anneal(problem, key=KEY, detector=GROWTH, record=mj.Record(statistic=count))
    numbers = np.asarray(solution.trace.statistic[: int(solution.n_stages)])
    assert numbers[0] == 1
    assert numbers[-1] == 4
    np.testing.assert_allclose(solution.transitions[0], problem.beta_scale(), rtol=1e-6)
    # Once no slot is tied, no tied slots can separate.
    assert np.all(np.isnan(np.asarray(solution.trace.curvature)[: len(numbers) - 1][-3:]))
    assert solution.trace.curvature[len(numbers) - 1] > 0.9


@pytest.mark.slow
def test_eager_equals_jit_and_vmap_equals_loop():
    x = jnp.asarray(grid(side=2, each=10))

    def run(x, key):
        problem = mj.Clustering(x, 4)
        schedule = mj.CriticalJump(overshoot=1.1, min_factor=1.2, max_stages=64)
        sol = mj.anneal(problem, schedule, key=key, detector=GROWTH, repair=mj.Repair())
        return sol.params, sol.code

    keys = jax.random.split(KEY, 2)
    xs = jnp.stack([x, 2 * x + 1])
    alone = [run(x, key) for x, key in zip(xs, keys, strict=True)]
    for (params, code), (jitted, _) in zip(
        alone, [jax.jit(run)(*pair) for pair in zip(xs, keys, strict=True)], strict=True
    ):
        np.testing.assert_allclose(params, jitted, atol=1e-10)
        assert code == Code.OK
    together, codes = jax.vmap(run)(xs, keys)
    np.testing.assert_allclose(together, jnp.stack([params for params, _ in alone]), atol=1e-7)
    assert np.all(np.asarray(codes) == int(Code.OK))


def test_the_gradient_is_that_of_the_solution():
    x = jnp.asarray(grid(side=2, each=6, spread=0.3))

    def centre(x):
        problem = mj.Clustering(x, 4)
        schedule = mj.Geometric(0.5, 8.0, 1.3)
        solution = mj.anneal(problem, schedule, key=KEY, detector=GROWTH, repair=mj.Repair())
        return jnp.sum(jnp.sin(3 * solution.params))

    direction = np.random.default_rng(1).normal(size=x.shape)
    step = 1e-5
    difference = (centre(x + step * direction) - centre(x - step * direction)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(jax.grad(centre)(x) * direction), difference, rtol=1e-6)


@pytest.mark.slow
def test_more_clusters_than_points_leaves_twins():
    x = np.array([[0.0], [1.0], [5.0]])
    problem = mj.Clustering(x, 5)
    solution = mj.anneal(problem, key=KEY, detector=GROWTH, repair=mj.Repair())
    assert int(solution.code) in (Code.OK, Code.NEAR_CRITICAL)
    assert float(problem.harden(solution.params).cost) < 1e-12
    assert int(mj.n_distinct(problem, solution.params)) == 3


@pytest.mark.parametrize("x", [np.ones((4, 2)), np.array([[1.0, 2.0]])])
def test_constant_data_stay_together(x):
    solution = mj.anneal(mj.Clustering(x, 3), key=KEY, detector=GROWTH, repair=mj.Repair())
    solution.raise_if_failed()
    np.testing.assert_allclose(solution.params, np.broadcast_to(x[0], (3, 2)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"autonomy": mj.autonomy.Matrix(0.8 * np.eye(3) + 0.2 / 3)}, {"cost": "euclidean"}],
    ids=["matrix", "euclidean"],
)
def test_where_slots_have_no_spectrum_the_detector_does_all(options):
    x, weights = points()
    problem = mj.Clustering(x, 3, weights=weights, **options)
    schedule = mj.Geometric(0.2, 4.0, 1.5)
    grown = mj.anneal(problem, schedule, key=KEY, detector=GROWTH, repair=mj.Repair())
    plain = mj.anneal(problem, schedule, key=KEY)
    np.testing.assert_allclose(grown.free_energy, plain.free_energy, rtol=1e-8)


@pytest.mark.slow
def test_uniform_autonomy_is_no_worse_than_without_growth():
    problem = mj.Clustering(grid(side=3, each=10), 9, autonomy=mj.autonomy.Uniform(0.1))
    grown = mj.anneal(problem, key=KEY, detector=GROWTH, repair=mj.Repair()).raise_if_failed()
    schedule = mj.Geometric(0.2, 1e3, 1.1)
    plain = mj.anneal(problem, schedule, key=KEY).raise_if_failed()
    best = float(problem.harden(plain.params).cost)
    assert problem.harden(grown.params).cost <= best * (1 + 1e-6)


def test_all_centres_are_distinct_although_the_sample_missed_some_points():
    x = np.concatenate([np.zeros(3000), np.arange(1.0, 6.0)])[:, None]
    problem = mj.Clustering(x, 6)
    for repair in (None, mj.Repair()):
        sol = mj.anneal(problem, key=KEY, detector=mj.Growth(sample=100), repair=repair)
        np.testing.assert_allclose(np.sort(sol.params[:, 0]), np.arange(6.0), atol=1e-6)


# The parts.


def groups_of(problem, params, beta, leader):
    spectrum = problem.slot_spectrum(params, beta)
    most, seen = jnp.asarray(len(set(leader))), jnp.asarray(True)
    return Groups(jnp.asarray(leader, jnp.int32), spectrum, most, seen)


def test_a_given_start_keeps_its_groups():
    x = grid()
    problem, schedule = mj.Clustering(x, 16), mj.Explicit([1e3])
    start = problem.scatter(KEY)
    quiet = mj.NoDetector(noise=0.0)
    options = {"key": KEY, "init": start}
    plain = mj.anneal(problem, schedule, detector=quiet, **options)
    for sample in (None, 200):
        grown = mj.anneal(
            problem, schedule, detector=mj.Growth(sample=sample, detector=quiet), **options
        )
        if sample is None:
            np.testing.assert_allclose(grown.params, plain.params, rtol=1e-8)
        assert int(mj.n_distinct(problem, grown.params, rtol=1e-3)) == 16
        assert np.max(np.abs(problem.residual(grown.params, grown.beta))) < 1e-8
    # Twins of the start are one group, which is split as it becomes unstable.
    twins = start[jnp.arange(16) // 2]
    state = mj.begin(problem, schedule, key=KEY, init=twins, detector=GROWTH)
    assert int(mj.n_distinct(problem, state.params, rtol=1e-6)) == 8
    final = mj.finish(problem, state)
    assert int(mj.n_distinct(problem, final.params, rtol=1e-3)) == 16


def test_random_starts_on_a_sample_are_repaired_there():
    x = grid(each=60)
    problem = mj.Clustering(x, 16)
    solution = mj.anneal(
        problem,
        mj.Explicit([1e3]),
        key=KEY,
        init=lambda problem, key: problem.scatter(key),
        detector=mj.Growth(sample=300),
        repair=mj.Repair(),
    ).raise_if_failed()
    assert solution.sampling_gap > 0
    best = lloyd_from_truth(x, each=60)
    np.testing.assert_allclose(problem.harden(solution.params).cost, best, rtol=1e-6)


def test_a_sample_of_all_data_is_no_sample():
    problem = mj.Clustering(grid(), 16)
    options = {"key": KEY, "repair": mj.Repair()}
    drawn = mj.anneal(problem, detector=mj.Growth(sample=len(problem.x)), **options)
    whole = mj.anneal(problem, detector=mj.Growth(sample=None), **options)
    assert drawn.sampling_gap == 0
    np.testing.assert_array_equal(drawn.params, whole.params)


def test_slots_left_over_are_dealt_by_mass():
    exists = jnp.array([True, True, True, False, False, False, False])
    sizes = _deal(jnp.array([0.5, 0.3, 0.2, 0, 0, 0, 0]), exists)
    assert sizes.tolist() == [3, 2, 2, 0, 0, 0, 0]
    assert int(jnp.sum(sizes)) == 7


def test_the_most_profitable_split_comes_first_when_slots_run_out():
    x = np.array([[-1.0], [1.0], [10.0], [14.0]])
    problem = mj.Clustering(x, 3)
    params = jnp.array([[0.0], [12.0], [12.0]])
    groups = groups_of(problem, params, 5.0, [0, 1, 1])
    params, leader, split = split_groups(problem, params, groups, jnp.asarray(5.0))
    assert split.tolist() == [False, True, False]
    np.testing.assert_allclose(np.sort(params[:, 0]), [0, 10, 14], atol=1e-9)
    assert leader.tolist() == [0, 1, 2]


def test_chains_of_near_groups_become_one():
    problem = mj.Clustering(np.array([[-1.0], [1.0]]), 4)
    params = jnp.array([[0.0], [0.5], [0.05], [0.1]])
    alone = jnp.arange(4, dtype=jnp.int32)
    merged, leader = merge_groups(problem, params, alone, jnp.asarray(0.06))
    assert leader.tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(merged[:, 0], [0.0, 0.5, 0.0, 0.0])


@pytest.mark.parametrize(
    "bad",
    [{"sample": 0}, {"separation": 0.0}, {"rtol": -1.0}, {"max_steps": 0}],
)
def test_numbers_of_growth_are_checked(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        mj.Growth(**bad)


def test_kinds_are_checked():
    with pytest.raises(TypeError, match="`sample` must be an int or None; got float 1.5"):
        mj.Growth(sample=1.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="`steps` must be an int; got float 2.5"):
        mj.Repair(steps=2.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="detector"):
        mj.Growth(detector=None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="`repair`"):
        mj.anneal(mj.Clustering(np.eye(2), 2), key=KEY, repair=mj.Repair)  # pyright: ignore


# Repair.


@pytest.mark.parametrize("bad", [{"max_refusals": 0}, {"steps": 0}, {"rtol": -1.0}, {"swaps": -1}])
def test_numbers_of_repair_are_checked(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        mj.Repair(**bad)


def test_random_starts_with_repair_need_no_annealing():
    x = grid(seed=3)
    problem = mj.Clustering(x, 16)
    start = jnp.asarray(x[np.random.default_rng(0).choice(len(x), 16, replace=False)])
    schedule, quiet = mj.Explicit([1e4]), mj.NoDetector(noise=0.0)
    plain = mj.anneal(problem, schedule, key=KEY, init=start, detector=quiet)
    mended = mj.anneal(problem, schedule, key=KEY, init=start, detector=quiet, repair=mj.Repair())
    assert problem.harden(plain.params).cost > 2 * lloyd_from_truth(x)
    np.testing.assert_allclose(problem.harden(mended.params).cost, lloyd_from_truth(x), rtol=1e-6)


@pytest.mark.parametrize("swaps", [0, 5])
@pytest.mark.parametrize("seed", range(4))
def test_repair_never_raises_the_free_energy(seed, swaps):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 3))
    problem, start = mj.Clustering(x, 6), jnp.asarray(rng.normal(size=(6, 3)))
    options = {"key": KEY, "init": start, "detector": mj.NoDetector(noise=0.0)}
    schedule = mj.Explicit([30.0])
    plain = mj.anneal(problem, schedule, **options)
    mended = mj.anneal(problem, schedule, **options, repair=mj.Repair(swaps=swaps))
    assert mended.free_energy <= plain.free_energy * (1 + 1e-9)


def best_of_all_assignments(x: np.ndarray, kappa: float, k: int) -> float:
    """The lowest hard cost under uniform autonomy, over every assignment."""
    p = (1 - kappa - kappa / (k - 1)) * np.eye(k) + kappa / (k - 1)
    lowest = np.inf
    for labels in itertools.product(range(k), repeat=len(x) - 1):
        weights = p[[0, *labels]] / len(x)
        centres = weights.T @ x / weights.sum(axis=0)[:, None]
        squares = np.sum((x[:, None] - centres) ** 2, axis=2)
        lowest = min(lowest, float(np.sum(weights * squares)))
    return lowest


def test_random_swaps_find_the_best_assignment_where_other_moves_do_not():
    k, kappa, n = 4, 0.2, 8
    schedule, quiet = mj.Explicit([1e5]), mj.NoDetector(noise=0.0)

    @jax.jit
    def solved(x, swaps_start):
        problem = mj.Clustering(x, k, autonomy=mj.autonomy.Uniform(kappa))
        return [
            problem.harden(
                mj.anneal(
                    problem,
                    schedule,
                    key=KEY,
                    init=swaps_start,
                    detector=quiet,
                    repair=mj.Repair(swaps=swaps),
                    adjoint=mj.NoGrad(),
                ).params
            ).cost
            for swaps in (0, 60)
        ]

    missed = 0
    for seed in range(6):
        x = np.random.default_rng(seed).normal(size=(n, 2))
        best = best_of_all_assignments(x, kappa, k)
        greedy, swapped = solved(jnp.asarray(x), jnp.asarray(x[:k]))
        missed += bool(greedy > best * (1 + 1e-6))
        np.testing.assert_allclose(swapped, best, rtol=1e-6)
    assert missed >= 2


def test_one_slot_has_nothing_to_repair():
    problem = mj.Clustering(np.eye(3), 1)
    solution = mj.anneal(problem, mj.Explicit([1.0, 10.0]), key=KEY, repair=mj.Repair(swaps=2))
    np.testing.assert_allclose(solution.raise_if_failed().params, np.full((1, 3), 1 / 3))


def test_softmax_autonomy_is_no_worse_than_without_growth():
    x, _ = mj.datasets.four_square(80)
    autonomy = mj.autonomy.Softmax(0.3, temperature=float(jnp.var(x, axis=0).sum()))
    problem = mj.Clustering(x, 4, autonomy=autonomy)
    kicked = {"key": KEY, "detector": mj.Detector()}
    plain = mj.anneal(problem, mj.Geometric(0.3, 1e4, 1.3), **kicked).raise_if_failed()
    grown = mj.anneal(problem, key=KEY, detector=mj.Growth(), repair=mj.Repair())
    assert grown.raise_if_failed().n_stages < 100
    rtol = 1e-6
    assert problem.harden(grown.params).cost <= problem.harden(plain.params).cost * (1 + rtol)
