"""An anneal in pieces is the anneal, to the bit, also through a file and in another process."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code
from mepjax.engine.checkpoint import _MAGIC

KEY = jax.random.key(3)
POINTS = np.random.default_rng(0).normal(size=(18, 2)) + np.repeat(3 * np.eye(3)[:, :2], 6, axis=0)


def statistic(problem, params, beta):
    return {"cost": problem.harden(params).cost * beta, "used": jnp.argmax(params[:, 0])}


def clustering(autonomy: Any = None, dtype: Any = np.float64) -> Any:
    return mj.Clustering(jnp.asarray(POINTS, dtype), 3, autonomy=autonomy)


# Problem, schedule and options of an anneal of few stages.
CASES = {
    "kicks": lambda: (
        clustering(mj.autonomy.Uniform(0.1)),
        mj.Geometric(0.1, 4.0, 1.7, max_stages=10),
        {"record": mj.Record(params=True, statistic=statistic)},
    ),
    "growth": lambda: (
        clustering(),
        None,
        {"detector": mj.Growth(sample=12), "repair": mj.Repair(swaps=3)},
    ),
    "relaxation": lambda: (
        clustering(mj.autonomy.Softmax(0.3, 1.0, 0.5, 0.05)),
        mj.Geometric(0.1, 4.0, 3.0),
        {"adjoint": mj.NoGrad()},
    ),
    "critical-jump": lambda: (
        clustering(dtype=np.float32),
        mj.CriticalJump(beta_max=4.0, max_stages=40),
        {"solver": mj.Anderson()},
    ),
    "noise": lambda: (
        clustering(),
        mj.Linear(0.1, 4.0, 0.7),
        {"detector": mj.NoDetector(), "init": POINTS[:3]},
    ),
}


def begun(case):
    problem, schedule, options = CASES[case]()
    return problem, mj.begin(problem, schedule, key=KEY, **options)


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("case", CASES)
def test_pieces_are_the_whole(case, caplog):
    problem, schedule, options = CASES[case]()
    whole = mj.anneal(problem, schedule, key=KEY, **options).raise_if_failed()
    start = mj.begin(problem, schedule, key=KEY, **options)
    total = int(whole.n_stages) + start.options.relaxation
    assert total > 4 and (start.options.relaxation > 0) == (case == "relaxation")

    def solution(*pieces):
        state = start
        for number, stages in enumerate(pieces):
            state = mj.advance(problem, state, stages)
            assert int(state.n_advanced) == min(sum(pieces[: number + 1]), total)
            assert bool(state.done) == (int(state.n_advanced) == total)
        return mj.finish(problem, state)

    with jax.log_compiles(True), caplog.at_level(logging.WARNING):
        for pieces in ((0,), (1,), (total // 2,), (total - 1,), (total,), (total + 9,)):
            assert_same_bits(solution(*pieces), whole)
        assert_same_bits(solution(1, 0, 2, 1, np.int64(1), total), whole)
        assert_same_bits(solution(*[1] * total), whole)
        # One program, whatever the pieces.
        compiled = [r.getMessage() for r in caplog.records if "anneal" in r.getMessage()]
    assert not compiled


def test_a_state_shows_how_far_it_is():
    problem, state = begun("kicks")
    whole = mj.anneal(problem, *CASES["kicks"]()[1:2], key=KEY, **CASES["kicks"]()[2])
    assert np.isnan(state.beta) and int(state.n_stages) == 0 and not state.done
    state = mj.advance(problem, state, 3)
    assert int(state.n_stages) == int(state.n_advanced) == 3
    assert float(state.beta) == float(whole.trace.beta[2])
    np.testing.assert_array_equal(state.params, whole.trace.params[2])
    np.testing.assert_array_equal(state.trace.free_energy[:3], whole.trace.free_energy[:3])
    assert np.isnan(state.trace.free_energy[3:]).all()
    assert state.trace.beta.shape == whole.trace.beta.shape
    # Nothing of the problem is in it.
    assert all(np.shape(leaf) != POINTS.shape for leaf in jax.tree.leaves(state))


def test_stages_of_the_continuation_count_and_leave_no_trace():
    problem, state = begun("relaxation")
    relaxation = problem.continuation.stages if problem.continuation else 0
    paused = mj.advance(problem, state, relaxation)
    assert int(paused.n_stages) == 0 and int(paused.n_advanced) == relaxation
    assert np.isnan(paused.trace.beta).all() and paused.trace.beta.shape == (5,)
    assert not np.array_equal(paused.params, state.params)


def _quiet() -> Any:
    return {"detector": mj.NoDetector()}


def test_a_schedule_without_enough_stages_is_done_and_says_so():
    problem, options = clustering(), _quiet()
    schedule = mj.Geometric(0.1, 4.0, 1.7, max_stages=4)
    state = mj.advance(problem, mj.begin(problem, schedule, key=KEY, **options), 100)
    assert bool(state.done) and int(state.n_stages) == 4
    solution = mj.finish(problem, state)
    assert int(solution.code) == Code.MAX_STEPS
    assert_same_bits(solution, mj.anneal(problem, schedule, key=KEY, **options))


def test_a_monitor_hears_of_each_stage_once():
    seen: list[Any] = []
    problem = clustering()
    schedule = mj.Explicit([0.2, 0.5, 1.0, 2.0])
    options = _quiet() | {"monitor": seen.append}
    state = mj.begin(problem, schedule, key=KEY, **options)
    for heard in (1, 3, 4, 4):
        state = mj.advance(problem, state, 2 if heard > 1 else 1)
        jax.effects_barrier()
        assert [p.stage for p in sorted(seen)] == list(range(1, heard + 1))
    mj.finish(problem, state)
    jax.effects_barrier()
    assert len(seen) == 4


def test_lanes_stop_at_their_own_stages_under_jit_and_vmap():
    problem, schedule, _ = CASES["noise"]()
    keys, stages = jax.random.split(KEY, 2), jnp.asarray([2, 4])
    options = _quiet()

    @jax.jit
    @jax.vmap
    def pause(key, stages):
        return mj.advance(problem, mj.begin(problem, schedule, key=key, **options), stages)

    states = pause(keys, stages)
    np.testing.assert_array_equal(states.n_stages, stages)
    assert states.trace.beta.shape == (2, schedule.max_stages)
    solutions = jax.jit(jax.vmap(lambda state: mj.finish(problem, state)))(states)
    solutions.raise_if_failed()
    for lane, key in enumerate(keys):
        single = mj.anneal(problem, schedule, key=key, **options)
        np.testing.assert_allclose(solutions.params[lane], single.params, rtol=1e-9)
        np.testing.assert_allclose(
            solutions.trace.free_energy[lane], single.trace.free_energy, rtol=1e-9
        )


def test_the_gradient_is_that_of_the_anneal_however_the_state_was_come_by():
    problem, schedule, _ = CASES["noise"]()
    options = _quiet()
    state = mj.advance(problem, mj.begin(problem, schedule, key=KEY, **options), 3)

    def at(x):
        return eqx.tree_at(lambda p: p.x, problem, x)

    def whole(x):
        return jnp.sum(mj.anneal(at(x), schedule, key=KEY, **options).params ** 3)

    def rest(x):
        return jnp.sum(mj.finish(at(x), state).params ** 3)

    def pieces(x):
        state = mj.begin(at(x), schedule, key=KEY, **options)
        return jnp.sum(mj.finish(at(x), mj.advance(at(x), state, 3)).params ** 3)

    expected = jax.grad(whole)(problem.x)
    assert np.max(np.abs(expected)) > 0.1
    for function in (rest, pieces):
        np.testing.assert_allclose(jax.grad(function)(problem.x), expected, rtol=1e-9, atol=1e-12)


# --- Files. ------------------------------------------------------------------------------------

_OTHER_PROCESS = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import mepjax as mj
from tests.unit.engine.test_resume import begun
case, source, target = sys.argv[1:]
problem, like = begun(case)
solution = mj.finish(problem, mj.load(source, problem, like))
np.savez(target, *jax.tree.leaves(solution))
"""


@pytest.mark.parametrize("case", ["kicks", "growth"])
def test_a_file_goes_on_in_another_process(case, tmp_path):
    problem, state = begun(case)
    path = tmp_path / "state.mepjax"
    mj.save(path, problem, mj.advance(problem, state, 3))
    root = Path(__file__).parents[3]
    subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS, case, path, tmp_path / "leaves.npz"],
        check=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    problem, schedule, options = CASES[case]()
    whole = jax.tree.leaves(mj.anneal(problem, schedule, key=KEY, **options))
    with np.load(tmp_path / "leaves.npz") as file:
        there = [file[name] for name in file.files]
    assert_same_bits(there, [np.asarray(leaf) for leaf in whole])


@pytest.fixture
def saved(tmp_path):
    problem, state = begun("kicks")
    path = tmp_path / "state.mepjax"
    state = mj.advance(problem, state, 2)
    mj.save(path, problem, state)
    return path, problem, state


@pytest.mark.parametrize("case", CASES)
def test_a_file_holds_the_state(case, tmp_path):
    problem, like = begun(case)
    state = mj.advance(problem, like, 2)
    mj.save(tmp_path / "a", problem, state)
    loaded = mj.load(tmp_path / "a", problem, like)
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(state), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_other_kinds_of_keys_are_told_apart(tmp_path):
    problem, schedule, options = CASES["noise"]()
    legacy = mj.begin(problem, schedule, key=jax.random.PRNGKey(3), **options)
    mj.save(tmp_path / "a", problem, legacy)
    # The same key in the two styles is one.
    mj.load(tmp_path / "a", problem, mj.begin(problem, schedule, key=KEY, **options))
    other = mj.begin(problem, schedule, key=jax.random.key(3, impl="rbg"), **options)
    with pytest.raises(ValueError, match=r"`key` was threefry2x32 key .*, is rbg key"):
        mj.load(tmp_path / "a", problem, other)


def _changed(what):
    problem, schedule, options = CASES["kicks"]()
    key = KEY
    if what == "problem.x":
        problem = eqx.tree_at(lambda p: p.x, problem, problem.x.at[0, 0].add(1e-9))
    elif what == "problem.autonomy.kappa":
        problem = clustering(mj.autonomy.Uniform(0.2))
    elif what == "problem.k":
        problem = mj.Clustering(POINTS, 4, autonomy=mj.autonomy.Uniform(0.1))
    elif what == "schedule.factor":
        schedule = mj.Geometric(0.1, 4.0, 1.70001, max_stages=10)
    elif what == "schedule.max_stages":
        schedule = mj.Geometric(0.1, 4.0, 1.7, max_stages=11)
    elif what == "schedule":
        schedule = mj.Explicit([0.1, 4.0])
    elif what == "solver.max_steps":
        options["solver"] = mj.FixedPoint(max_steps=3)
    elif what == "detector.detector.kick":
        options["detector"] = mj.Growth(detector=mj.Detector(kick=0.5))
    elif what == "record.statistic":
        options["record"] = mj.Record(params=True, statistic=lambda p, y, beta: beta)
    elif what == "key":
        key = jax.random.key(4)
    return problem, mj.begin(problem, schedule, key=key, **options)


@pytest.mark.parametrize(
    "what",
    [
        "problem.x",
        "problem.autonomy.kappa",
        "problem.k",
        "schedule.factor",
        "schedule.max_stages",
        "schedule",
        "solver.max_steps",
        "detector.detector.kick",
        "record.statistic",
        "key",
    ],
)
def test_the_file_of_another_anneal_is_refused_by_name(what, saved):
    path, _, _ = saved
    with pytest.raises(ValueError, match=rf"belongs to another anneal: .*`{what}` was .*, is "):
        mj.load(path, *_changed(what))


def test_functions_are_compared_by_code_and_what_they_enclose(tmp_path):
    def state(offset, sign=1):
        def positive(problem, params, beta):
            return beta + offset

        def negative(problem, params, beta):
            return beta - offset

        negative.__qualname__ = positive.__qualname__
        record = mj.Record(statistic=positive if sign > 0 else negative)
        return mj.begin(problem, schedule, key=KEY, record=record, **options)

    problem, schedule, options = CASES["noise"]()
    mj.save(tmp_path / "a", problem, state(1.0))
    mj.load(tmp_path / "a", problem, state(1.0))
    with pytest.raises(ValueError, match=r"`record.statistic.offset` was 1.0, is 2.0"):
        mj.load(tmp_path / "a", problem, state(2.0))
    with pytest.raises(ValueError, match=r"`record.statistic` was .*positive"):
        mj.load(tmp_path / "a", problem, state(1.0, sign=-1))


def test_what_is_no_whole_checkpoint_is_refused(saved, tmp_path):
    path, problem, state = saved
    content = path.read_bytes()
    for part in (
        content[:-1],
        content[: len(content) // 2],
        content[: len(_MAGIC)],
        content + b"x",
    ):
        (tmp_path / "bad").write_bytes(part)
        with pytest.raises(ValueError, match=r"bad is damaged"):
            mj.load(tmp_path / "bad", problem, state)
    flipped = bytearray(content)
    flipped[-3] ^= 1
    (tmp_path / "bad").write_bytes(flipped)
    with pytest.raises(ValueError, match=r"bad is damaged"):
        mj.load(tmp_path / "bad", problem, state)
    for text in (b"", b"x,y\n1,2\n", content[: len(_MAGIC) - 1]):
        (tmp_path / "bad").write_bytes(text)
        with pytest.raises(ValueError, match=r"bad is not a checkpoint of an anneal"):
            mj.load(tmp_path / "bad", problem, state)
    with pytest.raises(FileNotFoundError):
        mj.load(tmp_path / "none", problem, state)


def _rewritten(path, change):
    from mepjax._core.checkpoints import checksum

    content = path.read_bytes()[len(_MAGIC) + len(checksum(b"")) :]
    line, _, arrays = content.partition(b"\n")
    header = json.loads(line)
    change(header)
    content = json.dumps(header).encode() + b"\n" + arrays
    path.write_bytes(_MAGIC + checksum(content) + content)


def test_other_versions_warn_and_another_format_is_refused(saved):
    path, problem, state = saved
    _rewritten(path, lambda header: header["versions"].update(jax="0.0.1"))
    with pytest.warns(mj.CheckpointWarning, match=r"bits may differ: `jax` was 0.0.1, is "):
        loaded = mj.load(path, problem, state)
    assert int(loaded.n_stages) == 2
    _rewritten(path, lambda header: header.update(format=2, versions={"mepjax": "9.0"}))
    with pytest.raises(ValueError, match=r"has format 2, of mepjax 9.0; this version reads 1"):
        mj.load(path, problem, state)


def test_an_older_file_stays_where_a_new_one_cannot_be_written(saved, monkeypatch):
    path, problem, state = saved
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        mj.save(path, problem, mj.advance(problem, state, 1))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    with pytest.raises(FileNotFoundError):
        mj.save(path.parent / "none" / "a", problem, state)


# --- Misuse. -----------------------------------------------------------------------------------


def test_misuse_says_what_is_wrong(saved):
    path, problem, state = saved
    for stages in (-1, 1.5, "all", True, None):
        with pytest.raises(ValueError, match="`stages` must be an int of at least 0"):
            mj.advance(problem, state, stages)
    with pytest.raises(TypeError, match=r"`stages` must be an integer; got dtype float64"):
        jax.jit(lambda stages: mj.advance(problem, state, stages).beta)(1.5)
    wrong: Any = problem
    for function in (
        lambda: mj.advance(wrong, wrong, 1),
        lambda: mj.finish(wrong, wrong),
        lambda: mj.save(path, wrong, wrong),
        lambda: mj.load(path, wrong, wrong),
    ):
        with pytest.raises(TypeError, match=r"`state` must be an AnnealState, .* got Clustering"):
            function()
    wrong = state
    with pytest.raises(TypeError, match="`problem` must be a mepjax.Problem"):
        mj.advance(wrong, state, 1)
    larger = mj.Clustering(POINTS, 4)
    with pytest.raises(ValueError, match=r"another problem: .*float64 \(3, 2\).*float64 \(4, 2\)"):
        mj.finish(larger, state)
    with pytest.raises(ValueError, match=r"another problem: .*float64 \(3, 2\).*float32 \(3, 2\)"):
        mj.finish(clustering(dtype=np.float32), state)
    with pytest.raises(TypeError, match=r"`save` looks at numbers, so it must be called outside"):
        jax.jit(lambda x: mj.save(path, eqx.tree_at(lambda p: p.x, problem, x), state))(problem.x)
    with pytest.raises(TypeError, match="write `key=jax.random.key|must be a JAX random key"):
        mj.begin(problem, key=0)
