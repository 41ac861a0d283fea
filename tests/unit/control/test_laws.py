"""Identities of the control laws, each against a closed form or differences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import control
from mepjax._core.programs import program

from .cases import BETA, network, places


def moment_of_time():
    """A network, places off its minimum, and velocities of all that moves."""
    rng = np.random.default_rng(5)
    problem = network()
    y = rng.normal(size=(3, 2)) + np.array([1.5, 0.2])
    tangents = {"nodes": rng.normal(size=(9, 2)), "destinations": rng.normal(size=(1, 2))}
    return problem, jnp.asarray(y), {k: jnp.asarray(v) for k, v in tangents.items()}


class Printed:
    """S, y_c, alpha and q of the thesis from the traffic alone, in NumPy."""

    def __init__(self, problem, y, tangents=None):
        flow = problem.traffic(y, BETA)
        x, z = np.asarray(problem.nodes), np.asarray(problem.destinations)
        first, last, links = (np.asarray(a) for a in (flow.first, flow.last, flow.links))
        apart = (links + links.T) * (1 - np.eye(len(links)))
        # 2A - B: what enters, leaves and passes, less the traffic between facilities.
        self.stiffness = np.diag(first.sum(0) + last.sum(1) + apart.sum(1)) - apart
        self.first, self.last = first, last
        self.centre = np.linalg.solve(self.stiffness, first.T @ x + last @ z)
        self.off = np.asarray(y) - self.centre
        self.q = np.sum(self.off * (self.stiffness @ self.off))
        if tangents is not None:
            phi, psi = (np.asarray(tangents[name]) for name in ("nodes", "destinations"))
            self.forward = np.linalg.solve(self.stiffness, first.T @ phi + last @ psi)
            weights = np.asarray(problem.weights / problem.weights.sum())[:, None]
            self.alpha = np.sum((weights * x - first @ self.centre) * phi)
            self.alpha += np.sum((last.sum() * z - last.T @ self.centre) * psi)


def test_the_gradient_is_twice_the_stiffness_times_the_offset():
    problem, y, _ = moment_of_time()
    printed = Printed(problem, y)
    slope = problem.residual(y, BETA)
    np.testing.assert_allclose(slope, 2 * printed.stiffness @ printed.off, atol=1e-13)


def test_the_free_energy_is_above_minus_the_entropy_of_all_walks():
    problem, y, _ = moment_of_time()
    # With self-loops there are 3 + 9 + 27 walks of at most three facilities.
    assert float(problem.free_energy(y, BETA)) + np.log(39) / BETA > 0


def test_the_law_of_paths_is_as_printed_and_its_rate_twice_what_is_printed():
    problem, y, tangents = moment_of_time()
    printed = Printed(problem, y, tangents)
    root = np.hypot(printed.alpha, printed.q)
    expected = printed.forward - (0.7 + (printed.alpha + root) / printed.q) * printed.off
    asked = control.step(problem, y, BETA, tangents, control.LyapunovPaths(0.7, 0.0))
    np.testing.assert_allclose(asked.velocity, expected, rtol=1e-11)
    rate = -2 * (0.7 * printed.q + root)
    np.testing.assert_allclose(asked.free_energy_rate, rate, rtol=1e-11)

    h = 1e-5

    def energy(t):
        moved = {name: getattr(problem, name) + t * v for name, v in tangents.items()}
        return float(problem.replace(**moved).free_energy(y + t * asked.velocity, BETA))

    np.testing.assert_allclose((energy(h) - energy(-h)) / (2 * h), rate, rtol=1e-8)


@pytest.mark.parametrize("metric", [True, False])
def test_the_law_on_any_free_energy_has_its_closed_rate(metric):
    problem, y, tangents = moment_of_time()
    printed = Printed(problem, y)
    slope = np.asarray(problem.residual(y, BETA))
    alpha = sum(
        np.sum(np.asarray(getattr(mj.gradients(problem, y, BETA), name)) * np.asarray(v))
        for name, v in tangents.items()
    )
    downhill = np.linalg.solve(2 * printed.stiffness, slope) if metric else slope
    q = np.sum(slope * downhill)
    for sign in (1.0, -1.0):
        moving = {name: sign * v for name, v in tangents.items()}
        law = control.Lyapunov(0.3, 0.0, metric=metric)
        asked = control.step(problem, y, BETA, moving, law)
        root = np.hypot(alpha, q)
        gain = 0.3 + (sign * alpha + root) / q
        np.testing.assert_allclose(asked.velocity, -gain * downhill, rtol=1e-9)
        np.testing.assert_allclose(asked.free_energy_rate, -0.3 * q - root, rtol=1e-10)
        assert not bool(asked.saturated)


def test_a_guarded_law_is_saturated_only_where_the_cost_would_rise():
    problem, y, tangents = moment_of_time()
    printed = Printed(problem, y, tangents)
    law = control.LyapunovPaths(0.7, 10 * printed.q)
    for sign in (1.0, -1.0):
        moving = {name: sign * v for name, v in tangents.items()}
        asked = control.step(problem, y, BETA, moving, law)
        assert bool(asked.saturated) == (sign * printed.alpha > 0)


def test_the_best_place_moves_as_corrected_and_not_as_printed():
    """(2.29): the term of the changing stiffness enters with a minus inside the bracket."""
    problem, y, tangents = moment_of_time()
    velocity = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2)))
    h = 1e-5

    def at(t):
        moved = {name: getattr(problem, name) + t * v for name, v in tangents.items()}
        new = problem.replace(**moved)
        return Printed(new, y + t * velocity), new

    (ahead, p1), (behind, p0), (now, _) = at(h), at(-h), at(0.0)
    found = (ahead.off - behind.off) / (2 * h)

    def pull(seen, p):
        return seen.first.T @ np.asarray(p.nodes) + seen.last @ np.asarray(p.destinations)

    pulled = (pull(ahead, p1) - pull(behind, p0)) / (2 * h)
    turned = (ahead.stiffness - behind.stiffness) / (2 * h) @ now.centre
    right = velocity - np.linalg.solve(now.stiffness, pulled - turned)
    wrong = velocity - np.linalg.solve(now.stiffness, pulled + turned)
    np.testing.assert_allclose(found, right, atol=1e-7)
    assert np.max(np.abs(found - wrong)) > 0.1


def test_the_matrix_of_2_28_with_direct_edges():
    """grad F = 2 L (nodes, facilities, destination), corrected where nodes go straight."""
    problem = network(direct=True)
    y = jnp.asarray(np.random.default_rng(2).normal(size=(3, 2)))
    flow = problem.traffic(y, BETA)
    weights = np.asarray(problem.weights / problem.weights.sum())
    first, last, straight = (np.asarray(a) for a in (flow.first, flow.last, flow.direct))
    stiffness = Printed(problem, y).stiffness
    matrix = np.block(
        [
            [np.diag(weights), -first, -straight],
            [-first.T, stiffness, -last],
            [-straight.T, -last.T, np.ones((1, 1))],
        ]
    )
    everything = np.concatenate([problem.nodes, y, problem.destinations])
    found = mj.gradients(problem, y, BETA)
    slope = np.concatenate([found.nodes, problem.residual(y, BETA), found.destinations])
    np.testing.assert_allclose(slope, 2 * matrix @ everything, atol=1e-13)


def test_follow_and_newton_are_what_they_say():
    problem, y, tangents = moment_of_time()
    slope = problem.residual(y, BETA)
    drift = mj.drift(problem, y, BETA, tangents)
    h = 1e-5
    ahead, behind = (
        problem.replace(**{n: getattr(problem, n) + s * v for n, v in tangents.items()})
        for s in (h, -h)
    )
    differenced = (ahead.residual(y, BETA) - behind.residual(y, BETA)) / (2 * h)
    np.testing.assert_allclose(drift, differenced, atol=1e-8)

    wanted = np.asarray(drift + 3.0 * slope)
    metric = np.kron(2 * Printed(problem, y).stiffness, np.eye(2))
    follow = control.step(problem, y, BETA, tangents, control.Follow(3.0)).velocity
    np.testing.assert_allclose(follow.ravel(), -np.linalg.solve(metric, wanted.ravel()), rtol=1e-9)

    hessian = np.asarray(jax.jacfwd(problem.residual)(y, BETA)).reshape(6, 6)
    lower = np.linalg.cholesky(metric)
    scaled = np.linalg.solve(lower, np.linalg.solve(lower, hessian).T)
    values, vectors = np.linalg.eigh(scaled)
    assert values[0] < 0.1 < values[-1]  # so that the floor matters
    floored = (vectors / np.maximum(np.abs(values), 0.1)) @ vectors.T
    step = -np.linalg.solve(lower.T, floored @ np.linalg.solve(lower, wanted.ravel()))
    newton = control.step(problem, y, BETA, tangents, control.Newton(3.0, 0.1)).velocity
    np.testing.assert_allclose(newton.ravel(), step, rtol=1e-9)


def test_conjugate_gradients_solve_what_the_dense_inverse_does_and_stop_below_the_floor():
    from mepjax.solvers import floored, spectrum

    problem, _, _ = moment_of_time()
    y = places(problem)

    @program
    def both(y, vector, floor):
        pencil = spectrum.primal_pencil(problem, y, jnp.asarray(BETA))
        dense = floored.floored_solve(pencil, vector, floor)
        return dense, floored.floored_solve(pencil, vector, floor, dense_limit=0)

    vector = jnp.asarray(np.random.default_rng(0).normal(size=6))
    dense, iterated = both(y, vector, jnp.asarray(1e-3))
    np.testing.assert_allclose(iterated, dense, rtol=1e-5, atol=1e-7)
    # At a saddle (all facilities at one place) it still goes downhill.
    saddle = jnp.broadcast_to(jnp.mean(y, axis=0), y.shape)
    for found in both(saddle, vector, jnp.asarray(0.1)):
        assert bool(jnp.all(jnp.isfinite(found))) and float(found @ vector) > 0


def test_a_floored_inverse_is_differentiable_where_eigenvalues_coincide():
    from mepjax.solvers.floored import floored_inverse

    rng = np.random.default_rng(4)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    matrix = jnp.asarray(turn @ np.diag([1.0, 1.0, -0.5, 0.02, 0.02]) @ turn.T)
    change = rng.normal(size=(5, 5))
    change, weight = jnp.asarray(change + change.T), jnp.asarray(rng.normal(size=(5, 5)))
    weight = weight + weight.T

    def value(t, floor):
        return jnp.sum(weight * floored_inverse(matrix + t * change, jnp.asarray(floor)))

    h = 1e-6
    by_t, by_floor = jax.grad(value, argnums=(0, 1))(0.0, 0.1)
    np.testing.assert_allclose(by_t, (value(h, 0.1) - value(-h, 0.1)) / (2 * h), rtol=1e-6)
    np.testing.assert_allclose(
        by_floor, (value(0.0, 0.1 + h) - value(0.0, 0.1 - h)) / (2 * h), rtol=1e-6
    )


def test_a_speed_limit_keeps_directions_and_holds():
    problem, y, tangents = moment_of_time()
    free = control.step(problem, y, BETA, tangents)
    asked = control.step(problem, y, BETA, tangents, speed_limit=0.5)
    speeds = np.linalg.norm(asked.velocity, axis=1)
    assert np.all(speeds <= 0.5 + 1e-12) and bool(asked.saturated) and not bool(free.saturated)
    unit = np.asarray(free.velocity) / np.linalg.norm(free.velocity, axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(asked.velocity) / speeds[:, None], unit, atol=1e-12)
    slow = control.step(problem, y, BETA, tangents, speed_limit=1e3)
    np.testing.assert_allclose(slow.velocity, free.velocity, rtol=1e-9)


def test_laws_say_what_they_cannot_serve():
    x = np.random.default_rng(0).normal(size=(6, 2))
    kinks = mj.Clustering(x, 2, cost="manhattan")
    frozen = mj.Clustering(x, 2, autonomy=mj.autonomy.Softmax(kappa=0.3), stationarity="frozen")
    y, v = jnp.asarray(x[:2]), {"x": jnp.zeros((6, 2))}
    with pytest.raises(TypeError, match="Follow needs .* second derivatives; this Clustering"):
        control.step(kinks, y, 1.0, v)
    for law in (control.Newton(), control.Lyapunov()):
        with pytest.raises(TypeError, match=f"{type(law).__name__} needs a residual that is"):
            control.step(frozen, y, 1.0, v, law)
    assert control.step(frozen, y, 1.0, v).velocity.shape == (2, 2)
    clusters = mj.Clustering(x, 2)
    with pytest.raises(TypeError, match="LyapunovPaths needs a FacilityPath"):
        control.step(clusters, y, 1.0, v, control.LyapunovPaths())
    euclidean = network(stage_costs="euclidean")
    with pytest.raises(TypeError, match="squared distance"):
        control.step(euclidean, jnp.zeros((3, 2)), 1.0, {}, control.LyapunovPaths())


def test_gains_out_of_range_are_refused():
    for build, name in itertools.product(
        [lambda v: control.Follow(v), lambda v: control.Newton(v), lambda v: control.Lyapunov(v)],
        [0.0, -1.0, np.nan],
    ):
        with pytest.raises(ValueError, match="must be > 0"):
            build(name)
    with pytest.raises(ValueError, match="`floor` must be >= 0"):
        control.Newton(floor=-0.1)
    with pytest.raises(ValueError, match="`eps` must be >= 0"):
        control.LyapunovPaths(eps=-1.0)
    with pytest.warns(UserWarning, match="`floor` of 0"):
        control.Newton(floor=0.0)
    with pytest.raises(TypeError, match="`gain` must be a number"):
        control.Follow("fast")
