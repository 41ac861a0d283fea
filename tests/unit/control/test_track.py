"""Scenes that are followed: closed forms, symmetries, derivatives, codes and bad input."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code, control

from .cases import BETA, Bowl, Rising, Scaling, Translation, network, places

TIMES = np.linspace(0.0, 2.0, 5)
# One program serves all tests that do not say otherwise.
SLOW = Scaling(np.asarray(0.1), np.asarray([0.2, 0.0]))
FIXED = control.Euler(0.05)


@pytest.fixture(scope="module")
def start():
    with jax.enable_x64(True):
        return np.asarray(places(network()))


def run(start, velocity: Any = SLOW, **options):
    options = {"integrator": FIXED, "beta": BETA, **options}
    return control.track(network(), start, TIMES, velocity=velocity, **options)


@pytest.mark.parametrize(
    ("rate", "stop"), [(1.0, 0.227188502061), (0.1, 0.501028952829)], ids=["fast", "slow"]
)
def test_the_printed_law_blows_up_when_it_must_and_the_guarded_one_does_not(rate, stop):
    """F = y^2 + c t: without a guard y reaches 0 in a finite time, with unbounded speed."""
    times = stop + np.array([-0.1, -0.05, -1e-2, -1e-3, 1e-3, 0.1])
    bowl = Bowl(jnp.zeros(()))
    start, law = jnp.ones(1), control.Lyapunov(1.0, 0.0, metric=False)
    times = np.concatenate([[0.0], times])
    printed = control.track(
        bowl, start, times, beta=1.0, velocity=Rising(jnp.asarray(rate)), law=law,
        integrator=control.Adaptive(1e-8),
    )  # fmt: skip
    codes = np.asarray(printed.code)
    assert np.all(codes[:5] == Code.OK) and np.all(codes[5:] == Code.STALLED)
    assert np.all(np.isnan(np.asarray(printed.free_energy)[5:]))
    assert int(printed.n_rows) == 5
    # The speed is that of the closed form: y^2 at 1e-3 before the end, to first order in it.
    y = float(printed.values[4, 0])
    np.testing.assert_allclose(y**2, 1e-3 * 2 * rate, rtol=0.05)
    with pytest.raises(mj.SolveError, match="control grew without bound"):
        printed.raise_if_failed()
    guarded = control.track(
        bowl, start, times, beta=1.0, velocity=Rising(jnp.asarray(rate)),
        law=control.Lyapunov(1.0, 0.05, metric=False), integrator=control.Adaptive(1e-8),
    )  # fmt: skip
    assert np.all(np.asarray(guarded.code) == Code.OK) and bool(guarded.saturated[-1])


def test_rows_tell_what_the_problem_says_of_their_time(start):
    track = run(start)
    assert np.all(np.asarray(track.code) == Code.OK)
    for i in (0, 4):
        problem, y = track.problem_at(i), track.values_at(i)
        scale = np.exp(0.1 * TIMES[i]) if i == 0 else (1 + 0.1 * 0.05) ** 40
        np.testing.assert_allclose(problem.nodes, scale * network().nodes, rtol=1e-12)
        terms = problem.terms(y, BETA)
        np.testing.assert_allclose(track.free_energy[i], terms.free_energy, rtol=1e-12)
        np.testing.assert_allclose(track.distortion[i], terms.distortion, rtol=1e-12)
        np.testing.assert_allclose(track.curvature[i], mj.curvature(problem, y, BETA), rtol=1e-8)
        velocity = SLOW(TIMES[i], problem, y)
        asked = control.step(problem, y, BETA, velocity)
        speed = np.max(np.linalg.norm(asked.velocity, axis=1))
        np.testing.assert_allclose(track.speed[i], speed, rtol=1e-9)
        np.testing.assert_allclose(track.free_energy_rate[i], asked.free_energy_rate, rtol=1e-9)


def test_the_lag_is_what_a_solve_would_gain(start):
    track = run(start, Scaling(jnp.asarray(0.3), jnp.asarray([1.0, 0.0])))
    problem, y = track.problem_at(3), track.values_at(3)
    solved = mj.anneal(problem, mj.Explicit([BETA]), key=jax.random.key(0), init=y)
    gain = float(track.free_energy[3] - solved.free_energy)
    assert gain > 1e-6
    np.testing.assert_allclose(track.lag[3], gain, rtol=0.1)


def test_a_scene_at_rest_stays_and_one_that_is_carried_along_is_carried(start):
    rest = run(start, Scaling(jnp.zeros(()), jnp.zeros(2)))
    np.testing.assert_allclose(rest.values, np.broadcast_to(start, (5, 3, 2)), atol=1e-6)
    # Follow is exact at a fixed policy only; with the whole Hessian there is nothing left.
    carried = run(start, Translation(jnp.asarray([0.5, -0.2])), law=control.Newton())
    path = np.asarray(start) + TIMES[:, None, None] * np.array([0.5, -0.2])
    np.testing.assert_allclose(carried.values, path, atol=1e-6)


def test_a_scene_far_from_the_origin_is_followed_as_well(start):
    """A translated scene has a translated answer, also in float32."""
    away = np.array([300.0, -200.0])
    here = control.track(
        network(), start, TIMES, beta=BETA, velocity=Translation(jnp.asarray([0.5, 0.0])),
        integrator=FIXED,
    )  # fmt: skip
    problem = network()
    there = control.track(
        problem.replace(nodes=problem.nodes + away, destinations=problem.destinations + away),
        start + away, TIMES, beta=BETA, velocity=Translation(jnp.asarray([0.5, 0.0])),
        integrator=FIXED,
    )  # fmt: skip
    np.testing.assert_allclose(there.values, here.values + away, atol=1e-9)
    np.testing.assert_allclose(there.free_energy, here.free_energy, rtol=1e-9)
    with jax.enable_x64(False):
        narrow = network(np.float32)
        moved = narrow.replace(
            nodes=narrow.nodes + away.astype(np.float32),
            destinations=narrow.destinations + away.astype(np.float32),
        )
        single = control.track(
            moved, (start + away).astype(np.float32), TIMES.astype(np.float32), beta=BETA,
            velocity=Translation(jnp.asarray([0.5, 0.0])), integrator=FIXED,
        )  # fmt: skip
        # Coordinates of 360 have 3e-5 left in float32.
        np.testing.assert_allclose(single.free_energy, here.free_energy, rtol=3e-4)


def test_fixed_and_adaptive_steps_agree(start):
    exact = run(start, integrator=control.Adaptive(1e-9))
    coarse, fine = (run(start, integrator=control.Euler(s)) for s in (0.05, 1e-5 * 4))
    scale = np.max(np.abs(np.asarray(exact.values[-1] - exact.values[0])))
    assert np.max(np.abs(np.asarray(coarse.values - exact.values))) <= 1e-2 * scale
    np.testing.assert_allclose(fine.values, exact.values, atol=1e-5 * scale)
    assert int(exact.n_steps) < int(coarse.n_steps) * 10 and int(coarse.n_steps) == 40


@pytest.mark.slow
@pytest.mark.parametrize("integrator", [FIXED, control.Adaptive(1e-9)], ids=["euler", "adaptive"])
def test_derivatives_are_those_of_differences(start, integrator):
    def outcome(x, integrator):
        velocity = Scaling(x[1], SLOW.drift)
        track = control.track(
            network(), start + x[2], TIMES, beta=BETA, velocity=velocity,
            law=control.Newton(x[0], 0.1), integrator=integrator,
        )  # fmt: skip
        return jnp.sum(jnp.sin(track.values[-1])) + track.free_energy[2]

    x, h = jnp.asarray([3.0, 0.1, 0.02]), 1e-4
    value = jax.jit(lambda x: outcome(x, integrator))
    found = jax.jit(jax.grad(lambda x: outcome(x, integrator)))(x)
    differences = [(value(x + h * e) - value(x - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(found, differences, rtol=1e-5, atol=1e-7)


def test_scenes_go_in_a_batch_each_with_its_code(start):
    rates = jnp.asarray([0.1, 0.3, jnp.nan])

    def scene(rate):
        return run(start, Scaling(rate, SLOW.drift))

    many = jax.jit(jax.vmap(scene))(rates)
    for lane in (0, 1):
        alone = scene(rates[lane])
        np.testing.assert_allclose(many.values[lane], alone.values, atol=1e-10)
        np.testing.assert_array_equal(many.code[lane], alone.code)
    codes = np.asarray(many.code[2])
    assert np.all(codes == Code.NON_FINITE)
    with pytest.raises(mj.SolveError, match=r"1 of 3 lanes failed; lane 2: NaN or Inf"):
        many.raise_if_failed()


class Late(eqx.Module):
    """A velocity that is no number from a time on."""

    when: Any

    def __call__(self, time, problem, values):
        return {"nodes": jnp.where(time > self.when, jnp.nan, 0.1) * problem.nodes}


@pytest.mark.parametrize("integrator", [FIXED, control.Adaptive()], ids=["euler", "adaptive"])
def test_rows_before_a_scene_ends_early_are_kept(start, integrator):
    track = run(start, Late(jnp.asarray(1.2)), integrator=integrator)
    np.testing.assert_array_equal(track.code, [0, 0, 0, Code.NON_FINITE, Code.NON_FINITE])
    assert np.all(np.isfinite(np.asarray(track.values[:3])))
    assert np.all(np.isnan(np.asarray(track.values[3:])))
    with pytest.raises(mj.SolveError, match="NaN or Inf appeared on the way, in a velocity"):
        track.raise_if_failed()


class OutOfReach(eqx.Module):
    """One node walks away from the origin; what is farther than `reach` enters no facility."""

    problem: Any
    reach: Any
    who: int = eqx.field(static=True)

    def __call__(self, time):
        place = self.problem.nodes[self.who]
        nodes = self.problem.nodes.at[self.who].add(time * place / jnp.linalg.norm(place))
        near = jnp.linalg.norm(nodes, axis=1) <= self.reach
        entry = jnp.broadcast_to(near[:, None], (nodes.shape[0], 3))
        return self.problem.replace(nodes=nodes, links=mj.paths.Links(entry=entry))


def test_a_node_that_walks_out_of_reach_ends_the_scene_and_is_named(start):
    """It is 1.2 from the border and goes at a speed of 1, so that the rows at 1.5 and 2 fail."""
    distance = np.linalg.norm(np.asarray(network().nodes), axis=1)
    who = int(np.argmax(distance))
    at = OutOfReach(network(), jnp.asarray(distance[who] + 1.2), who)
    track = control.track(network(), start, TIMES, beta=BETA, at=at, integrator=FIXED)
    bad = int(Code.INVALID_INPUT)
    np.testing.assert_array_equal(track.code, [0, 0, 0, bad, bad])
    assert np.all(np.isfinite(np.asarray(track.values[:3]))) and int(track.n_rows) == 3
    assert np.all(np.isnan(np.asarray(track.free_energy[3:])))
    with pytest.raises(ValueError, match=f"at time 1.5: FacilityPath: node {who} cannot reach"):
        track.raise_if_failed()


def test_too_few_steps_are_told(start):
    track = run(start, integrator=control.Adaptive(1e-9, max_steps=5))
    codes = np.asarray(track.code)
    assert codes[0] == Code.OK and codes[-1] == Code.MAX_STEPS


def test_what_moves_is_said_in_three_ways_with_one_outcome(start):
    """A velocity, the problem as a function of time, and traces of it."""
    velocity = Translation(jnp.asarray([0.5, -0.2]))
    problem = network()
    fixes = np.linspace(-1.0, 3.0, 9)
    places_then = np.asarray(problem.nodes) + fixes[:, None, None] * np.array([0.5, -0.2])
    ends = np.asarray(problem.destinations) + fixes[:, None, None] * np.array([0.5, -0.2])

    def at(time):
        step = time * jnp.asarray([0.5, -0.2])
        return problem.replace(nodes=problem.nodes + step, destinations=problem.destinations + step)

    told = control.track(problem, start, TIMES, beta=BETA, at=at, integrator=FIXED)
    rows = []
    for i in range(9):
        kept = np.r_[0, np.arange(1 + i % 3, 8, 2), 8]
        rows.append((fixes[kept], places_then[kept, i]))
    traced = control.track(
        problem, start, TIMES, beta=BETA, integrator=FIXED,
        traces={"nodes": rows, "destinations": (fixes, ends)},
    )  # fmt: skip
    for track in (told, traced):
        np.testing.assert_allclose(track.values, run(start, velocity).values, atol=1e-6)
        moved = np.asarray(problem.nodes) + 2 * np.array([0.5, -0.2])
        np.testing.assert_allclose(track.problem_at(4).nodes, moved, rtol=1e-12)


def test_a_problem_is_replaced_inside_a_program_and_measured_again():
    clusters = mj.Clustering(np.random.default_rng(0).normal(size=(6, 2)), 2)

    @jax.jit
    def moved(problem, step):
        if isinstance(problem, mj.Clustering):
            return problem.replace(x=problem.x + step)
        return problem.replace(nodes=problem.nodes + step)

    for problem in (clusters, network()):
        new = moved(problem, 50.0)
        np.testing.assert_allclose(new.origin, np.asarray(problem.origin) + 50.0, rtol=1e-5)


def test_bad_arguments_are_refused_by_name(start):
    bad = [
        (ValueError, "`times` must have shape", {"times": [0.0]}),
        (ValueError, "`times` must increase", {"times": [0.0, 1.0, 1.0]}),
        (ValueError, "`times` must be finite", {"times": [0.0, np.nan]}),
        (ValueError, "`beta` must be > 0", {"beta": 0.0}),
        (ValueError, "`speed_limit` must be > 0", {"speed_limit": -1.0}),
        (ValueError, "`start` must be params of this", {"start": jnp.zeros((4, 2))}),
        (TypeError, "exactly one of the ways", {"velocity": None}),
        (TypeError, "exactly one of the ways", {"at": lambda t: network()}),
        (TypeError, "`speed` cannot move", {"velocity": lambda t, p, y: {"speed": 1.0}}),
        (
            ValueError,
            r"the velocity of `nodes` must have its shape \(9, 2\)",
            {"velocity": lambda t, p, y: {"nodes": p.nodes[:3]}},
        ),
        (TypeError, "`velocity` must return a mapping", {"velocity": lambda t, p, y: p.nodes}),
        (TypeError, "`law` must be a AbstractLaw", {"law": "follow"}),
        (TypeError, "`reanneal` needs a `key`", {"reanneal": control.Reanneal()}),
    ]
    for error, match, changed in bad:
        arguments = {"start": start, "times": TIMES, "beta": BETA, "velocity": SLOW, **changed}
        with pytest.raises(error, match=match):
            control.track(network(), **arguments)
    with pytest.raises(TypeError, match="captures a traced value"):
        jax.grad(lambda a: run(start, lambda t, p, y: {"nodes": a * p.nodes}).speed[0])(1.0)


def test_traces_that_cannot_be_followed_are_refused_by_row(start):
    nodes = np.asarray(network().nodes)
    good = [(np.array([0.0, 2.0]), np.stack([n, n])) for n in nodes]

    def attempt(row, times, match):
        rows = list(good)
        rows[row] = (np.asarray(times), np.repeat(nodes[row : row + 1], len(times), axis=0))
        with pytest.raises(ValueError, match=match):
            control.track(network(), start, TIMES, beta=BETA, traces={"nodes": rows})

    attempt(4, [0.0, 1.5], "row 4 of `nodes` must cover `times` from 0 to 2; it has 0 to 1.5")
    attempt(2, [0.0], "row 2 of `nodes` must have at least two fixes")
    attempt(7, [0.0, 1.0, 1.0, 2.0], "row 7 of `nodes` must increase; got 1 twice")
    with pytest.raises(ValueError, match="for each of its 9 rows"):
        control.track(network(), start, TIMES, beta=BETA, traces={"nodes": good[:3]})


def test_traced_bad_values_become_the_code_of_their_lane(start):
    def scene(beta):
        return run(start, beta=beta)

    track = jax.jit(scene)(jnp.asarray(-1.0))
    assert np.all(np.asarray(track.code) == Code.INVALID_INPUT)
    with pytest.raises(ValueError, match="`beta` must be > 0; got -1"):
        track.raise_if_failed()


class Widening(eqx.Module):
    """Points move apart along the first coordinate."""

    rate: Any

    def __call__(self, time, problem, values):
        return {"x": self.rate * problem.x * jnp.asarray([1.0, 0.0])}


def test_a_transition_is_met_where_theory_says_and_left_by_a_reanneal():
    """Coincident centres are a minimum until 2 beta lambda_max(Cov) = 1."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 2)) * np.array([1.0, 0.3])
    x -= x.mean(axis=0)
    problem = mj.Clustering(x, 2)
    variance = np.linalg.eigvalsh(x.T @ x / 12)[-1]
    beta, rate = 0.5 * 0.5 / variance, 0.5

    def largest(points):
        return np.linalg.eigvalsh(np.cov(np.asarray(points).T, bias=True))[-1]

    # The exact time is where the largest variance of the moved points reaches 1 / (2 beta).
    grid = np.linspace(0, 1, 1001)
    grown = [2 * beta * largest(x * np.array([np.exp(rate * t), 1.0])) for t in grid]
    when = grid[np.searchsorted(grown, 1)]
    times = np.linspace(0.0, 1.5, 31)
    arguments = dict(beta=beta, velocity=Widening(jnp.asarray(rate)), integrator=FIXED)
    stays = control.track(problem, jnp.zeros((2, 2)), times, **arguments)
    crossed = stays.transitions
    assert len(crossed.time) == 1 and abs(crossed.time[0] - when) < 0.03
    before = int(np.searchsorted(times, crossed.time[0])) - 1
    predicted = (
        0.5 / np.linalg.eigvalsh(np.cov(np.asarray(stays.problem_at(before).x).T, bias=True))[-1]
    )
    np.testing.assert_allclose(crossed.beta, predicted, rtol=1e-6)
    codes = np.asarray(stays.code)
    assert np.all(codes[: before + 1] == Code.OK) and np.all(
        codes[before + 1 :] == Code.NEAR_CRITICAL
    )

    left = control.track(
        problem, jnp.zeros((2, 2)), times, reanneal=control.Reanneal(), key=jax.random.key(0),
        **arguments,
    )  # fmt: skip
    found = left.reanneals
    assert np.any(found.jump > 0.1) and np.all(found.fall >= -1e-12)
    assert float(left.free_energy[-1]) < float(stays.free_energy[-1]) - 1e-3
    apart = np.linalg.norm(np.asarray(left.values[:, 0] - left.values[:, 1]), axis=1)
    assert np.all(apart[: before + 1] < 1e-6) and apart[-1] > 0.5
    assert np.asarray(left.code)[-1] == Code.OK
