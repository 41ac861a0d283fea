"""Logs: what they have seen, what another policy would have cost, and what is wrong with them."""
# pyright: reportArgumentType=false, reportOptionalMemberAccess=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

import mepjax as mj
from mepjax import learn
from mepjax._core import sampling

from .cases import K, N, X, log, problem, truth

CENTRES = X[:K]


def test_coverage_counts():
    pair = mj.Clustering(X[:4], 2)
    found = learn.Interactions(
        [0, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0], centres=np.zeros((3, 2, 2)), round=[0, 2, 2, 2]
    )
    seen = found.coverage(pair, groups=[0, 1, 0, 0])
    assert seen.pairs_unseen == 5 / 8 and seen.entities_unseen == 0.5
    np.testing.assert_array_equal(seen.told, [2, 2])
    np.testing.assert_array_equal(seen.went, [[[1, 0], [0, 0]], [[1, 0], [2, 0]]])
    assert seen.choices_unseen == 5 / 8 and seen.rounds_unseen == pytest.approx(1 / 3)
    assert seen.fewest_told == 2 and seen.fewest_went == 0 and seen.repeated == 1
    assert "1 interactions repeat an earlier one" in str(seen)
    only_costs = learn.Interactions([0], [1], cost=[0.5]).coverage(pair)
    assert only_costs.went is None and only_costs.rounds_unseen is None


def test_logs_join_and_part():
    found = log()
    both = found.extend(found)
    assert len(both) == 2 * len(found) and both.centres.shape[0] == 2 * found.centres.shape[0]
    second = both.take(np.arange(len(found), len(both)))
    base = problem()
    prepared = found.for_problem(base), second.for_problem(base)
    np.testing.assert_allclose(*(part.distances(base) for part in prepared))
    np.testing.assert_allclose(
        found.for_problem(base).distances(base),
        ((X[found.entity][:, None] - found.centres[found.round]) ** 2).sum(axis=2),
        atol=1e-12,
    )
    with pytest.raises(ValueError, match="`cost` must be in both of two logs or in none"):
        found.extend(learn.Interactions([0], [0], [0], cost=[1.0]))


def test_draws_by_inverse():
    rows = np.array([[0.0, 0.3, 0.7, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    uniform = np.linspace(0, 1 - 2**-53, 1001)
    many = jnp.asarray(np.broadcast_to(rows, (1001, 3, 4)))
    drawn = np.asarray(sampling.by_inverse(jnp.asarray(np.stack([uniform] * 3, 1)), many))
    assert set(drawn[:, 0]) == {1, 2} and set(drawn[:, 1]) == {0} and set(drawn[:, 2]) == {3}
    assert abs(np.mean(drawn[:, 0] == 1) - 0.3) < 2e-3


@pytest.mark.parametrize(
    "model", [None, mj.autonomy.Uniform(0.3), truth(), lambda x, y: jnp.full((K, K), 1 / K)]
)
def test_simulated_frequencies_are_the_probabilities(model):
    base = problem()
    aware = mj.Clustering(X, K, autonomy=model)
    each = 3000
    entity = np.repeat([1, 4], K * each)
    told = np.tile(np.repeat(np.arange(K), each), 2)
    seen = learn.Simulated(model).observe(jax.random.key(1), base, entity, told, CENTRES)
    p = np.asarray(aware.probabilities(CENTRES))
    for i in (1, 4):
        for j in range(K):
            at = np.asarray(seen.realised)[(entity == i) & (told == j)]
            possible = p[i, j] > 0
            counts = np.bincount(at, minlength=K)
            assert counts[~possible].sum() == 0
            if possible.sum() > 1:
                expected = each * p[i, j][possible] / p[i, j][possible].sum()
                assert chisquare(counts[possible], expected).pvalue > 1e-4


def test_environments_take_other_centres_for_each_batch():
    base = problem()
    cold = learn.Simulated(mj.autonomy.Softmax(1.0, 1.0, 0.0, 1e-6))
    centres = jnp.asarray(
        [[[3.0, 3.0], [3.1, 3.0], [4.0, 4.0]], [[3.0, 3.0], [4.0, 4.0], [3.1, 3.0]]]
    )
    told = jnp.zeros((2, 5), jnp.int32)
    seen = cold.observe(jax.random.key(0), base, told, told, centres)
    np.testing.assert_array_equal(seen.realised, np.repeat([[1], [2]], 5, axis=1))
    with pytest.raises(ValueError, match="must have one shape that begins with"):
        cold.observe(jax.random.key(0), base, told[0], told[0], centres)


def test_the_value_of_another_policy():
    """Within three standard errors in 99 % of logs; exact where the policy is the one that ran."""
    base = problem()
    aware = mj.Clustering(X, K, weights=base.weights, autonomy=truth())
    asked, beta = learn.Simulated(truth()), 5.0
    target = aware.policy(CENTRES, beta)
    expected = float(aware.terms(CENTRES, beta).distortion)
    behaviour = jax.nn.softmax(jnp.asarray(np.random.default_rng(1).normal(size=(N, K))))
    m = 400

    def one(key):
        draw, tell, ask = jax.random.split(key, 3)
        entity = jax.random.choice(draw, N, (m,), p=base.weights / base.weights.sum())
        told = jax.random.categorical(tell, jnp.log(behaviour[entity]))
        seen = asked.observe(ask, base, entity, told, CENTRES)
        found = learn.Interactions(
            entity, told, seen.realised, centres=CENTRES, propensity=behaviour[entity, told]
        )
        return found.policy_value(target, base), found.policy_value(jnp.log(behaviour), base)

    keys = jax.random.split(jax.random.key(3), 200)
    values, own = jax.jit(lambda keys: jax.lax.map(one, keys))(keys)
    inside = np.abs(values.value - expected) < 3 * values.standard_error
    assert np.mean(inside) >= 0.97
    assert abs(np.mean(values.value) - expected) < 4 * np.std(values.value) / 200**0.5
    ratio = np.std(values.value) / np.mean(values.standard_error)
    assert 0.7 < ratio < 1.3
    assert np.all(values.effective_sample_size < m)
    np.testing.assert_allclose(own.effective_sample_size, m)


def test_propensities_may_be_estimated_on_request():
    pair = mj.Clustering(X[:2], 2)
    found = learn.Interactions([0, 0, 0, 1, 1], [0, 0, 1, 0, 1], cost=[1.0, 3.0, 5.0, 2.0, 4.0])
    always_one = jnp.log(jnp.array([[1e-30, 1.0], [1e-30, 1.0]]))
    with pytest.raises(ValueError, match="`propensity` of the interactions must be known"):
        found.policy_value(always_one, pair)
    value = found.policy_value(always_one, pair, estimate_propensity=True)
    # Entity 0 was seen three times and entity 1 twice.
    np.testing.assert_allclose(value.value, (3 * 5 + 2 * 4) / 5, rtol=1e-6)
    # A pair that is only in a row that does not count.
    once = learn.Interactions([0, 1, 1], [0, 0, 1], cost=[1.0, 3.0, 9.0], times=[1.0, 1.0, 0.0])
    value = once.policy_value(jnp.log(jnp.full((2, 2), 0.5)), pair, estimate_propensity=True)
    np.testing.assert_allclose(value.value, 2.0, rtol=1e-6)
    moved = learn.Interactions([0], [0], [1], propensity=[1.0])
    at = moved.policy_value(jnp.zeros((2, 2)), pair, centres=X[:2], entities="alike")
    np.testing.assert_allclose(at.value, np.sum((X[0] - X[1]) ** 2), rtol=1e-6)


def _log(**changes):
    given = {"entity": [0, 1], "prescribed": [0, 1], "realised": [0, 1], **changes}
    return learn.Interactions(given.pop("entity"), given.pop("prescribed"), **given)


def _coverage(**changes):
    return _log(**changes).coverage(problem())


MISTAKES = {
    "none": (lambda: learn.Interactions([], [], []), "`entity` must have at least one interaction"),
    "nothing seen": (lambda: learn.Interactions([0], [0]), "one of `realised` and `cost` must be"),
    "lengths": (lambda: _log(realised=[0]), r"`realised` must have shape \(2,\) for 2.*\(1,\)"),
    "negative": (lambda: _log(realised=[0, -1]), "`realised` must be an index, in 0 .*got -1"),
    "entity": (lambda: _coverage(entity=[0, N]), f"`entity` must be a row of.*0 .. 39; got {N}"),
    "told": (
        lambda: _coverage(prescribed=[0, K]),
        "`prescribed` must be a cluster, in 0 .. 2; got 3",
    ),
    "went": (lambda: _coverage(realised=[0, 9]), "`realised` must be a cluster, in 0 .. 2; got 9"),
    "cost NaN": (lambda: _log(cost=[1.0, np.nan]), "`cost` must be finite; got 1 NaN"),
    "cost negative": (lambda: _coverage(cost=[1.0, -2.0]), "`cost` must be >= 0; got -2"),
    "round": (
        lambda: _log(centres=np.zeros((2, 3, 2)), round=[0, 2]),
        "`round` must be one of `centres`, in 0 .. 1; got 2",
    ),
    "no round": (lambda: _log(centres=np.zeros((2, 3, 2))), "`round` must tell which of the 2"),
    "round alone": (lambda: _log(round=[0, 1]), "`round` says which of `centres`.*got no"),
    "centres K": (
        lambda: _coverage(centres=np.zeros((2, 2))),
        r"`centres` must have shape \(3, 2\) in each round.*got \(2, 2\)",
    ),
    "centres NaN": (lambda: _log(centres=np.full((3, 2), np.nan)), "`centres` must be finite"),
    "propensity": (lambda: _log(propensity=[0.0, 0.5]), r"`propensity` must be in \(0, 1\]; got 0"),
    "propensity high": (lambda: _log(propensity=[1.5, 0.5]), r"in \(0, 1\]; got 1.5"),
    "times": (lambda: _log(times=[-1.0, 0.5]), "`times` must be >= 0; got -1"),
    "policy": (
        lambda: _log(propensity=[0.5, 0.5]).policy_value(np.zeros((2, 2)), problem()),
        r"`log_policy` must have shape \(40, 3\); got \(2, 2\)",
    ),
    "costs": (
        lambda: _log(propensity=[0.5, 0.5]).policy_value(np.zeros((N, K)), problem()),
        "`centres` must be given for costs that were not logged",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    make, text = MISTAKES[name]
    with pytest.raises(ValueError, match=text):
        make()


def test_fractions_are_no_indices():
    with pytest.raises(TypeError, match="`entity` must be integers; got dtype float64"):
        learn.Interactions([0.5], [0], [0])


def test_costs_that_may_be_negative_are_taken():
    profit = mj.Clustering(X, K, cost=lambda x, y: jnp.sum(x - y))
    assert _log(cost=[1.0, -2.0]).coverage(profit).fewest_told == 0
