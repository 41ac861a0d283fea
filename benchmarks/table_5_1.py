"""How often persistence counts right: Table 5.1 over seeds, convex sets, and data without groups.

`python -m benchmarks table_5_1:seeds,convex,shapes,structureless,birch1` runs parts. One answer
beside those of other criteria is `mepjax reproduce table_5_1`. Public data lie in MEPJAX_DATA_DIR.
"""

import gzip
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mepjax.reproduce import NotMeasured, Setting, counting_data
from mepjax.select import persistence

from .measure import clocked

# Sets of the table that the plain index counts; what it should say.
_TABLE = {
    "iris": 2, "wine": 3, "wbc": 2, "banknote": 2, "new_thyroid": 3,
    "r15": 15, "s1": 15, "s2": 15, "d31": 31, "a2": 35,
}  # fmt: skip
# Clusters are convex where midpoints of their own points lie among their points. Shares of those
# that do not were at most .009 for 34 planar sets, and at least .1 in some cluster of the others.
_OUTSIDE = 0.02
_FOLDERS = ("fcps", "graves", "other", "sipu", "wut")
# 100,000 points: `birch1` apart.
_TOO_LARGE = ("sipu/birch1", "sipu/birch2")
_MANY_SIZES = 30
# A matrix over all pairs of points.
_SHAPE_POINTS = 1_100
# Classes, which nobody has seen to be convex, nor to be clusters.
_CLASSES = {"iris": 3, "wine": 3, "wbc": 2, "banknote": 2, "new_thyroid": 3, "glass": 6,
            "yeast": 10}  # fmt: skip


def _setting(seed: int = 0) -> Setting:
    folder = os.environ.get("MEPJAX_DATA_DIR")
    return Setting(seed=seed, data=None if folder is None else Path(folder))


def _points(name: str) -> np.ndarray:
    is_planar = name in ("r15", "s1", "s2", "d31", "a2", "birch1")
    load = counting_data.benchmark if is_planar else counting_data.labelled
    return counting_data.standardised(load(name)(_setting()))


def _largest(known: int) -> int:
    return max(12, known + max(5, known // 4))


def seeds(count: int = 20) -> Iterator[dict[str, Any]]:
    """The answer of the plain index for each set of the table and each key."""
    for name, expected in _TABLE.items():
        x, top = _points(name), _largest(expected)
        # Programs of other shapes are of no use any more.
        jax.clear_caches()
        answers, poor, seconds = Counter(), 0, []
        for seed in range(count):
            order, took = clocked(
                lambda x=x, top=top, seed=seed: persistence(
                    x, sizes=range(1, top + 1), references=0, key=jax.random.key(seed)
                )
            )
            answers[int(order.best)] += 1
            poor += bool(order.negative)
            seconds.append(took)
        yield {
            "set": name, "expected": expected, "right": answers[expected] / count,
            "answers": dict(answers), "seeds": count, "with v < 0": poor,
            "s": float(np.median(seconds)),
        }  # fmt: skip


def share_outside(points: np.ndarray, pairs: int = 2_000) -> float:
    """Share of midpoints between two points that are farther from the rest than points are.

    Distances are those to the third point, and far is above the 99th percentile of points' own.
    Small for what is convex, whatever its density; large for rings, arms and frames.
    """
    from scipy.spatial import KDTree

    if len(points) < 5:
        return 0.0
    tree = KDTree(points)
    far = np.quantile(tree.query(points, k=4)[0][:, -1], 0.99)
    first, second = np.random.default_rng(0).integers(len(points), size=(2, pairs))
    away = tree.query((points[first] + points[second]) / 2, k=3)[0][:, -1]
    return float(np.mean(away > far))


def _planar(folder: Path) -> Iterator[tuple[str, np.ndarray, set[int], set[int]]]:
    """Name, points, and numbers of clusters: of labellings that are convex, and of all of them.

    Any labelling of a set is right; label 0 is noise.
    """
    for group in _FOLDERS:
        for path in sorted((folder / "gagolews_v1" / group).glob("*.data.gz")):
            name = f"{group}/{path.name.removesuffix('.data.gz')}"
            if name in _TOO_LARGE:
                continue
            with gzip.open(path) as file:
                x = np.loadtxt(file)
            convex, known = set(), set()
            for labels in path.parent.glob(path.name.replace(".data.gz", ".labels*.gz")):
                with gzip.open(labels) as file:
                    numbers = np.loadtxt(file, dtype=int)
                clusters = np.unique(numbers[numbers > 0])
                known.add(len(clusters))
                if max(share_outside(x[numbers == c]) for c in clusters) <= _OUTSIDE:
                    convex.add(len(clusters))
            yield name, counting_data.standardised(x), convex, known


def _judged(x: np.ndarray, known: set[int], seed: int = 0) -> dict[str, Any]:
    top = min(_largest(max(known)), len(x) - 1)
    # Of many sizes references take most of the time.
    references = 10 if top <= _MANY_SIZES else 3
    order = persistence(x, sizes=range(1, top + 1), references=references, key=jax.random.key(seed))
    excess = np.min(np.asarray(order.excess, np.float64), axis=0)
    return {
        "known": sorted(known), "best": int(order.best), "clear": bool(order.clear),
        "is right": int(order.best) in known,
        "against references": int(order.sizes[np.nanargmax(excess)]),
        "smaller excess": float(excess[int(order.best) - 1]),
    }  # fmt: skip


def _summary(what: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    told = [row for row in rows if row["clear"]]
    return {
        "set": f"all {len(rows)} {what}",
        "clear": len(told),
        "clear and right": sum(row["is right"] for row in told) / max(len(told), 1),
        "right, clear or not": sum(row["is right"] for row in rows) / max(len(rows), 1),
    }


def _folder() -> Path:
    folder = _setting().data
    if folder is None:
        raise NotMeasured("no MEPJAX_DATA_DIR")
    return folder


def convex() -> Iterator[dict[str, Any]]:
    """What is clear, and whether it is right, on sets of convex clusters and sets of classes."""
    sets = [(name, x, known) for name, x, known, _ in _planar(_folder()) if known]
    rows = []
    # Small ones first.
    for name, x, known in sorted(sets, key=lambda each: max(each[2]) * each[1].size):
        jax.clear_caches()
        rows.append({"set": name} | _judged(x, known))
        yield rows[-1]
    yield _summary("sets of convex clusters", rows)
    rows = []
    for name, known in _CLASSES.items():
        rows.append({"set": name} | _judged(_points(name), {known}))
        yield rows[-1]
    yield _summary("sets of classes", rows)


def shapes() -> Iterator[dict[str, Any]]:
    """Sets that are not convex, by the commute time of a graph whose bandwidth is the default."""
    right = drawn = 0
    for name, x, is_convex, known in _planar(_folder()):
        if is_convex or len(x) > _SHAPE_POINTS:
            continue
        sizes = range(1, _largest(max(known)) + 1)
        order = persistence(x, sizes=sizes, kernel="commute_time", references=0,
                            key=jax.random.key(0))  # fmt: skip
        drawn += 1
        right += int(order.best) in known
        yield {"set": name, "known": sorted(known), "best": int(order.best),
               "is right": int(order.best) in known}  # fmt: skip
    yield {"set": f"all {drawn} shapes", "right": right / drawn}


def structureless(count: int = 200) -> Iterator[dict[str, Any]]:
    """How many draws without groups are clear: a square, and normal in 2 and 10 dimensions."""
    kinds: dict[str, Callable[[Any], np.ndarray]] = {
        "square": lambda rng: rng.uniform(size=(200, 2)),
        "normal, 2": lambda rng: rng.normal(size=(200, 2)),
        "normal, 10": lambda rng: rng.normal(size=(200, 10)),
    }
    called = {name: 0 for name in kinds}
    drawn = dict(called)
    for place in range(count):
        name = list(kinds)[place % len(kinds)]
        x = counting_data.standardised(kinds[name](np.random.default_rng(place)))
        order = persistence(x, sizes=range(1, 11), key=jax.random.key(place))
        called[name] += bool(order.clear)
        drawn[name] += 1
    for name in kinds:
        yield {"set": name, "draws": drawn[name], "clear": called[name]}
    yield {"set": "all without groups", "draws": count, "clear": sum(called.values()),
           "share clear": sum(called.values()) / count}  # fmt: skip


def birch1() -> Iterator[dict[str, Any]]:
    """100,000 points in 100 clusters."""
    order, seconds = clocked(
        lambda: persistence(
            _points("birch1"), sizes=range(1, 106), references=0, starts=1, key=jax.random.key(0)
        )
    )
    yield {
        "set": "birch1", "expected": 100, "answers": {int(order.best): 1},
        "with v < 0": len(order.negative), "v(100)": float(order.returns[99]), "s": seconds,
    }  # fmt: skip


PARTS = {"seeds": seeds, "convex": convex, "shapes": shapes, "structureless": structureless,
         "birch1": birch1}  # fmt: skip


def run(parts: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Every part, or those named; what lacks its data is told as not measured."""
    for part in parts or PARTS:
        try:
            for row in PARTS[part]():
                yield {"part": part} | row
        except NotMeasured as error:
            yield {"part": part, "set": f"not measured: {error}"}
