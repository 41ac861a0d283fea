"""Growth and repair of facilities on paths: where they split, what that gains, what one is worth."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import mepjax as mj
from mepjax import Code

KEY = jax.random.key(0)
RNG = np.random.default_rng(4)
NODES, WEIGHTS = RNG.normal(size=(14, 2)) * [1.0, 0.6], RNG.uniform(0.5, 2.0, size=14)
END = np.array([3.0, 1.0])
Y = np.array([[0.4, 0.1], [1.6, 0.6], [1.2, -0.3], [-0.2, 0.5]])


def problem_of(m, **options):
    return mj.FacilityPath(NODES, END, m, weights=WEIGHTS, **{"n_stages": 3, **options})


spectrum_of = eqx.filter_jit(lambda problem, y, beta: problem.slot_spectrum(y, beta))


@eqx.filter_jit
def dense(problem, y, beta):
    hessian = jax.hessian(problem.free_energy)(y, beta)
    return hessian, problem.metric(y, beta).as_matrix().reshape(hessian.shape)


def apart(hessian, one, other):
    """The block of a symmetric form for two slots that move apart."""
    return np.asarray(hessian[one, :, one] - hessian[one, :, other])


def lowest_apart(problem, y, beta, one, other):
    """Lowest curvature and critical beta of two members of a group, from dense matrices."""
    hessian, metric = dense(problem, jnp.asarray(y), beta)
    values, vectors = scipy.linalg.eigh(apart(hessian, one, other), apart(metric, one, other))
    return beta / (1 - values[0]), vectors[:, 0]


OPTIONS = [
    {},
    {"n_stages": 1},
    {"self_loops": True, "direct": True},
    {"fixed": [[1.0, 1.0]], "max_hops": RNG.integers(1, 4, size=14)},
    {"stage_costs": ("euclidean", "sqeuclidean", "euclidean")},
]
each_kind = pytest.mark.parametrize("options", OPTIONS, ids=["plain", "one", "loops", "hops", "l2"])


@each_kind
def test_critical_betas_of_groups_are_those_of_the_dense_hessian(options):
    # Groups of three, of two, and one alone, off any solution.
    problem, y, beta = problem_of(6, **options), Y[np.array([0, 0, 1, 1, 0, 2])], 1.3
    spectrum = spectrum_of(problem, y, beta)
    expected = [lowest_apart(problem, y, beta, *pair)[0] for pair in ((0, 1), (2, 3))]
    np.testing.assert_allclose(spectrum.critical_beta[jnp.array([0, 1, 4])], expected[0], rtol=1e-9)
    np.testing.assert_allclose(spectrum.critical_beta[2:4], expected[1], rtol=1e-9)
    more = problem_of(7, **options)
    alone, _ = lowest_apart(more, np.concatenate([y, y[5:]]), beta, 5, 6)
    np.testing.assert_allclose(spectrum.critical_beta[5], alone, rtol=1e-9)
    np.testing.assert_allclose(spectrum.mass, problem.usage(jnp.asarray(y), beta)[:6], rtol=1e-12)
