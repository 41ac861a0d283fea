"""What is done about transitions is one interface, and solvers that draw get keys from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax._core import trees
from mepjax.solvers.base import StepInfo
from mepjax.solvers.loop import solve_stage

from ...registry.points import points

X = points(n=12)[0]
SCHEDULE = mj.Explicit([1e-2, 1.0, 1e2])


class SomeSlots(mj.AbstractSolver):
    """Moves each centre in every other step, by lot, to where its fixed point would have it."""

    rtol: float | None = None
    max_steps: int = 2000
    stage_rtol: float | None = None
    stage_max_steps: int = 2000

    @property
    def stochastic(self):
        return True

    def init(self, problem, params, beta, *, key=None):
        return key

    def step(self, problem, params, beta, state):
        key, draw = jax.random.split(state)
        move = problem.update(params, beta) - params
        chosen = jax.random.bernoulli(draw, shape=(params.shape[0], 1))
        return params + chosen * move, key, StepInfo(move, jnp.asarray(False))


@pytest.mark.parametrize(
    "options",
    [
        {"detector": mj.Detector()},
        {"detector": mj.NoDetector()},
        pytest.param(
            {"detector": mj.Growth(), "repair": mj.Repair(swaps=2)}, marks=pytest.mark.slow
        ),
    ],
    ids=["watch", "noise", "growth"],
)
def test_a_solver_that_draws_gets_a_key_of_each_stage(options):
    problem = mj.Clustering(X, 2)
    one, same, other = (
        mj.anneal(problem, SCHEDULE, key=jax.random.key(seed), solver=SomeSlots(), **options)
        for seed in (0, 0, 1)
    )
    one.raise_if_failed()
    np.testing.assert_array_equal(one.params, same.params)
    # Other draws take other ways to the same end.
    assert not np.array_equal(one.trace.steps, other.trace.steps)
    np.testing.assert_allclose(one.free_energy, other.free_energy, rtol=1e-6)
    assert np.max(np.abs(problem.residual(one.params, one.beta))) < 1e-5


class Straight(mj.AbstractBranching):
    """Does nothing about transitions."""

    @property
    def foretells(self):
        return False

    def begin(self, problem, params, given):
        return params, jnp.zeros((), jnp.int32)

    def solve(self, problem, carry, stage, seen, ask):
        dtype = trees.dtype_of(carry.params)
        rtol, max_steps = ask.limits(stage, dtype)
        result = solve_stage(
            problem, carry.params, stage.beta, ask.solver, rtol=rtol, max_steps=max_steps
        )
        return mj.StageEnd(
            params=result.params,
            curvature=jnp.asarray(jnp.nan, dtype),
            memory=carry.memory + 1,
            code=result.code,
            steps=result.steps,
            crossed=jnp.zeros((1,), bool),
            critical=jnp.full((1,), jnp.inf, dtype),
        )


def test_a_branching_of_ones_own_is_asked_at_every_stage():
    problem = mj.Clustering(X, 2)
    state = mj.begin(problem, SCHEDULE, key=jax.random.key(0), detector=Straight())
    state = mj.advance(problem, state, 2)
    assert int(state.carry.memory) == 2
    solution = mj.finish(problem, state)
    # Nothing separates the centres, which start at one place.
    mean = X.mean(axis=0)
    np.testing.assert_allclose(solution.params, np.stack([mean, mean]), atol=1e-5)
    with pytest.raises(ValueError, match="asks the detector for the next transition"):
        mj.begin(problem, mj.CriticalJump(), key=jax.random.key(0), detector=Straight())
    with pytest.raises(TypeError, match="`detector` must be a Detector, NoDetector or Growth"):
        mj.anneal(problem, key=jax.random.key(0), detector="watch")  # type: ignore[arg-type]
