"""The lowest curvature where a direction changes nothing and the metric couples variables."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.linalg

import mepjax as mj

RNG = np.random.default_rng(5)
SIZE = 5
_ROOT = RNG.normal(size=(SIZE, SIZE))
METRIC = _ROOT @ _ROOT.T + np.eye(SIZE)
GAUGE = RNG.normal(size=SIZE)
_REST = np.eye(SIZE) - np.outer(GAUGE, GAUGE) / (GAUGE @ GAUGE)
HESSIAN = _REST @ np.diag([3.0, 1.0, 4.0, 2.0, 5.0]) @ _REST


class Bowl(mj.Problem):
    """F = y^T H y / 2, which moves along the gauge leave as it is."""

    hessian: jax.Array
    metric_matrix: jax.Array

    def init(self, key):
        return jnp.ones(SIZE)

    def free_energy(self, params, beta):
        return 0.5 * params @ self.hessian @ params

    def metric(self, params, beta):
        return lx.MatrixLinearOperator(self.metric_matrix, lx.positive_semidefinite_tag)

    def policy(self, params, beta):
        return jnp.zeros((1, 1))

    def terms(self, params, beta):
        energy = self.free_energy(params, beta)
        return mj.Terms(energy, energy, jnp.zeros(()))

    def harden(self, params):
        return params

    def gauge(self, params):
        return jnp.asarray(GAUGE)[None]


@pytest.mark.parametrize("dense_limit", [24, 0], ids=["dense", "krylov"])
def test_the_gauge_is_left_out_whatever_the_metric(dense_limit):
    detector = mj.Detector(dense_limit=dense_limit)
    problem = Bowl(jnp.asarray(HESSIAN), jnp.asarray(METRIC))
    find = eqx.filter_jit(lambda p, y: mj.curvature(p, y, 1.0, detector=detector))
    found = find(problem, problem.init(None))
    values = scipy.linalg.eigh(HESSIAN, METRIC, eigvals_only=True)
    np.testing.assert_allclose(values[0], 0.0, atol=1e-12)
    assert values[1] > 0.01
    # A variable that nothing else moves has the value 1, which is above.
    assert values[1] < 1
    np.testing.assert_allclose(found, values[1], rtol=1e-9)
