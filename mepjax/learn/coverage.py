"""What a log has seen, and what it has not."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core import checks
from ..problems.autonomy.grouped import as_groups
from ..problems.clustering import Clustering

if TYPE_CHECKING:
    from .interactions import Interactions


@dataclass(frozen=True)
class Coverage:
    """What a log has seen of a problem with N entities and K clusters.

    **Fields:**

    - `pairs_unseen`: share of the N x K pairs (entity, told) that never occur.
    - `choices_unseen`: share of the K x K pairs (told, went) that never occur; `None` if it is
        not known where entities went.
    - `rounds_unseen`: share of the rounds of centres without an interaction; `None` without any.
    - `entities_unseen`: share of the entities that never occur.
    - `told`: how often entities were told each cluster, shape (K,); `went`: how often those told
        j went to k, shape (K, K), or (G, K, K) with groups.
    - `fewest_told`, `fewest_went`: the smallest of these.
    - `repeated`: interactions that repeat an earlier one in every column. They count again.
    """

    pairs_unseen: float
    choices_unseen: float | None
    rounds_unseen: float | None
    entities_unseen: float
    told: np.ndarray
    went: np.ndarray | None
    fewest_told: float
    fewest_went: float | None
    repeated: int

    def __str__(self) -> str:
        parts = [f"{100 * self.pairs_unseen:.1f} % of pairs (entity, told) never seen"]
        if self.choices_unseen is not None:
            parts.append(f"{100 * self.choices_unseen:.1f} % of pairs (told, went) never seen")
        if self.rounds_unseen is not None:
            parts.append(f"{100 * self.rounds_unseen:.1f} % of rounds without an interaction")
        parts.append(f"{self.fewest_told:g} interactions with the cluster told least")
        if self.repeated:
            parts.append(f"{self.repeated} interactions repeat an earlier one and count again")
        return "; ".join(parts) + "."


def measure_coverage(log: "Interactions", problem: Clustering, groups: Any) -> Coverage:
    """`Interactions.coverage`.

    **Raises:** `TypeError` for traced values.
    """
    if not checks.is_concrete(log, problem):
        raise TypeError(
            "`coverage` looks at numbers, so it must be called outside `jit`, `grad` and `vmap`."
        )
    n, k = problem.x.shape[0], problem.k
    entity, told = np.asarray(log.entity), np.asarray(log.prescribed)
    times = np.asarray(log.counted, np.float64)
    seen = times > 0
    pairs = np.zeros((n, k))
    np.add.at(pairs, (entity, told), times)
    went = choices = None
    if log.realised is not None:
        group, count = np.zeros(n, np.int32), 1
        if groups is not None:
            group = np.asarray(as_groups("coverage", "groups", groups))
            if group.shape != (n,) or group.min() < 0:
                raise ValueError(
                    f"coverage: `groups` must be integers >= 0 of shape ({n},) for {n} entities; "
                    f"got shape {group.shape}, least {group.min()}."
                )
            count = int(group.max()) + 1
        went = np.zeros((count, k, k))
        np.add.at(went, (group[entity], told, np.asarray(log.realised)), times)
        went = went if groups is not None else went[0]
        choices = float(np.mean(went == 0))
    rounds = None
    if log.centres is not None and log.round is not None:
        present = np.unique(np.asarray(log.round)[seen])
        rounds = 1 - len(present) / log.centres.shape[0]
    columns = [log.entity, log.prescribed, log.realised, log.cost, log.round]
    table = np.stack([np.asarray(c, np.float64)[seen] for c in columns if c is not None], axis=1)
    return Coverage(
        pairs_unseen=float(np.mean(pairs == 0)),
        choices_unseen=choices,
        rounds_unseen=rounds,
        entities_unseen=float(np.mean(pairs.sum(axis=1) == 0)),
        told=pairs.sum(axis=0),
        went=went,
        fewest_told=float(pairs.sum(axis=0).min()),
        fewest_went=None if went is None else float(went.min()),
        repeated=len(table) - len(np.unique(table, axis=0)),
    )
