"""Derivatives of solutions where an equation knows the structure of its own Jacobian."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from mepjax.solvers.equation import Equation
from mepjax.solvers.implicit import LinearSolve, attach

SIZE = 300  # above what is formed by default


class Chain(Equation):
    """(I - discount P) v = reward, as values under a policy are."""

    moves: jax.Array
    reward: jax.Array
    discount: jax.Array

    def residual(self, params, beta):
        return params - self.reward - self.discount * self.moves @ params

    def jacobian(self, params, beta):
        return lx.MatrixLinearOperator(jnp.eye(SIZE) - self.discount * self.moves)


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    moves = rng.uniform(size=(SIZE, SIZE)) ** 8
    return moves / moves.sum(axis=1, keepdims=True), rng.normal(size=SIZE), rng.normal(size=SIZE)


MOVES, REWARD, WEIGHTS = data()
MATRIX = np.eye(SIZE) - 0.999 * MOVES
VALUES = np.linalg.solve(MATRIX, REWARD)


def loss(equation: Equation) -> Any:
    still = jnp.asarray(False)
    options = LinearSolve()
    solved = attach(
        jnp.asarray(VALUES), equation, jnp.ones(()), still, options=options, on_failure="nan"
    )
    return WEIGHTS @ solved


def test_reverse_forward_and_second_derivatives_through_a_known_jacobian():
    dual = np.linalg.solve(MATRIX.T, WEIGHTS)

    def of(discount: Any, reward: Any) -> Any:
        return loss(Chain(jnp.asarray(MOVES), reward, discount))

    at = jnp.asarray(0.999), jnp.asarray(REWARD)
    by_discount, by_reward = jax.jit(jax.grad(of, argnums=(0, 1)))(*at)
    np.testing.assert_allclose(by_reward, dual, rtol=1e-9)
    np.testing.assert_allclose(by_discount, dual @ MOVES @ VALUES, rtol=1e-9)
    forward = jax.jit(jax.jacfwd(of))(*at)
    np.testing.assert_allclose(forward, by_discount, rtol=1e-12)
    # d2 v / d discount2 = 2 A^-1 P A^-1 P v.
    second = jax.jit(jax.grad(jax.grad(of)))(*at)
    twice = 2 * dual @ MOVES @ np.linalg.solve(MATRIX, MOVES @ VALUES)
    np.testing.assert_allclose(second, twice, rtol=1e-9)


def test_a_jacobian_that_is_singular_gives_nan_and_not_a_number():
    def of(reward: Any) -> Any:
        return loss(Chain(jnp.eye(SIZE), reward, jnp.ones(())))

    assert jnp.isnan(jax.jit(jax.grad(of))(jnp.asarray(REWARD))).all()
