"""(4.8) on a soft-Bellman value, and unknown action parameters that follow states that move."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import mepjax as mj
from mepjax import control, mdp

from .cases import ValueAlone

STATES, DISCOUNT, SLIP, BETA = 10, 0.9, 0.15, 1.5
X = np.linspace(-1.0, 1.0, STATES)
Y = np.array([-0.9, 1.3])
V = np.random.default_rng(2).normal(size=STATES)


def kernel():
    """A step to the left or to the right, or with some chance the other way; walls hold."""
    p = np.zeros((STATES, 2, STATES))
    for s in range(STATES):
        left, right = max(s - 1, 0), min(s + 1, STATES - 1)
        for action, (meant, other) in enumerate([(left, right), (right, left)]):
            p[s, action, meant] += 1 - SLIP
            p[s, action, other] += SLIP
    return p


def value(x, y):
    """Mean soft value relative to the uniform policy, by value iteration in NumPy."""
    costs, p, v = (x[:, None] - y) ** 2, kernel(), np.zeros(STATES)
    for _ in range(500):
        q = costs + DISCOUNT * p @ v
        lowest = q.min(axis=1, keepdims=True)
        v = lowest[:, 0] - np.log(np.mean(np.exp(-BETA * (q - lowest)), axis=1)) / BETA
    return v.mean()


def slopes(x, y, h=1e-5):
    """Central differences of the value in known and unknown parameters."""
    in_x = [(value(x + h * e, y) - value(x - h * e, y)) / (2 * h) for e in np.eye(STATES)]
    in_y = [(value(x, y + h * e) - value(x, y - h * e)) / (2 * h) for e in np.eye(2)]
    return np.array(in_x), np.array(in_y)


class Chain(ValueAlone):
    """Unknown parameters of two actions on a chain whose states have known ones."""

    x: Any
    p: Any

    def init(self, key):
        return jnp.zeros(2, self.x.dtype)

    def backup(self, v, costs, beta):
        q = costs + DISCOUNT * self.p @ v
        return (jnp.log(2.0) - jax.nn.logsumexp(-beta * q, axis=1)) / beta

    def free_energy(self, params, beta):
        costs = (self.x[:, None] - params) ** 2

        def newton(v, costs, beta):
            slope = jax.jacfwd(self.backup)(v, costs, beta)
            change = jnp.linalg.solve(jnp.eye(STATES) - slope, self.backup(v, costs, beta) - v)
            return v + change

        still = jax.lax.stop_gradient((costs, beta))
        v = jax.lax.fori_loop(0, 20, lambda _, v: newton(v, *still), jnp.zeros_like(self.x))
        # Two steps from the fixed point have its derivatives up to the third.
        v = newton(newton(jax.lax.stop_gradient(v), costs, beta), costs, beta)
        return jnp.mean(v)

    def metric(self, params, beta):
        return lx.DiagonalLinearOperator(jnp.full_like(params, 1 / (1 - DISCOUNT)))


class Drifting(eqx.Module):
    """States move steadily."""

    speed: Any

    def __call__(self, time, problem, values):
        return {"x": self.speed}


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["one_way", "back"])
def test_the_printed_law_is_its_closed_form_on_a_soft_bellman_value(sign):
    with jax.enable_x64(True):
        chain, gain = Chain(jnp.asarray(X), jnp.asarray(kernel())), 0.7
        in_x, in_y = slopes(X, Y)
        rising, size = sign * in_x @ V, in_y @ in_y
        root = np.hypot(rising, size)
        law = control.Lyapunov(gain, 0.0, metric=False)
        asked = control.step(chain, jnp.asarray(Y), BETA, {"x": jnp.asarray(sign * V)}, law)
        expected = -(gain + (rising + root) / size) * in_y
        np.testing.assert_allclose(asked.velocity, expected, rtol=1e-6)
        np.testing.assert_allclose(asked.free_energy_rate, -gain * size - root, rtol=1e-6)
        assert not bool(asked.saturated)


@pytest.mark.slow
def test_unknown_action_parameters_of_a_decision_process_follow_states_that_move():
    """The chain as a `ParametricMDP` moved by `at` goes where the chain by a velocity goes."""
    with jax.enable_x64(True):
        times, speed = np.array([0.0, 0.4, 0.8]), 0.5 * V
        problem = mj.ParametricMDP(
            mdp.Dense(kernel()), "sqeuclidean", state_params=X[:, None],
            action_params=np.zeros((2, 1)), unknown_actions=[0, 1], discount=DISCOUNT,
        )  # fmt: skip

        def at(time):
            moved = problem.unknowns.states + time * jnp.asarray(speed)[:, None]
            return eqx.tree_at(lambda p: p.unknowns.states, problem, moved)

        law = control.Lyapunov(1.0, 1.0, metric=False)
        shared = {"beta": BETA, "law": law, "integrator": control.Euler(0.005)}
        run = control.track(problem, Y[:, None], times, at=at, **shared)
        chain = Chain(jnp.asarray(X), jnp.asarray(kernel()))
        same = control.track(chain, Y, times, velocity=Drifting(jnp.asarray(speed)), **shared)
        for track in (run, same):
            assert np.all(np.asarray(track.code) < mj.Code.MAX_STEPS)
        np.testing.assert_allclose(run.values[:, :, 0], same.values, atol=1e-8)
        for row, time in enumerate(times):
            expected = value(X + time * speed, np.asarray(run.values[row, :, 0]))
            np.testing.assert_allclose(run.free_energy[row], expected, rtol=1e-8)
        free = ~np.asarray(run.saturated)
        assert free[0] and np.all(np.asarray(run.free_energy_rate)[free] <= 0)
        assert float(np.max(np.abs(run.values[-1, :, 0] - Y))) > 0.05
