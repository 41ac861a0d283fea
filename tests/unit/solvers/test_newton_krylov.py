"""Truncated Newton steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj

from ...registry import row_named

KEY = jax.random.key(0)


def build(name):
    return row_named(name).build(np.float64)


@pytest.mark.parametrize("name", ["none", "softmax"])
def test_the_direction_is_newtons(name):
    problem, beta = build(name), jnp.asarray(3.0)
    params = mj.anneal(problem, mj.Geometric(0.2, 3.0, 1.3), key=KEY).params
    params = params + 0.01 * jnp.sin(jnp.arange(params.size).reshape(params.shape) + 1.0)
    gradient = jax.grad(problem.free_energy)(params, beta)
    hessian = jax.hessian(problem.free_energy)(params, beta).reshape(params.size, params.size)
    assert np.linalg.eigvalsh(hessian)[0] > 0
    expected = -np.linalg.solve(hessian, gradient.reshape(-1)).reshape(params.shape)
    solver = mj.NewtonKrylov(krylov=100, forcing=1e-10)
    np.testing.assert_allclose(
        solver.direction(problem, params, beta, gradient), expected, rtol=1e-7
    )


def test_at_a_saddle_it_goes_downhill():
    problem, beta = build("none"), jnp.asarray(50.0)
    # All centres at the mean, slightly apart, far beyond the first transition.
    params = problem.init(KEY) + 1e-3 * jax.random.normal(KEY, (3, 2))
    gradient = jax.grad(problem.free_energy)(params, beta)
    direction = mj.NewtonKrylov().direction(problem, params, beta, gradient)
    assert jnp.vdot(direction, gradient) < 0
    solver = mj.NewtonKrylov()
    energies = [problem.free_energy(params, beta)]
    state = solver.init(problem, params, beta)
    for _ in range(12):
        params, state, info = solver.step(problem, params, beta, state)
        assert not info.stalled
        energies.append(problem.free_energy(params, beta))
    assert np.max(np.diff(np.array(energies, float))) <= 1e-12
    assert energies[-1] < 0.5 * energies[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paths-shares", "softmax", "paths"])
def test_it_ends_where_the_default_solver_does(name):
    problem, schedule = build(name), mj.Geometric(0.2, 4.0, 1.3)
    default = mj.anneal(problem, schedule, key=KEY).raise_if_failed()
    solver = mj.NewtonKrylov(stage_max_steps=200)
    newton = mj.anneal(problem, schedule, key=KEY, solver=solver).raise_if_failed()
    np.testing.assert_allclose(newton.free_energy, default.free_energy, rtol=1e-7)
    assert int(newton.trace.steps.sum()) <= int(default.trace.steps.sum())


@pytest.mark.parametrize("bad", [{"krylov": 0}, {"forcing": 1.0}, {"shrink": 2.0}])
def test_numbers_are_checked(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        mj.NewtonKrylov(**bad)
