"""Points on disk: the same numbers as in memory, and every bad file named."""

import functools
import json
import tracemalloc
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax.exec import FromDisk, Rows

KEY = jax.random.key(0)
N, D, K = 1203, 2, 3
SCHEDULE = mj.Geometric(0.02, 5.0, 1.5)
CENTRES = jnp.array([[0.0, 0.0], [3.0, 1.0], [-1.0, 2.0]])
# Slabs of two blocks, the last of which is shorter than others.
DISK = FromDisk(rows=600, block=300)


def points() -> np.ndarray:
    rng = np.random.default_rng(0)
    places = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    return (places[rng.integers(3, size=N)] + rng.normal(size=(N, D))).astype(np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "points.npy", points())
    return tmp_path / "points.npy"


@functools.cache
def in_memory() -> mj.Clustering:
    return mj.Clustering(points(), K).on(mj.Streaming(block=300))


def with_measures_of(problem: mj.Clustering) -> mj.Clustering:
    """The problem in memory, with origin and spread as the pass over the file measured them."""
    return eqx.tree_at(
        lambda p: (p.origin, p.spread), in_memory(), (problem.origin, problem.spread)
    )


def test_sums_and_derivatives_are_those_in_memory(file):
    problem = mj.Clustering(Rows(file), K).on(DISK)
    same = with_measures_of(problem)
    np.testing.assert_allclose(problem.origin, in_memory().origin, rtol=1e-6)
    np.testing.assert_allclose(problem.spread, in_memory().spread, rtol=1e-6)
    np.testing.assert_allclose(problem.beta_scale(), in_memory().beta_scale(), rtol=1e-5)

    @eqx.filter_jit
    def all_of(problem: Any, beta: Any) -> Any:
        value = jax.value_and_grad(problem.free_energy)(CENTRES, beta)
        along = jax.jvp(jax.grad(problem.free_energy), (CENTRES, beta), (CENTRES, beta))[1]
        hard = problem.harden(CENTRES).cost
        return value, problem.update(CENTRES, beta), problem.terms(CENTRES, beta), along, hard

    beta = jnp.float32(0.7)
    ours, theirs = all_of(problem, beta), all_of(same, beta)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6 * np.max(np.abs(other)))


def test_an_anneal_ends_where_that_in_memory_does_and_its_labels_are_written(file):
    problem = mj.Clustering(Rows(file), K).on(DISK)
    options: dict[str, Any] = {"key": KEY, "detector": mj.Growth(sample=500)}
    ours = mj.anneal(problem, SCHEDULE, **options).raise_if_failed()
    theirs = mj.anneal(with_measures_of(problem), SCHEDULE, **options)
    hard = in_memory().harden(theirs.params)
    np.testing.assert_allclose(problem.harden(ours.params).cost, hard.cost, rtol=1e-6)
    labels = file.with_name("labels.npy")
    cost = problem.harden_to(labels, theirs.params)
    np.testing.assert_array_equal(np.load(labels), hard.assignments)
    np.testing.assert_allclose(cost, hard.cost, rtol=1e-6)
    assert [p.name for p in labels.parent.glob(".*")] == []


def test_weights_and_columns_and_a_folder_and_a_function_are_the_same_points(tmp_path):
    x, rng = points(), np.random.default_rng(1)
    weights = rng.integers(0, 4, N).astype(np.float32)
    table = np.column_stack([x[:, 0], weights, x[:, 1]])
    for i, part in enumerate(np.split(table, [100, 800])):
        np.save(tmp_path / f"part{i}.npy", part)
    of_folder = Rows(tmp_path, columns=[0, 2], weights=1)
    of_function = Rows(lambda a, b: table[a:b], weights=1, shape=table.shape)
    wide = x.astype(np.float64)
    mean = weights @ wide / weights.sum()
    covariance = np.cov(wide.T, fweights=weights.astype(int), ddof=0)
    expected = mj.Clustering(x, K, weights=weights).free_energy(CENTRES, 0.5)
    for rows in (of_folder, of_function):
        found = rows.source.measures
        np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
        np.testing.assert_allclose(found.covariance, covariance, rtol=1e-12)
        assert found.total == weights.sum()
        energy = mj.Clustering(rows, K).on(DISK).free_energy(CENTRES, 0.5)
        np.testing.assert_allclose(energy, expected, rtol=1e-6)
    assert of_folder.source.fingerprint == of_function.source.fingerprint
    # One draw from each strip of equal weight: counts differ from their share by less than two.
    drawn = of_folder.source.places(rng.uniform(size=300))
    counts = np.bincount(drawn, minlength=N)
    assert np.all(np.diff(drawn) >= 0) and np.all(counts[weights == 0] == 0)
    assert np.max(np.abs(counts - 300 * weights / weights.sum())) < 2


def test_whole_numbers_as_weights_do_not_overflow(tmp_path):
    table = np.column_stack([100 * points(), np.full(N, 2.0**61)]).astype(np.int64)
    np.save(tmp_path / "whole.npy", table)
    found = Rows(tmp_path / "whole.npy", weights=D).source.measures
    # Their sum is beyond what 64 bits hold.
    assert found.total == N * 2.0**61 > 2.0**63
    np.testing.assert_allclose(found.mean, table[:, :D].mean(axis=0))


def test_parquet_is_read_by_row_groups(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    x = points()
    table = pa.table({"a": x[:, 0], "b": x[:, 1].astype(np.float64), "n": np.arange(N)})
    parquet.write_table(table, tmp_path / "p.parquet", row_group_size=500)
    rows = Rows(tmp_path / "p.parquet", columns=["b", "a"])
    np.testing.assert_array_equal(rows.source.read(450, 1100)[0], x[450:1100, ::-1])
    with pytest.raises(ValueError, match=r"`columns` must be among a, b, n; got 'c'"):
        Rows(tmp_path / "p.parquet", columns=["c"])


def test_what_was_measured_is_kept_beside_the_file_and_measured_again_when_it_changes(file):
    first = Rows(file)
    beside = file.with_name("points.npy.measured.json")
    kept = json.loads(beside.read_text())
    kept["total"] = 7.0
    beside.write_text(json.dumps(kept))
    assert Rows(file).source.measures.total == 7.0
    np.save(file, points()[:50])
    assert Rows(file).source.measures.total == 50
    with pytest.raises(OSError, match=r"points\.npy has changed while it is used"):
        list(first.source.slabs())
    with pytest.raises(Exception, match=r"has changed while it is used"):
        jax.block_until_ready(mj.Clustering(first, K).free_energy(CENTRES, 1.0))


def test_a_file_that_is_gone_hinders_no_other(file):
    value = jax.jit(lambda problem: problem.free_energy(CENTRES, 0.5))
    first = value(mj.Clustering(Rows(file), K))
    other = file.with_name("other.npy")
    np.save(other, points())
    file.unlink()
    np.testing.assert_array_equal(value(mj.Clustering(Rows(other), K)), first)


def test_a_checkpoint_knows_the_points_by_their_hash(file, tmp_path):
    problem = mj.Clustering(Rows(file), K).on(DISK)
    state = mj.begin(problem, SCHEDULE, key=KEY, detector=mj.NoDetector())
    mj.save(tmp_path / "state", problem, state)
    again = mj.Clustering(Rows(file), K).on(DISK)
    loaded = mj.load(tmp_path / "state", again, state)
    np.testing.assert_array_equal(loaded.params, state.params)
    np.save(tmp_path / "other.npy", points() + 1)
    other = mj.Clustering(Rows(tmp_path / "other.npy"), K).on(DISK)
    with pytest.raises(ValueError, match="belongs to another anneal"):
        mj.load(tmp_path / "state", other, state)


def test_memory_does_not_grow_with_the_file():
    n = 2_000_000

    def made(first: int, last: int) -> np.ndarray:
        return np.arange(2 * first, 2 * last, dtype=np.float32).reshape(-1, 2) % 7

    tracemalloc.start()
    try:
        rows = Rows(made, shape=(n, 2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows.numbers_read == 2 * n
    # A slab in float64, some times over; all of it would be 16 MB in float32.
    assert peak < 65_536 * 2 * 8 * 8


@pytest.mark.parametrize("row", [0, 1000, N - 1])
def test_a_row_that_is_not_finite_is_named(tmp_path, row):
    x = points()
    x[row, 1] = np.nan
    np.save(tmp_path / "bad.npy", x)
    with pytest.raises(ValueError, match=f"must be finite; got .* in row {row}, and 0 more"):
        Rows(tmp_path / "bad.npy")


def bad_sources(folder: Path) -> dict[str, tuple[Any, dict[str, Any], str]]:
    x = points()
    np.save(folder / "whole.npy", x)
    raw = (folder / "whole.npy").read_bytes()
    (folder / "short.npy").write_bytes(raw[:-100])
    (folder / "words.npy").write_bytes(b"not an array")
    np.save(folder / "line.npy", x[:, 0])
    np.save(folder / "names.npy", np.array([["a", "b"]]))
    np.save(folder / "none.npy", x[:0])
    (folder / "nothing").mkdir()
    (folder / "mixed").mkdir()
    np.save(folder / "mixed/a.npy", x)
    np.save(folder / "mixed/b.npy", np.column_stack([x, x]))
    negative = np.column_stack([x, -np.ones(N, np.float32)])
    huge = np.column_stack([x.astype(np.float64), np.full(N, 1e39)])
    return {
        "truncated": (folder / "short.npy", {}, r"short\.npy is no NPY file .* or is truncated"),
        "words": (folder / "words.npy", {}, r"words\.npy is no NPY file"),
        "one axis": (folder / "line.npy", {}, r"must hold one array of shape \(rows, columns\)"),
        "strings": (folder / "names.npy", {}, "must hold integers, float32 or float64"),
        "no rows": (folder / "none.npy", {}, "must not be empty"),
        "empty folder": (folder / "nothing", {}, "must hold NPY or Parquet files; got none"),
        "columns differ": (folder / "mixed", {}, r"b\.npy has other columns than .*a\.npy"),
        "column": (folder / "whole.npy", {"columns": [2]}, "must be columns 0 to 1; got 2"),
        "twice": (folder / "whole.npy", {"columns": [0, 0]}, "must differ"),
        "shape": (lambda a, b: x[a : b - 1], {"shape": (N, 2)}, r"must return rows 0 to 1203"),
        "no shape": (lambda a, b: x[a:b], {}, "`shape` must be given"),
        "negative": (
            lambda a, b: negative[a:b], {"shape": (N, 3), "weights": 2}, "weights must be finite",
        ),
        "squares": (lambda a, b: 1e25 * x[a:b], {"shape": (N, 2)}, "points must have differences"),
        "overflow": (
            lambda a, b: huge[a:b], {"shape": (N, 3), "weights": 2}, "got inf in row 0",
        ),
    }  # fmt: skip


def test_every_bad_source_is_named(tmp_path):
    for name, (where, options, sentence) in bad_sources(tmp_path).items():
        with pytest.raises((ValueError, TypeError), match=sentence):
            Rows(where, **options)
            pytest.fail(name)
    with pytest.raises(FileNotFoundError, match="there is no"):
        Rows(tmp_path / "missing.npy")
    with pytest.raises(TypeError, match="must be a file, a folder or a function; got int"):
        Rows(3)


def test_what_needs_a_row_for_each_point_is_refused(file):
    rows = Rows(file)
    problem = mj.Clustering(rows, K)
    with pytest.raises(TypeError, match="never in memory at once"):
        problem.policy(CENTRES, 1.0)
    with pytest.raises(TypeError, match="`executor` must be FromDisk"):
        problem.on(mj.Streaming())
    with pytest.raises(TypeError, match="`executor` must be FromDisk"):
        mj.Clustering(points(), K).on(FromDisk())
    with pytest.raises(TypeError, match="`cost` must be one of SquaredEuclidean"):
        mj.Clustering(rows, K, cost="cosine")
    with pytest.raises(TypeError, match="`autonomy` must be the same for all entities"):
        mj.Clustering(rows, K, autonomy=mj.autonomy.Uniform(np.full(N, 0.1)))
    with pytest.raises(TypeError, match="`capacity` needs a `cost` that is SquaredEuclidean"):
        mj.Clustering(rows, K, cost="euclidean", capacity=np.full(K, 0.5, np.float32))
    limited = mj.Clustering(rows, K, capacity=np.full(K, 0.5, np.float32))
    with pytest.raises(TypeError, match="`capacities` must be"):
        limited.harden(limited.init(KEY), capacities="assign")
    with pytest.raises(ValueError, match="`weights` of points on disk are a column"):
        mj.Clustering(rows, K, weights=np.ones(N))
    with pytest.raises(TypeError, match="must be `mepjax.exec.Rows`"):
        in_memory().harden_to(file, CENTRES)


def test_labels_are_written_whole_or_not_at_all(file, monkeypatch):
    import os

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    problem = mj.Clustering(Rows(file), K)
    monkeypatch.setattr(os, "fsync", full)
    before = sorted(file.parent.iterdir())
    with pytest.raises(OSError, match="No space left"):
        problem.harden_to(file.with_name("labels.npy"), CENTRES)
    assert sorted(file.parent.iterdir()) == before
