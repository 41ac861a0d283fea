"""Functions, real systems and logs as environments."""
# pyright: reportArgumentType=false, reportOptionalSubscript=false, reportCallIssue=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import learn

from .cases import K, N, X, log, problem

CENTRES = X[:K]
WHO, TOLD = np.arange(6, dtype=np.int32), np.arange(6, dtype=np.int32) % K
KEY = jax.random.key(0)


def test_functions_answer_for_each_entity():
    def answers(key, entity, x, prescribed, centres):
        return jnp.where(entity % 2 == 0, prescribed, 0), jnp.sum((x - centres[prescribed]) ** 2)

    seen = learn.FromFunction(answers).observe(KEY, problem(), WHO, TOLD, CENTRES)
    np.testing.assert_array_equal(seen.realised, np.where(WHO % 2 == 0, TOLD, 0))
    np.testing.assert_allclose(seen.cost, ((X[WHO] - CENTRES[TOLD]) ** 2).sum(axis=1))
    both = jnp.asarray(np.stack([CENTRES, CENTRES[::-1]]))
    twice = learn.FromFunction(answers).observe(
        KEY, problem(), np.stack([WHO] * 2), np.stack([TOLD] * 2), both
    )
    np.testing.assert_allclose(twice.cost[1], ((X[WHO] - CENTRES[::-1][TOLD]) ** 2).sum(axis=1))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda *_: None, r"`fn` must return \(realised, cost\).*got NoneType"),
        (lambda *_: (jnp.zeros(2, jnp.int32), None), r"`realised`.*scalar integer.*shape \(2,\)"),
        (lambda *_: (jnp.zeros(()), None), r"`realised`.*scalar integer; got dtype float64"),
        (lambda *_: (None, jnp.zeros((), jnp.int32)), r"`cost`.*floating number; got dtype int32"),
    ],
)
def test_wrong_functions_are_named(answer, text):
    with pytest.raises(ValueError, match=text):
        learn.FromFunction(answer).observe(KEY, problem(), WHO, TOLD, CENTRES)


def test_a_real_system_is_called_once_for_each_batch_and_in_order():
    calls = []

    def system(entity, prescribed, centres):
        calls.append((entity.copy(), prescribed.copy(), centres.shape))
        return (prescribed + 1) % K, np.full(entity.shape, float(len(calls)))

    asked = learn.FromCallback(system, answers="both")

    @jax.jit
    def thrice(told):
        def one(carry, index):
            seen = asked.observe(KEY, problem(), jnp.asarray(WHO), told, jnp.asarray(CENTRES))
            return carry, seen

        return jax.lax.scan(one, 0, jnp.arange(3))[1]

    seen = thrice(jnp.asarray(TOLD))
    np.testing.assert_array_equal(seen.realised, np.stack([(TOLD + 1) % K] * 3))
    np.testing.assert_array_equal(seen.cost[:, 0], [1, 2, 3])
    assert len(calls) == 3 and calls[0][2] == (K, 2)
    np.testing.assert_array_equal(calls[0][0], WHO)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda e, j, y: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda e, j, y: j[:2], r"`realised` must have shape \(6,\); got \(2,\)"),
        (lambda e, j, y: j * 0.5, "`realised` must be integers; got dtype float64"),
        (lambda e, j, y: j + K, r"`realised` must be a cluster, in 0 .. 2; got 5"),
    ],
)
def test_what_a_real_system_cannot_mean_is_told(answer, text):
    asked = learn.FromCallback(answer)
    with pytest.raises(RuntimeError, match=text):
        asked.observe(KEY, problem(), WHO, TOLD, CENTRES)


def test_costs_of_a_real_system_are_checked():
    asked = learn.FromCallback(lambda e, j, y: np.full(e.shape, -1.0), answers="cost")
    with pytest.raises(RuntimeError, match="`cost` must be >= 0; got -1"):
        asked.observe(KEY, problem(), WHO, TOLD, CENTRES)
    with pytest.raises(ValueError, match="`answers` must be 'realised', 'cost' or 'both'"):
        learn.FromCallback(print, answers="all")


def test_no_log_is_collected_from_what_breaks_down():
    def down(entity, prescribed, centres):
        raise OSError("no link")

    with pytest.raises(RuntimeError, match="collect: the environment broke down: OSError: no link"):
        learn.collect(problem(), learn.FromCallback(down), key=KEY, rounds=1, each=4)


def test_a_log_answers_what_it_has_seen():
    found = log()
    asked = learn.Replay(found)
    who, told = (a.reshape(-1) for a in np.meshgrid(np.arange(N), np.arange(K), indexing="ij"))
    answers = np.zeros((N, K, K))
    for seed in range(5):
        seen = asked.observe(jax.random.key(seed), problem(), who, told, CENTRES)
        known = np.asarray(seen.known)
        np.add.at(answers, (who[known], told[known], np.asarray(seen.realised)[known]), 1)
    logged = np.zeros((N, K, K))
    np.add.at(logged, (found.entity, found.prescribed, found.realised), 1)
    np.testing.assert_array_equal(answers.sum(axis=2) > 0, logged.sum(axis=2) > 0)
    assert np.all(logged[answers > 0] > 0)
    one = learn.Interactions([0, 1], [0, 0], [1, 2], times=[1.0, 0.0])
    seen = learn.Replay(one).observe(KEY, problem(), WHO[:2], TOLD[:2] * 0, CENTRES)
    np.testing.assert_array_equal(seen.known, [True, False])
    with pytest.raises(TypeError, match="Replay: `interactions` must be"):
        learn.Replay(problem())


def test_a_model_by_name_only_is_refused():
    with pytest.raises(TypeError, match="`autonomy` must be"):
        learn.Simulated("uniform")
    assert isinstance(learn.Simulated(None).autonomy, mj.autonomy.NoAutonomy)
