"""The loop's protocol: a solver's own end, norm, state and key; the one backtracking search."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mepjax import Code, FixedPoint
from mepjax.solvers.backtracking import backtrack
from mepjax.solvers.base import AbstractSolver, StepInfo
from mepjax.solvers.equation import Equation
from mepjax.solvers.loop import solve_stage


class Line(Equation):
    """slope (params - root) = 0, by steps against the residual."""

    root: Any
    slope: float = eqx.field(static=True, default=0.5)

    def residual(self, params, beta):
        return self.slope * (params - self.root)

    def params_scale(self, params):
        return 1.0


def run(equation, solver, rtol=1e-6, max_steps=100, key=None):
    start = jnp.zeros(2)
    beta = jnp.ones(())
    limits = {"rtol": jnp.asarray(rtol), "max_steps": jnp.asarray(max_steps)}
    return solve_stage(equation, start, beta, solver, **limits, key=key)


class Counting(FixedPoint):
    """Ends by its own rule: after `wanted` steps."""

    wanted: int = eqx.field(static=True, default=3)

    def init(self, problem, params, beta):
        return jnp.zeros((), jnp.int32)

    def step(self, problem, params, beta, state):
        new, _, info = super().step(problem, params, beta, None)
        return new, state + 1, info

    def terminate(self, problem, params, beta, state, info, convergence):
        return state >= self.wanted


@pytest.mark.parametrize("wanted", [2, 70])
def test_a_solvers_own_end_is_the_only_one_and_its_state_comes_back(wanted):
    # 70 is far beyond where moves of a contraction by 1/2 reach rounding level.
    result = run(Line(jnp.array([1.0, -2.0])), Counting(wanted=wanted))
    assert (int(result.code), int(result.steps)) == (Code.OK, wanted)
    assert int(result.state) == wanted
    exact = np.array([1.0, -2.0]) * (1 - 0.5**wanted)
    np.testing.assert_allclose(result.params, exact, rtol=1e-6)


def test_the_limit_of_steps_stands_above_a_solvers_own_end():
    result = run(Line(jnp.array([1.0, 1.0])), Counting(wanted=50), max_steps=10)
    assert (int(result.code), int(result.steps)) == (Code.MAX_STEPS, 10)


class Around(Equation):
    """Params pass through the points of a ring, as they do within the rounding of a flat F."""

    ring: Any

    def residual(self, params, beta):
        return jnp.zeros_like(params)

    def params_scale(self, params):
        return 1.0

    def update(self, params, beta):
        place = jnp.argmin(jnp.abs(self.ring - params[0]))
        return jnp.broadcast_to(self.ring[(place + 1) % len(self.ring)], params.shape)


@pytest.mark.parametrize(("size", "ends"), [(1e-10, True), (1e-5, False)])
def test_moves_that_neither_shrink_nor_grow_end_it_within_the_tolerance_alone(size, ends):
    # Moves of 1, 2 and 3 times `size`: no two in a row are smaller than those before.
    result = run(Around(size * jnp.array([0.0, 1.0, 3.0])), FixedPoint())
    if ends:
        assert int(result.code) == Code.OK and int(result.steps) < 40
    else:
        assert (int(result.code), int(result.steps)) == (Code.MAX_STEPS, 100)


def test_a_perturbation_that_grows_within_the_tolerance_goes_on():
    # From a distance of 1e-9 to the root, by a factor of 1.01 a step.
    growing = Line(jnp.full(2, 1e-9), slope=-0.01)
    assert int(run(growing, FixedPoint()).code) == Code.MAX_STEPS


class FirstOnly(FixedPoint):
    """Measures the first unknown alone."""

    def norm(self, change, scale):
        return jnp.abs(change[0])


def test_the_loop_stops_by_the_solvers_norm():
    still = Line(jnp.array([0.0, 5.0]))
    assert int(run(still, FixedPoint()).steps) > 10
    result = run(still, FirstOnly())
    assert (int(result.code), int(result.steps)) == (Code.OK, 1)


class Draws(AbstractSolver):
    """Moves at random."""

    rtol: float | None = None
    max_steps: int = 5
    stage_rtol: float | None = None
    stage_max_steps: int = 5

    @property
    def stochastic(self):
        return True

    def init(self, problem, params, beta, *, key=None):
        return key

    def step(self, problem, params, beta, state):
        key, draw = jax.random.split(state)
        move = jax.random.normal(draw, params.shape)
        return params + move, key, StepInfo(move, jnp.asarray(False))


def test_a_stochastic_solver_gets_a_key_and_is_refused_without():
    line = Line(jnp.zeros(2))
    one, same = (run(line, Draws(), max_steps=5, key=jax.random.key(0)).params for _ in range(2))
    other = run(line, Draws(), max_steps=5, key=jax.random.key(1)).params
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    with pytest.raises(TypeError, match="Draws draws at random and needs a `key`"):
        run(line, Draws())


def test_searches_side_by_side_shrink_until_each_is_accepted():
    limits = jnp.array([1.0, 0.3, 0.01])
    found = backtrack(
        lambda size: (size <= limits, 2 * size),
        jnp.ones(3),
        jnp.zeros(3),
        retry=lambda size: 0.5 * size,
        most=20,
    )
    np.testing.assert_array_equal(found.size, [1.0, 0.25, 2.0**-7])
    np.testing.assert_array_equal(found.found, 2 * found.size)
    assert found.accepted.all() and int(found.tries) == 8


def test_a_search_gives_up_after_so_many_tries():
    one = jnp.ones(())
    found = backtrack(lambda size: (size < 0, None), one, None, retry=lambda size: size / 2, most=3)
    assert not found.accepted and int(found.tries) == 3 and float(found.size) == 0.25
