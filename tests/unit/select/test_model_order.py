"""The report of a number: what is best, what is clear, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax.datasets import four_square
from mepjax.select import marginal_return, persistence, persistence_of_anneal
from mepjax.select.model_order import model_order

KEY = jax.random.key(0)
X = np.array([[0.0], [1.0], [10.0], [11.0]])


def test_best_runner_up_margin_and_negative():
    report = model_order("scatter", range(1, 6), jnp.array([8.0, 4.0, 1.0, 2.0, 0.5]))
    np.testing.assert_allclose(report.returns[1:], np.log([2, 4, 0.5, 4]))
    assert (report.best, report.runner_up, report.negative) == (3, 5, (4,))
    np.testing.assert_allclose(report.margin, 0, atol=1e-12)
    assert not report.clear and not report.resolved
    assert "v < 0 at 4" in str(report) and "may be no groups" in str(report)


def test_clear_needs_both_references_to_agree_and_an_excess():
    critical = jnp.array([8.0, 1.0, 0.5])
    v = np.log([8, 2])

    def clear(uniform, normal):
        rows = np.concatenate([np.full((2, 1), np.nan), np.array([uniform, normal])], axis=1)
        return bool(model_order("scatter", range(1, 4), critical, references=rows).clear)

    assert clear([0, 0], [0, 0])
    assert clear([v[0] - 0.8, 0.3], [0, 0])
    assert not clear([v[0] - 0.2, 0.6], [0, 0])  # too small an excess
    assert not clear([v[0], 0], [0, 0])  # the first reference says 3
    assert not clear([0, 0], [v[0], 0])  # the second does


def test_clear_needs_to_be_ahead_of_every_other_size():
    critical = jnp.array([8.0, 2.0, 1.9, 0.6])  # v = 1.39, .05, 1.15
    for expected, rival in ((0.1, 0), (0.3, 4)):
        # Smaller excesses of 1.29 or 1.09, against .95.
        rows = np.array([[np.nan, expected, 0, 0.2], [np.nan, 0, 0, 0]])
        report = model_order("scatter", range(1, 5), critical, references=rows)
        assert report.best == 2 and report.rival == rival and report.clear == (rival == 0)
        assert ("4 stands out" in report.in_words()) == bool(rival)


def test_resolved_is_the_answer_and_what_follows_is_undefined():
    report = model_order("scatter", range(1, 5), jnp.array([8.0, 4.0, 0.0, 0.0]))
    assert report.best == 3 and report.resolved == 3 and np.isnan(report.returns[3])
    constant = persistence(np.ones((5, 2)), sizes=range(1, 4), references=0, key=KEY)
    assert constant.best == 1 and constant.resolved == 1


def test_of_an_anneal():
    problem = mj.Clustering(jnp.asarray(four_square(40)[0], float), 8)
    solution = mj.anneal(problem, key=KEY, detector=mj.Growth(max_steps=200, rtol=1e-3))
    report = persistence_of_anneal(problem, solution)
    betas = np.sort(np.asarray(solution.transitions)[np.isfinite(solution.transitions)])
    np.testing.assert_allclose(report.returns[1:], np.diff(np.log(betas)), rtol=1e-6)
    assert report.best == 4 and "annealing" in str(report)
    with pytest.raises(ValueError, match="at least two transitions"):
        lone = mj.Clustering(jnp.asarray(four_square(40)[0], float), 1)
        persistence_of_anneal(lone, mj.anneal(lone, mj.Explicit([1.0]), key=KEY))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": [2, 3]}, "must be 1, 2, 3"),
        ({"sizes": [1, 3]}, "without a gap"),
        ({"sizes": [1]}, "at least two"),
        ({"sizes": range(1, 6)}, "at most the number of entities, 4; got 5"),
        ({"sizes": None, "partitions": [[0, 0, 0, 0], [0, 0, 1]]}, "size 2 must have 4 labels"),
        (
            {"sizes": None, "partitions": [[0, 0, 0, 0], [0, 0, 0, 0]]},
            "2 groups without a gap; got 1",
        ),
        ({"sizes": None, "partitions": {1: [0] * 4, 3: [0, 1, 2, 2]}}, "must be 1, 2, 3"),
        ({"partitions": [[0] * 4], "sizes": [1, 2]}, "one row for each of 2"),
        ({"kind": "Scatter"}, "`kind` must be"),
        ({"kernel": "rbf"}, "`kernel` must be 'commute_time'"),
        ({"kernel": np.eye(3)}, "must give shape"),
        ({"kernel": np.eye(4), "bandwidth": 1.0}, "`bandwidth` must be None"),
        ({"kernel": "commute_time", "bandwidth": -1.0}, "`bandwidth` must be a finite number"),
        ({"weights": [1, 1, 1]}, "`weights` must have shape"),
        ({"weights": [1, 1, 1, -1]}, "`weights` must be >= 0"),
        ({"references": -1}, "`references` must be at least 0"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        persistence(X, **({"sizes": range(1, 3), "references": 0, "key": KEY} | options))


def test_data_that_are_not_finite_and_a_key_that_is_none():
    with pytest.raises(ValueError, match="`x` must be finite"):
        persistence([[np.nan], [1.0]], sizes=[1, 2], key=KEY)
    with pytest.raises(TypeError, match="random key"):
        persistence(X, key=0)


def test_sizes_are_at_most_the_entities_by_default():
    found = persistence(np.random.default_rng(0).normal(size=(4, 1)), references=0, key=KEY)
    np.testing.assert_array_equal(found.sizes, [1, 2, 3, 4])


def test_given_partitions_under_jit_are_those_without_and_the_host_is_named():
    labels = {1: [0] * 4, 2: [0, 0, 1, 1], 3: [0, 0, 1, 2]}
    weights, gram = jnp.arange(1.0, 5.0), jnp.asarray(X @ X.T)

    def returns(x, weights, kernel=None, **options):
        options = {"references": 0, "partitions": labels, "key": KEY} | options
        return persistence(x, weights=weights, kernel=kernel, **options).returns

    run = jax.jit(returns)
    points = jnp.asarray(X)
    np.testing.assert_allclose(run(points, weights), returns(X, weights), rtol=1e-6)
    np.testing.assert_allclose(
        run(points, weights, gram), returns(X, weights, gram), rtol=1e-5, atol=1e-5
    )
    for name, options in {
        "`references` must be 0": {"references": 2},
        "`x` and `kernel` must not be traced": {"kernel": "commute_time"},
    }.items():
        with pytest.raises(TypeError, match=name):
            jax.jit(lambda x, options=options: returns(x, None, **options))(points)
    with pytest.raises(TypeError, match="`partitions` must not be traced"):
        jax.jit(lambda rows: returns(points, None, partitions=rows))(jnp.zeros((2, 4), int))


def test_more_superstates_than_states_are_refused_by_name():
    with pytest.raises(ValueError, match="`max_size` must be .* at most the number of states, 3"):
        marginal_return(np.full((3, 3), 1 / 3), max_size=4)


def test_undefined_temperatures_are_no_answer():
    report = model_order("scatter", range(1, 4), jnp.asarray([4.0, jnp.nan, 1.0]))
    assert "undefined" in str(report)
    assert (report.best, report.runner_up, bool(report.clear)) == (0, 0, False)
    with pytest.raises(mj.SolveError, match="NON_FINITE"):
        report.raise_if_failed()


def test_bad_data_that_are_traced_become_a_code_with_the_same_sentence():
    labels = {1: [0] * 4, 2: [0, 0, 1, 1], 3: [0, 0, 1, 2]}
    run = jax.jit(jax.vmap(lambda x, w: persistence(x, labels, weights=w, references=0, key=KEY)))
    x, weights = jnp.stack([X, X, X]).astype(float), jnp.ones((3, 4))
    found = run(x.at[1, 2, 0].set(jnp.nan), weights.at[2, 1].set(-1.0))
    codes = [mj.Code.OK, mj.Code.NON_FINITE_INPUT, mj.Code.INVALID_INPUT]
    np.testing.assert_array_equal(found.code, codes)
    np.testing.assert_array_equal(found.best, [2, 0, 0])
    for lane, sentence in ((1, "`x` must be finite"), (2, "`weights` must be >= 0")):
        with pytest.raises(ValueError, match=sentence):
            jax.tree.map(lambda leaf, lane=lane: leaf[lane], found).raise_if_failed()
    chain = jnp.full((4, 4), 0.25).at[0, 0].set(0.5)
    rows = jax.jit(lambda p: marginal_return(p, labels, weights=jnp.ones(4)))(chain)
    with pytest.raises(ValueError, match="rows of `transitions` must sum to one"):
        rows.raise_if_failed()
