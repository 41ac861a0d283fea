"""Which agents should share a signal: greedy splitting, and search for the best clusterings."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from .._core.checks import is_count
from ..solvers.base import AbstractSolver
from .cluster_methods import Hybrid
from .factored import FactoredMDP
from .worth import Judge, Labels, canonical, clusters_of

# Clusterings that an exhaustive search solves without being asked twice.
_MOST = 200_000


class Clusterings(eqx.Module):
    """One clustering for each of several numbers of clusters.

    **Fields** (one entry per number of clusters k): `clusters`, k; `labels`, the cluster of every
    steered agent; `values`, what the clustering is worth; `gains`, values[i + 1] - values[i];
    `examined`, clusterings looked at for this k (clusters, by "subsets"); `exhaustive`, how many
    there are, the Stirling number S(N, k); and `solved`, solves in all.
    """

    clusters: Int[np.ndarray, " ks"]
    labels: Int[np.ndarray, "ks agents"]
    values: Float[np.ndarray, " ks"]
    gains: Float[np.ndarray, " gains"]
    examined: Int[np.ndarray, " ks"]
    exhaustive: tuple[int, ...] = eqx.field(static=True)
    solved: int = eqx.field(static=True)

    @property
    def gains_fall(self) -> bool:
        """Whether every gain is at most the one before it (nothing guarantees that)."""
        slack = 1e-9 * np.max(np.abs(self.values))
        return bool(np.all(np.diff(self.gains) <= slack))


def split(
    model: FactoredMDP,
    *,
    clusters: int | None = None,
    method: AbstractSolver | None = None,
    weights: Any = None,
    stop: float | None = None,
) -> Clusterings:
    """Greedy splitting: begin with one cluster, and split the one whose split gains most.

    Host code that compares whole clusterings, each with the best signals `method` finds for it;
    where clusters do not interact (`model.local_separable`) each cluster is solved once, on its
    own. Optimal for one cluster, two, and one per agent; a good heuristic between them.

    **Arguments:**

    - `clusters`: how many in the end; default one per agent.
    - `method`: as for `steer`; default `Hybrid()`. With `CVI()` values need not even rise with
        the number of clusters.
    - `weights`: of joint states, shape (|X|,): a clustering is worth weights . V. Default the mean
        over states; "norm" takes the 2-norm of V, as the paper does.
    - `stop`: end where a split gains less than this. **That is no proof that more clusters gain
        less**: the paper derives falling gains from submodularity (Lemma 6, Theorem 6), which is
        false even for local separable systems. Three agents and signals 0..3 that earn .6 on signal
        0, 1 on the agent's own: best values at one, two, three clusters are 1.8, 2.2, 3.0.

    **Returns:** `Clusterings` for k = 1, 2, ...

    **Raises:** `ValueError` for `clusters` outside 1..N, or weights of another shape; `SolveError`
    if a clustering could not be solved.

    Source: clustered control of transition-independent MDPs, Algorithm 3 (on whole clusterings).

    **Example:**

    ```python
    >>> from mepjax import datasets, mdp
    >>> found = mdp.split(datasets.channel_game(3), clusters=2)
    >>> found.labels.shape, found.examined.tolist(), found.exhaustive
    ((2, 3), [1, 3], (1, 3))

    ```
    """
    judge = Judge(model, Hybrid() if method is None else method, weights)
    units = len(judge.units)
    most = _check_clusters("split", clusters, units)
    labels: Labels = (0,) * units
    if not judge.allowed(range(units)):
        labels = _by_signals(judge)
    path, values, examined = [labels], judge([labels]), [1]
    while max(labels) + 1 < most:
        options = [option for option in _splits(labels)]
        if not options:
            break
        found = judge(options)
        best = int(np.argmax(found))
        if stop is not None and found[best] - values[-1] < stop:
            break
        labels = options[best]
        path.append(labels)
        values.append(found[best])
        examined.append(len(options))
    return _record(judge, path, values, examined)


def best_clustering(
    model: FactoredMDP,
    clusters: int | None = None,
    *,
    method: str = "exhaustive",
    solver: AbstractSolver | None = None,
    weights: Any = None,
) -> Clusterings:
    """The clustering that is worth most, among all.

    Host code. "exhaustive" solves all S(N, C) of them. "subsets" is for local separable systems,
    where the value is a sum over clusters: 2^N - 1 clusters are solved once, and dynamic
    programming over subsets (3^N sums) finds the best clustering for every number of clusters.

    **Arguments:** `clusters`, how many; `None` for all of 1..N. `solver` and `weights` are
    `method` and `weights` of `split`.

    **Returns:** `Clusterings`, of one number of clusters or of all.

    **Raises:** `ValueError` for another method, for "subsets" where clusters interact, and for
    more than 200,000 clusterings.

    Source: clustered control of transition-independent MDPs, section 5 (equation 23).

    **Example:**

    ```python
    >>> from mepjax import datasets, mdp
    >>> mdp.best_clustering(datasets.channel_game(3), 2).examined
    array([3])

    ```
    """
    if method not in ("exhaustive", "subsets"):
        raise ValueError(
            f'best_clustering: `method` must be "exhaustive" or "subsets"; got {method!r}.'
        )
    judge = Judge(model, Hybrid() if solver is None else solver, weights)
    units = len(judge.units)
    most = _check_clusters("best_clustering", clusters, units)
    wanted = range(1, units + 1) if clusters is None else [most]
    if method == "subsets":
        return _by_subsets(judge, wanted)
    count = sum(stirling(units, k) for k in wanted)
    if count > _MOST:
        raise ValueError(
            f"best_clustering: there are {count} clusterings, more than {_MOST}. Use `split`, or "
            'method="subsets" where agents are local and rewards separable.'
        )
    path, values, examined = [], [], []
    for k in wanted:
        options = [
            labels
            for labels in partitions(units, k)
            if all(judge.allowed(part) for part in clusters_of(labels))
        ]
        if not options:
            raise ValueError(
                f"best_clustering: no {k} clusters keep agents with different signals apart."
            )
        found = judge(options)
        best = int(np.argmax(found))
        path.append(options[best])
        values.append(found[best])
        examined.append(len(options))
    return _record(judge, path, values, examined, wanted)


def stirling(n: int, k: int) -> int:
    """S(n, k), how many ways there are to part n things into k clusters.

    **Example:**

    ```python
    >>> from mepjax.mdp.splitting import stirling
    >>> [stirling(10, k) for k in range(1, 11)]
    [1, 511, 9330, 34105, 42525, 22827, 5880, 750, 45, 1]

    ```
    """
    row = [1] + [0] * k
    for _ in range(n):
        row = [0] + [j * row[j] + row[j - 1] for j in range(1, k + 1)]
    return row[k]


def partitions(n: int, k: int) -> Iterator[Labels]:
    """All labels of n things in k clusters, numbered in the order of their first members."""

    def grow(labels: list[int], used: int) -> Iterator[Labels]:
        left = n - len(labels)
        if used + left < k:
            return
        if not left:
            yield tuple(labels)
            return
        for label in range(min(used + 1, k)):
            labels.append(label)
            yield from grow(labels, max(used, label + 1))
            labels.pop()

    return grow([], 0)


def _splits(labels: Labels) -> Iterator[Labels]:
    """All ways to part one cluster in two."""
    for cluster, members in enumerate(clusters_of(labels)):
        first, rest = members[0], members[1:]
        for count in range(1, len(rest) + 1):
            for leaving in itertools.combinations(rest, count):
                assert first not in leaving
                new = [max(labels) + 1 if u in leaving else label for u, label in enumerate(labels)]
                yield canonical(new)
        del cluster


def _by_signals(judge: Judge) -> Labels:
    """The coarsest clustering: units that hear the same number of signals together."""
    return canonical([judge.model.signals[agents[0]] for agents in judge.units])


def _by_subsets(judge: Judge, wanted: Sequence[int]) -> Clusterings:
    """Best sums over clusters, by dynamic programming over subsets of units."""
    if not judge.subsets:
        raise ValueError(
            'best_clustering: method="subsets" needs agents that move by their own state and '
            'signal alone, a separable reward, and weights that are no norm. Use "exhaustive".'
        )
    units = len(judge.units)
    masks = np.arange(1 << units)
    members = [tuple(np.flatnonzero(mask >> np.arange(units) & 1)) for mask in masks]
    members = [tuple(int(unit) for unit in part) for part in members]
    legal = [part for part in members[1:] if judge.allowed(part)]
    found = judge.of_subsets(legal)
    worth = np.array([found.get(part, -np.inf) for part in members])
    most = max(wanted)
    best = np.full((most + 1, 1 << units), -np.inf)
    best[0, 0] = 0.0
    chosen = np.zeros((most + 1, 1 << units), np.int64)
    for mask in range(1, 1 << units):
        # The cluster of the first unit left, with any of the others.
        lowest = mask & -mask
        parts = _submasks(mask ^ lowest) | lowest
        sums = best[:-1, mask ^ parts] + worth[parts]
        place = np.argmax(sums, 1)
        best[1:, mask] = sums[np.arange(most), place]
        chosen[1:, mask] = parts[place]
    path, values = [], []
    for k in wanted:
        mask, labels = (1 << units) - 1, np.zeros(units, int)
        for left in range(k, 0, -1):
            part = chosen[left, mask]
            labels[list(members[part])] = left
            mask ^= part
        path.append(canonical(labels.tolist()))
        values.append(float(judge._rest + best[k, -1]))
    return _record(judge, path, values, [len(legal)] * len(path), wanted)


def _submasks(mask: int) -> np.ndarray:
    """All subsets of a set of bits."""
    subsets = np.zeros(1, np.int64)
    while mask:
        lowest = mask & -mask
        subsets = np.concatenate([subsets, subsets | lowest])
        mask ^= lowest
    return subsets


def _check_clusters(owner: str, clusters: Any, units: int) -> int:
    if clusters is None:
        return units
    if not is_count(clusters) or not 1 <= clusters <= units:
        raise ValueError(
            f"{owner}: `clusters` must be an integer in 1..{units}, the agents (or groups) that "
            f"are steered; got {clusters!r}."
        )
    return int(clusters)


def _record(
    judge: Judge,
    path: list[Labels],
    values: list[float],
    examined: list[int],
    wanted: Sequence[int] | None = None,
) -> Clusterings:
    clusters = [max(labels) + 1 for labels in path] if wanted is None else list(wanted)
    return Clusterings(
        np.array(clusters),
        np.stack([judge.of_agents(labels) for labels in path]),
        np.array(values),
        np.diff(values),
        np.array(examined),
        tuple(stirling(len(judge.units), k) for k in clusters),
        judge.solved,
    )
