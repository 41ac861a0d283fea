"""Clusters of a stream against growth and repair on points that are kept, and against k-means.

Ten round groups and twelve centres; per cent of costs on 20,000 fresh points above those of an
anneal with repair on 20,000 others. scikit-learn's `MiniBatchKMeans` takes the same batches. After
a jump all groups stand elsewhere.
"""

import itertools
import statistics
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax.learn import OnlineClustering

_SETS, _GROUPS, _K, _D = 5, 10, 12, 4
# Standard deviations of places of groups, in those of a group.
_APART = (3, 10)
_EACH, _BATCHES, _KEPT = 256, 300, 20_000


def _drawn(places: np.ndarray, rng: np.random.Generator, n: int) -> np.ndarray:
    noise = rng.normal(size=(n, _D))
    return (places[rng.integers(len(places), size=n)] + noise).astype(np.float32)


def _cost(x: np.ndarray, centres: Any) -> float:
    squares = np.sum((x[:, None].astype(np.float64) - np.asarray(centres)) ** 2, axis=2)
    return float(np.mean(np.min(squares, axis=1)))


def run() -> Iterator[dict[str, Any]]:
    """A row a set, and the least, median and largest."""
    from sklearn.cluster import MiniBatchKMeans

    model = OnlineClustering(_K)

    @jax.jit
    def followed(state: Any, batches: Any) -> tuple[Any, Any]:
        def step(state: Any, x: Any) -> tuple[Any, Any]:
            state = model.update(state, x)
            return state, model.solution(state).params

        return jax.lax.scan(step, state, batches)

    rows: list[dict[str, Any]] = []
    for apart, seed in itertools.product(_APART, range(_SETS)):
        rng = np.random.default_rng(seed)
        places, moved = (apart * rng.normal(size=(_GROUPS, _D)) for _ in range(2))
        fresh, best = {}, {}
        for when, at in (("before", places), ("after", moved)):
            fresh[when] = _drawn(at, rng, _KEPT)
            kept = mj.Clustering(_drawn(at, rng, _KEPT), _K)
            known = mj.anneal(kept, key=jax.random.key(seed), repair=mj.Repair())
            best[when] = _cost(fresh[when], known.params)
        batches, others = (
            _drawn(at, rng, _BATCHES * _EACH).reshape(_BATCHES, _EACH, _D) for at in (places, moved)
        )
        peer = MiniBatchKMeans(_K, random_state=seed, n_init=3)
        for batch in batches:
            peer.partial_fit(batch)
        state, centres = followed(model.init(jnp.asarray(batches[0])), batches)
        _, later = followed(state, others)

        def above(y: Any, when: str = "before") -> float:
            return 100 * (_cost(fresh[when], y) / best[when] - 1)  # noqa: B023

        rows.append(
            {
                "case": f"groups {apart} apart, set {seed}",
                f"{_BATCHES} batches %": above(centres[-1]),
                f"{_BATCHES // 2} batches %": above(centres[_BATCHES // 2 - 1]),
                f"{_BATCHES} after a jump %": above(later[-1], "after"),
                "MiniBatchKMeans %": above(peer.cluster_centers_),
            }
        )
        yield rows[-1]
    numbers = [name for name in rows[0] if name != "case"]
    for told, of in (("least", min), ("median", statistics.median), ("largest", max)):
        yield {"case": told, **{name: of([row[name] for row in rows]) for name in numbers}} | (
            {"bar": "1 % after 300 batches, also after a jump"} if told == "largest" else {}
        )
