"""Going on learning, and learning on disk."""
# pyright: reportArgumentType=false, reportCallIssue=false

import json
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import learn

from .cases import FIT, K, M, N, X, log, problem

KEY = jax.random.key(0)
CORNERS = np.array([[3.2, 3.2], [3.8, 3.3], [3.5, 3.8]])


@pytest.mark.parametrize("learner", [learn.Structured(), learn.Counts()])
def test_half_a_log_and_then_the_rest(learner):
    found, base = log(), problem()
    whole = learn.fit(base, found, learner, **FIT)
    half = learn.fit(base, found.take(np.arange(M // 2)), learner, **FIT)
    rest = learn.update(half, base, found.take(np.arange(M // 2, M)))
    np.testing.assert_allclose(rest.parameters, whole.parameters, atol=1e-6)
    np.testing.assert_allclose(rest.covariance, whole.covariance, atol=1e-6)
    assert half.parameters.shape == rest.parameters.shape


def test_forgetting_follows_an_autonomy_that_jumps():
    base = problem()

    def rows(kappa, seed):
        asked = learn.Simulated(mj.autonomy.Uniform(kappa))
        return learn.collect(base, asked, key=jax.random.key(seed), rounds=4, each=M // 4)

    kept = learn.fit(base, rows(0.1, 0), learn.Counts(), **FIT)
    faded = learn.fit(base, rows(0.1, 0), learn.Counts(forget=0.2), **FIT)
    for seed in (1, 2):
        more = rows(0.5, seed)
        kept, faded = (learn.update(fitted, base, more) for fitted in (kept, faded))
    strays = [1 - np.mean(np.diag(fitted.autonomy.p)) for fitted in (kept, faded)]
    assert strays[0] < 0.42 and abs(strays[1] - 0.5) < 0.04
    structured = learn.fit(base, rows(0.1, 0), learn.Structured(forget=0.2), **FIT)
    structured = learn.update(structured, base, rows(0.5, 1))
    assert abs(structured.values["kappa"] - (0.5 + 0.2 * 0.1) / 1.2) < 0.05


def test_new_entities_join_with_their_weights():
    base = problem()
    more = RNG_POINTS = np.array([[3.1, 3.2], [3.7, 3.9]])
    wider = learn.with_points(base, more, [2.0, 3.0])
    assert wider.x.shape == (N + 2, 2)
    np.testing.assert_array_equal(wider.weights[-2:], [2.0, 3.0])
    np.testing.assert_allclose(wider.weights[:N], base.weights)
    each = learn.fit(base, log(), learn.Counts("none"), **FIT)
    rows = learn.Interactions([N + 1] * 50, [0] * 50, [1] * 50)
    joined = learn.update(each, wider, rows)
    assert joined.autonomy.p.shape == (N + 2, K, K)
    assert joined.autonomy.p[N + 1, 0, 1] > 0.95 and joined.autonomy.p[N, 0, 1] < 0.5
    at_once = learn.update(each, base, rows, points=more, weights=[2.0, 3.0])
    np.testing.assert_array_equal(at_once.autonomy.p, joined.autonomy.p)
    unseen = learn.update(each, base, points=more)
    assert unseen.autonomy.p.shape == (N + 2, K, K) and not np.any(unseen.identified["p"][N:])
    np.testing.assert_array_equal(unseen.autonomy.p[:N], each.autonomy.p)
    with pytest.raises(ValueError, match="one of `interactions` and `points` must be given"):
        learn.update(each, base)
    with pytest.raises(ValueError, match="`weights` are those of `points`; got no `points`"):
        learn.update(each, base, rows.take([0]), weights=[1.0])
    grouped = learn.fit(base, log(), learn.Counts(np.arange(N) % 2), **FIT)
    with pytest.raises(ValueError, match=r"`share` must have shape \(42,\) for 42 entities"):
        learn.update(grouped, wider, rows)
    again = learn.update(grouped, wider, rows, learner=learn.Counts(np.arange(N + 2) % 2))
    assert again.autonomy.group.shape == (N + 2,)
    with pytest.raises(ValueError, match=r"`points` must have shape \(m, 2\); got \(2, 1\)"):
        learn.with_points(base, RNG_POINTS[:, :1])
    with pytest.raises(TypeError, match="`learner` must be a Counts, as before; got Structured"):
        learn.update(each, wider, rows, learner=learn.Structured())


def _begun(base, monitor=None):
    return learn.begin(
        base,
        learn.Simulated(mj.autonomy.Uniform(0.2)),
        learn.Counts(),
        mj.Geometric(1.0, 500.0, 1.5),
        each=60,
        starts=2,
        fresh=100,
        key=KEY,
        monitor=monitor,
    )


def test_learning_is_resumed_to_the_bit_and_told_from_other_learning(tmp_path):
    base, asked = problem(), learn.Simulated(mj.autonomy.Uniform(0.2))
    state = _begun(base)
    whole = learn.finish(base, asked, state)
    for stages in (3, 3, 4):
        state = learn.advance(base, asked, state, stages)
        learn.save(tmp_path, base, state)
    assert [p.name for p in sorted(tmp_path.iterdir())] == [
        "checkpoint-000002",
        "checkpoint-000003",
    ]
    back = learn.load(tmp_path, base, _begun(base))
    assert int(back.n_stages) == 10
    learned = learn.finish(base, asked, back)
    jax.tree.map(np.testing.assert_array_equal, learned.params, whole.params)
    jax.tree.map(np.testing.assert_array_equal, learned.state, whole.state)
    first = learn.load(tmp_path / "checkpoint-000002", base, _begun(base))
    assert int(first.n_stages) == 6

    other = mj.Clustering(X + 1.0, K)
    with pytest.raises(ValueError, match=r"belongs to other learning: `problem.x` was"):
        learn.load(tmp_path, other, _begun(other))
    fewer = mj.Clustering(X, 2, weights=base.weights)
    with pytest.raises(ValueError, match=r"belongs to other learning: `problem.k` was 3, is 2"):
        learn.load(tmp_path, fewer, _begun(fewer))
    with pytest.raises(ValueError, match="holds a LearningState"):
        learn.load(tmp_path, base, learn.Counts())
    with pytest.raises(ValueError, match="has no checkpoint of learning"):
        learn.load(tmp_path / "nothing", base, state)
    with pytest.raises(TypeError, match="learn.save: `learnt` must be a LearningState or Learned"):
        learn.save(tmp_path, base, 3)


def test_what_was_learnt_is_kept_and_learnt_on(tmp_path):
    base, asked = problem(), learn.Simulated(mj.autonomy.Uniform(0.2))
    learned = learn.finish(base, asked, _begun(base))
    learn.save(tmp_path, base, learned)
    back = learn.load(tmp_path, base, learned.learner)
    for name in ("params", "state", "starts", "trace", "autonomy", "code", "n_interactions"):
        jax.tree.map(np.testing.assert_array_equal, getattr(back, name), getattr(learned, name))
    more = learn.collect(base, asked, key=jax.random.key(5), rounds=1, each=400)
    onwards = learn.update(back, base, more)
    assert onwards.n_interactions == learned.n_interactions + 400
    same = learn.update(learned, base, more)
    np.testing.assert_array_equal(onwards.params, same.params)
    # The centres are those of the new model.
    aware = onwards.problem(base)
    assert float(jnp.max(jnp.abs(aware.residual(onwards.params, onwards.beta)))) < 1e-4
    # Heavy newcomers draw them.
    wide = learn.with_points(base, [[9.0, 9.0]], [50.0])
    drawn = learn.update(learned, base, points=[[9.0, 9.0]], weights=[50.0])
    assert drawn.n_interactions == learned.n_interactions and int(drawn.code) == 0
    aware = drawn.problem(wide)
    assert float(jnp.max(jnp.abs(aware.residual(drawn.params, drawn.beta)))) < 1e-3
    assert float(jnp.max(drawn.params)) > 6.0


@pytest.mark.parametrize("harm", ["bit", "header", "truncated", "foreign", "missing"])
def test_harm_to_a_checkpoint_is_noticed(tmp_path, harm):
    base = problem()
    state = _begun(base)
    learn.save(tmp_path, base, state)
    learn.save(tmp_path, base, state)
    where = tmp_path / "checkpoint-000002"
    files = [p for p in (where / "arrays").rglob("*") if p.is_file()]
    largest = max(files, key=lambda p: p.stat().st_size)
    header = where / "checkpoint.json"
    if harm == "bit":
        outer = json.loads(header.read_text())
        inner = json.loads(outer["header"])
        # A hash that differs is what a flipped bit in an array comes to.
        inner["leaves"][1]["sha256"] = "0" * 64
        text = json.dumps(inner)
        import hashlib

        digest = hashlib.sha256(text.encode()).hexdigest()
        header.write_text(json.dumps({"sha256": digest, "header": text}))
    elif harm == "header":
        header.write_text(header.read_text().replace("float64", "float32", 1))
    elif harm == "truncated":
        largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
        for path in files:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif harm == "foreign":
        header.write_text('{"nothing": "of ours"}')
    else:
        for path in files:
            path.unlink()
    with pytest.raises(
        ValueError, match=r"is damaged \(.*checkpoint-000001 beside it may be whole"
    ):
        learn.load(tmp_path, base, state)


KILLED = """
import sys, time, jax
sys.path.insert(0, {root!r})
jax.config.update("jax_enable_x64", True)
from tests.unit.learn.test_online import _begun, problem, learn, mj
base, asked = problem(), learn.Simulated(mj.autonomy.Uniform(0.2))
state = _begun(base)
while not state.done:
    state = learn.advance(base, asked, state, 1)
    learn.save({folder!r}, base, state)
    print("saved", flush=True)
"""


@pytest.mark.slow
def test_killed_while_it_learns_it_goes_on_to_the_same_bits(tmp_path):
    from pathlib import Path

    root = str(Path(__file__).parents[3])
    code = KILLED.format(root=root, folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root)
    assert process.stdout is not None
    for _ in range(4):
        process.stdout.readline()
    time.sleep(0.02)
    process.kill()
    process.wait()
    process.stdout.close()
    base, asked = problem(), learn.Simulated(mj.autonomy.Uniform(0.2))
    back = learn.load(tmp_path, base, _begun(base))
    assert 3 <= int(back.n_stages) < back.rows.beta.shape[0]
    learned = learn.finish(base, asked, back)
    whole = learn.finish(base, asked, _begun(base))
    np.testing.assert_array_equal(learned.params, whole.params)
    np.testing.assert_array_equal(learned.state.counts, whole.state.counts)
