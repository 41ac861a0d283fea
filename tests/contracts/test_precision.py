"""Item 8: float32 agrees with float64, in one process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code

from .programs import counted, each, energy_and_policy, geometric, key, solved


@each()
def test_float32_agrees_with_float64(row):
    solved(row)  # counts traces, which an anneal of this class and shape would leave it none of
    build = row.unit or row.build
    kept, results = None, {}
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype == np.float64):
            problem = counted(row, build(dtype))
            start = None if row.start is None else row.start(problem)
            schedule = geometric(row, row.unit_beta_min, 2e3, 1.3)
            solution = mj.anneal(problem, schedule, key=key(), init=start)
            assert int(solution.code) in (row.code, Code.NEAR_CRITICAL)
            kinds = {leaf.dtype for leaf in jax.tree.leaves(solution.params)}
            assert kinds == {np.dtype(dtype)}
            if kept is None:
                kept = jax.tree.map(lambda a: np.asarray(a, np.float64), solution.params)
            params = jax.tree.map(lambda a, dtype=dtype: jnp.asarray(a, dtype), kept)
            said = {
                beta: energy_and_policy(problem, params, jnp.asarray(beta, dtype))
                for beta in row.betas
            }
            results[dtype] = said, float(problem.harden(solution.params).cost)
    (low, low_hard), (high, high_hard) = results[np.float32], results[np.float64]
    for beta in row.betas:
        assert float(low[beta][0]) == pytest.approx(float(high[beta][0]), rel=1e-4, abs=1e-6)
        np.testing.assert_allclose(np.exp(low[beta][1]), np.exp(high[beta][1]), atol=1e-3)
    assert low_hard == pytest.approx(high_hard, rel=1e-3)
