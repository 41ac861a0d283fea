"""Overrides by log weights of two centres and of an entity and a centre, against plain NumPy."""
# pyright: reportArgumentType=false

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj

from . import clustering_numpy as oracle

RNG = np.random.default_rng(11)
N, K, BETA = 20, 4, 2.3
X, Y = RNG.normal(size=(N, 2)) + 3, RNG.normal(size=(K, 2)) + 3
WEIGHTS = RNG.uniform(0.5, 1.5, N)
RHO = WEIGHTS / WEIGHTS.sum()
KAPPA = RNG.uniform(0.1, 0.6, N)
PULL, REACH = (1.1, (0.4, -0.3)), (0.7, (-0.2, 0.5))
HEAT = 0.8


class Drawn(eqx.Module):
    strength: jax.Array
    slope: jax.Array

    def __call__(self, of, to):
        away = to[None] - of[:, None]
        return away @ self.slope - self.strength * jnp.log1p(jnp.sum(away**2, axis=-1))


def _drawn(numbers):
    return Drawn(*(jnp.asarray(a) for a in numbers))


def _by_hand(of, to, numbers):
    strength, slope = numbers
    return [[np.dot(b - a, slope) - strength * np.log1p((b - a) @ (b - a)) for b in to] for a in of]


def _dense(y, reaches=True):
    """p(k | j, i), one entity and one prescription at a time."""
    pull, reach = _by_hand(y, y, PULL), _by_hand(X, y, REACH)
    p = np.zeros((N, K, K))
    for i in range(N):
        for j in range(K):
            others = [k for k in range(K) if k != j]
            logits = np.array([pull[j][k] + (reach[i][k] if reaches else 0) for k in others])
            share = np.exp(logits - logits.max())
            p[i, j, others] = KAPPA[i] * share / share.sum()
            p[i, j, j] = 1 - KAPPA[i]
    return p


def _free_energy(y):
    return oracle.free_energy(oracle.d_avg(_dense(y), oracle.distances(X, y)), RHO, BETA)


def _problem(reaches=True, **options):
    reach = _drawn(REACH) if reaches else None
    model = mj.autonomy.Pairwise(KAPPA, _drawn(PULL), reach, **options)
    return mj.Clustering(X, K, weights=WEIGHTS, autonomy=model)


@eqx.filter_jit
def _told(problem, y):
    distances = problem.distances(y)
    origin = problem.origin
    model = problem.autonomy
    kernel = model.kernel(problem.x - origin, y - origin, origin, distances, problem.cost)
    told = jnp.arange(N) % K
    return (
        problem.average_distances(y),
        problem.free_energy(y, BETA),
        jax.grad(problem.free_energy)(y, BETA),
        model.probabilities(kernel, N, K, dtype=y.dtype),
        model.rows(kernel, distances, told),
    )


@pytest.mark.parametrize("reaches", [False, True])
@pytest.mark.parametrize("limit", [0, 2**16])
def test_averages_are_those_of_the_dense_probabilities(reaches, limit):
    average, _, _, p, rows = map(np.asarray, _told(_problem(reaches, direct_limit=limit), Y))
    dense = _dense(Y, reaches)
    np.testing.assert_allclose(p, dense, atol=1e-13)
    np.testing.assert_allclose(average, oracle.d_avg(dense, oracle.distances(X, Y)), rtol=1e-12)
    np.testing.assert_allclose(rows, dense[np.arange(N), np.arange(N) % K], atol=1e-13)


def test_free_energy_and_its_gradient_through_the_functions():
    _, energy, gradient, _, _ = _told(_problem(), Y)
    np.testing.assert_allclose(energy, _free_energy(Y), rtol=1e-12)
    step = 1e-5
    for place in np.ndindex(Y.shape):
        change = np.zeros_like(Y)
        change[place] = step
        slope = (_free_energy(Y + change) - _free_energy(Y - change)) / (2 * step)
        np.testing.assert_allclose(gradient[place], slope, rtol=1e-6, atol=1e-9)


def test_multiples_of_the_cost_are_the_softmax_family():
    def times(number):
        return lambda of, to: -number * jnp.sum((of[:, None] - to[None]) ** 2, axis=-1) / HEAT

    model = mj.autonomy.Pairwise(KAPPA, times(1.2), times(0.4))
    family = mj.autonomy.Softmax(KAPPA, 1.2, 0.4, HEAT)
    one, two = (mj.Clustering(X, K, weights=WEIGHTS, autonomy=a) for a in (model, family))
    for a, b in zip(_told(one, Y)[:3], _told(two, Y)[:3], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_factors_that_float32_cannot_hold_are_exact_too():
    """Log weights of some hundreds, whose exponentials are all zero but for one."""
    steep = (600.0, (400.0, -300.0))
    with jax.enable_x64(False):
        functions = [Drawn(np.float32(a), np.asarray(b, np.float32)) for a, b in (steep, steep)]
        model = mj.autonomy.Pairwise(0.5, *functions, direct_limit=0)
        base = mj.Clustering(X.astype(np.float32), K, autonomy=model)
        found = np.asarray(base.average_distances(jnp.asarray(Y, np.float32)))
    single = X.astype(np.float32).astype(float), Y.astype(np.float32).astype(float)
    pull, reach = (np.array(_by_hand(of, single[1], steep)) for of in (single[1], single[0]))
    logits = pull[None] + reach[:, None]
    logits[:, np.arange(K), np.arange(K)] = -np.inf
    share = np.exp(logits - logits.max(axis=2, keepdims=True))
    share /= share.sum(axis=2, keepdims=True)
    p = 0.5 * np.eye(K) + 0.5 * share
    expected = oracle.d_avg(p, oracle.distances(*single))
    # Log weights of 1e3 have 1e-4 of rounding in float32.
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_relaxed_leaves_out_what_reaches_the_entity():
    problem = _problem()
    easy, whole = (problem.relaxed(jnp.asarray(s)) for s in (0.0, 1.0))
    for found, reaches in ((easy, False), (whole, True)):
        average = np.asarray(found.average_distances(Y))
        expected = oracle.d_avg(_dense(Y, reaches), oracle.distances(X, Y))
        np.testing.assert_allclose(average, expected, rtol=1e-12)
    assert _problem(False).continuation is None


def test_bad_input_is_named():
    pull = _drawn(PULL)
    with pytest.raises(ValueError, match=r"Pairwise: `kappa` must be .*got 1\.5"):
        mj.autonomy.Pairwise(1.5, pull)
    with pytest.raises(TypeError, match=r"Pairwise: `pull` must be callable; got float"):
        mj.autonomy.Pairwise(0.5, 1.0)
    with pytest.raises(TypeError, match=r"Pairwise: `reach` must be callable"):
        mj.autonomy.Pairwise(0.5, pull, "near")
    wrong = mj.autonomy.Pairwise(0.5, lambda of, to: to)
    with pytest.raises(ValueError, match=rf"`pull` must return shape \({K}, {K}\).*got \({K}, 2\)"):
        mj.Clustering(X, K, autonomy=wrong).average_distances(Y)
