"""The blocked pass of clustering, against the plain form and against brute force."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj

from ...jitted import jitted

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
AUTONOMY = {
    "none": lambda n: None,
    "uniform": lambda n: mj.autonomy.Uniform(0.3),
    "uniform by entity": lambda n: mj.autonomy.Uniform(np.linspace(0.0, 0.6, n)),
}


def large(autonomy, d, n=2700, k=30):
    """Several blocks."""
    x, weights = RNG.normal(size=(n, d)) + 3, RNG.uniform(0.1, 1.0, size=n)
    problem = mj.Clustering(x, k, weights=weights, autonomy=AUTONOMY[autonomy](n))
    assert problem._in_blocks
    return problem, problem.x[:k] + 0.01


@pytest.fixture
def plainly(monkeypatch):
    def evaluate(function):
        with monkeypatch.context() as patch:
            patch.setattr(mj.Clustering, "is_soft_means", property(lambda self: False))
            return function()

    return evaluate


@pytest.mark.parametrize("d", [2, 6])
@pytest.mark.parametrize("autonomy", AUTONOMY)
def test_blocks_equal_the_plain_form(autonomy, d, plainly):
    problem, y = large(autonomy, d)

    def functions(problem, y, beta):
        terms = problem.terms(y, beta)
        gradient = eqx.filter_grad(lambda p: p[0].free_energy(p[1], beta))((problem, y))
        arrays = [leaf for leaf in jax.tree.leaves(gradient) if leaf is not None]
        energy = problem.free_energy(y, beta)
        return [problem.update(y, beta), energy, terms.distortion, terms.entropy, *arrays]

    # One program of each form: the first call traces it.
    blocks = eqx.filter_jit(lambda problem, y, beta: functions(problem, y, beta))
    plain = eqx.filter_jit(lambda problem, y, beta: functions(problem, y, beta))
    for beta in jnp.array([0.1, 1.0, 100.0]):
        both = blocks(problem, y, beta), plainly(functools.partial(plain, problem, y, beta))
        for got, expected in zip(*both, strict=True):
            scale = 1e-300 + np.max(np.abs(expected))
            np.testing.assert_allclose(got / scale, expected / scale, atol=1e-11)


@pytest.mark.parametrize("d", [2, 6])
def test_hessian_products_equal_the_plain_form(d, plainly):
    problem, y = large("none", d)
    v = jnp.asarray(RNG.normal(size=y.shape))

    def product(y):
        return jax.jvp(jax.grad(lambda y: problem.free_energy(y, 2.0)), (y,), (v,))[1]

    got, expected = jax.jit(lambda y: product(y))(y), plainly(lambda: jax.jit(product)(y))
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-14)


# Products of many features leave squares an error of some 1e-6, so exponents one of beta times it.
@pytest.mark.parametrize("d", [2, 6])
@pytest.mark.parametrize("autonomy", AUTONOMY)
def test_slopes_in_the_data_equal_the_plain_form(autonomy, d, plainly):
    problem, y = large(autonomy, d)
    beta = 2.0
    weights = jnp.asarray(RNG.normal(size=problem.x.shape))

    def energy(x, y, beta):
        return eqx.tree_at(lambda p: p.x, problem, x).free_energy(y, beta)

    def functions():
        value, slopes = jax.value_and_grad(energy, argnums=(0, 1))(problem.x, y, beta)
        slope = jax.grad(energy)
        forward = jax.jvp(lambda x: energy(x, y, beta), (problem.x,), (weights,))[1]
        mixed = jax.grad(lambda *args: jnp.sum(weights * slope(*args)), argnums=(0, 1, 2))
        along = jax.jvp(lambda x: slope(x, y, beta), (problem.x,), (weights,))[1]
        return [value, *slopes, forward, *mixed(problem.x, y, beta), along]

    both = jax.jit(lambda: functions())(), plainly(lambda: jax.jit(functions)())
    for got, expected in zip(*both, strict=True):
        scale = 1e-300 + np.max(np.abs(expected))
        np.testing.assert_allclose(got / scale, expected / scale, atol=1e-11)


@pytest.mark.parametrize(("d", "betas"), [(6, (0.1, 100.0)), (2, (0.1, 100.0, 1e4))])
def test_float32_agrees(d, betas):
    problem, y = large("uniform", d)
    with jax.enable_x64(False):
        single = mj.Clustering(
            np.asarray(problem.x, np.float32),
            30,
            weights=np.asarray(problem.weights, np.float32),
            autonomy=mj.autonomy.Uniform(0.3),
        )
        low = [single.free_energy(y.astype(np.float32), b) for b in betas]
        entropies = [single.terms(y.astype(np.float32), b).entropy for b in betas]
    np.testing.assert_allclose(low, [jitted.free_energy(problem, y, b) for b in betas], rtol=1e-4)
    # In nats, and small where beta is large: no difference of F and D would show it.
    expected = [jitted.terms(problem, y, b).entropy for b in betas]
    np.testing.assert_allclose(entropies, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kappa", [0.0, 0.3])
def test_critical_betas_of_tied_pairs_are_those_of_the_hessian(kappa):
    # Where all slots are tied in pairs, the lowest curvature is that of one pair coming apart.
    x = RNG.normal(size=(60, 2)) * [3.0, 1.0]
    two = mj.Clustering(x, 2)
    beta = 3 * float(two.beta_scale())
    apart = mj.anneal(two, mj.Geometric(0.1 * beta, beta, 1.2), key=KEY).raise_if_failed().params
    problem = mj.Clustering(x, 4, autonomy=mj.autonomy.Uniform(kappa))
    tied = jnp.repeat(apart, 2, axis=0)
    # The fixed point under this autonomy.
    tied = jax.jit(lambda y: jax.lax.fori_loop(0, 2000, lambda _, y: problem.update(y, beta), y))(
        tied
    )
    spectrum = jitted.slot_spectrum(problem, tied, beta)
    np.testing.assert_allclose(spectrum.critical_beta[::2], spectrum.critical_beta[1::2])
    expected = 1 - beta / float(jnp.min(spectrum.critical_beta))
    np.testing.assert_allclose(mj.curvature(problem, tied, beta), expected, rtol=1e-8)


@pytest.mark.parametrize("kappa", [0.0, 0.2])
def test_first_critical_beta_is_the_closed_form(kappa):
    x = RNG.normal(size=(60, 2)) * [3.0, 1.0]
    problem = mj.Clustering(x, 4, autonomy=mj.autonomy.Uniform(kappa))
    start = problem.init(KEY)
    spectrum = jitted.slot_spectrum(problem, start, 1.0)
    largest = np.linalg.eigvalsh(np.cov(x.T, bias=True))[-1]
    firmness = 1 - kappa * 4 / 3
    np.testing.assert_allclose(spectrum.critical_beta, 0.5 / (firmness**2 * largest), rtol=1e-10)
    np.testing.assert_allclose(spectrum.mass, 0.25)


def test_removal_is_what_the_hard_cost_rises_by():
    x = RNG.normal(size=(50, 3))
    problem, y = mj.Clustering(x, 5), jnp.asarray(x[:5])
    twins = y.at[4].set(y[0])
    removal = jitted.slot_spectrum(problem, y, 1e6).removal
    hard = jitted.harden(problem, y).cost
    for slot in range(5):
        fewer = jitted.harden(mj.Clustering(x, 4), np.delete(y, slot, axis=0)).cost
        np.testing.assert_allclose(removal[slot], fewer - hard, rtol=1e-9)
    assert jitted.slot_spectrum(problem, twins, 1e6).removal[0] == 0


def test_a_pair_stands_on_the_two_halves_and_gains_what_they_save():
    x = np.array([[-1.0, 0], [-1, 0.2], [1, 0], [1, 0.2], [9, 9]])
    weights = np.array([1.0, 1, 1, 1, 2])
    problem = mj.Clustering(x, 2, weights=weights)
    y = jnp.array([[0.0, 0.1], [9.0, 9.0]])
    spectrum = jitted.slot_spectrum(problem, y, 1e3)
    pair = np.array([spectrum.first[0], spectrum.second[0]])
    np.testing.assert_allclose(pair[np.argsort(pair[:, 0])], [[-1, 0.1], [1, 0.1]], atol=1e-9)
    three = mj.Clustering(x, 3, weights=weights)
    split = np.concatenate([pair, y[1:]])
    saved = jitted.harden(problem, y).cost - jitted.harden(three, split).cost
    np.testing.assert_allclose(spectrum.gain, np.array([saved, 0.0]), atol=1e-9)
    np.testing.assert_allclose(spectrum.share[0], 0.5)
    assert spectrum.critical_beta[1] == np.inf


def test_a_few_entities_far_away_get_a_centre_of_their_own():
    # The leading eigenvector is that of the many, though a centre for the few gains more.
    rng = np.random.default_rng(0)
    many = rng.normal(size=(400, 3)) * [3.0, 1.0, 0.1]
    few = rng.normal(size=(4, 3)) * 0.1 + [0.0, 0.0, 25.0]
    problem = mj.Clustering(np.concatenate([many, few]), 2)
    y = jnp.broadcast_to(jnp.mean(problem.x, axis=0), (2, 3))
    spectrum = jitted.slot_spectrum(problem, y, 0.5)
    heights = np.array([spectrum.first[0, 2], spectrum.second[0, 2]])
    np.testing.assert_allclose(np.sort(heights), [0.0, 25.0], atol=0.2)


def test_a_slot_without_mass_wants_nothing():
    problem = mj.Clustering(np.array([[-1.0], [1.0]]), 3)
    spectrum = jitted.slot_spectrum(problem, jnp.array([[-1.0], [1.0], [1e6]]), 10.0)
    assert spectrum.mass[2] == 0
    assert spectrum.critical_beta[2] == np.inf
    assert spectrum.gain[2] == 0
    assert spectrum.removal[2] == 0
    assert all(np.all(np.isfinite(leaf)) for leaf in (spectrum.first, spectrum.second))


# Samples.


def test_a_sample_is_drawn_in_proportion_to_the_weights():
    x, weights = np.arange(1000.0)[:, None], np.where(np.arange(1000) < 500, 3.0, 1.0)
    weights[7] = 0
    sample = mj.Clustering(x, 2, weights=weights).subsample(KEY, 200)
    assert sample.x.shape == (200, 1)
    np.testing.assert_allclose(sample.weights, 1.0)
    low = int(np.sum(np.asarray(sample.x) < 500))
    assert abs(low - 150) <= 1
    assert 7.0 not in np.asarray(sample.x)


def test_a_sample_no_smaller_is_the_problem_itself():
    problem = mj.Clustering(np.arange(5.0)[:, None], 2)
    assert problem.subsample(KEY, 5) is problem


@pytest.mark.parametrize(
    "model",
    [
        lambda n: mj.autonomy.Uniform(np.linspace(0, 1, n)),
        lambda n: mj.autonomy.Softmax(np.linspace(0, 1, n)),
        lambda n: mj.autonomy.Dense(np.stack([np.eye(2)] * n)),
    ],
)
def test_numbers_of_every_entity_are_sampled_with_it(model):
    x = np.linspace(0.0, 1.0, 40)[:, None]
    sample = mj.Clustering(x, 2, autonomy=model(40)).subsample(KEY, 10)
    if not isinstance(sample.autonomy, mj.autonomy.Dense):
        kappa = getattr(sample.autonomy, "kappa")  # noqa: B009
        np.testing.assert_allclose(kappa, sample.x[:, 0])
    sample.free_energy(sample.init(KEY), 1.0)
