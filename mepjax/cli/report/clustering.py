"""Sections about clusters of points, for all commands that find some."""

from collections.abc import Callable
from typing import Any

import numpy as np

import mepjax as mj

from ..._core.scaling import Scaling
from ...plot.views import ClusterView
from ...select.starts import Run, percent_more
from ..tables.points import Points
from .figures import name_axes
from .model import Card, Column, Extra, Figure, Section, Table, change, percent
from .sections import DEGREES, coordinates, names_of_rows, scaled_units


def centres(points: Points, places: np.ndarray, view: ClusterView) -> Section:
    """Where K centres are: `places` (K, d) in input units, and how much belongs to each."""
    k, d = places.shape
    counts = np.bincount(view.assigned, minlength=k)
    columns = [
        Column("cluster", np.arange(k)),
        *coordinates(points.names, places),
        Column("points", counts, title="points told to join", where=("page",)),
        Column("share_told", view.told, ".7g", "weight told", percent()),
        Column("share_ending", view.ending, ".7g", "weight ending there", percent(),
               where=("csv", "page", "map")),
    ]  # fmt: skip
    note = "Centres are in the units of the input."
    note += f" The other {d - 12} columns are in centres.csv." if d > 12 else ""
    note += f" {DEGREES}" if points.lonlat is not None else ""
    maps = None if points.lonlat is None else places[:, points.lonlat]
    table = Table("centres", columns, maps, page_rows=k, on_terminal=True, note=note)
    return Section("What are the centres?", [table])


def assignments(points: Points, view: ClusterView) -> Table:
    """The cluster of every point, and the soft probabilities of all."""
    assigned, policy = view.assigned, view.policy
    rows = np.arange(len(assigned))
    columns = [
        *names_of_rows(points.ids, len(assigned)),
        Column("cluster", assigned),
        *([] if points.weights is None else [Column("weight", points.weights, ".9g",
                                                    where=("csv",))]),
        *(Column(f"p_{j}", policy[:, j], ".7g", where=("csv",)) for j in range(policy.shape[1])),
        Column("probability", policy[rows, assigned], where=("map",)),
        Column("probabilities", policy, where=("map",)),
    ]  # fmt: skip
    maps = None if points.lonlat is None else points.x[:, points.lonlat]
    return Table("assignments", columns, maps, page_rows=0)


def pictures(
    problem: mj.Clustering,
    solution: mj.Solution,
    view: ClusterView,
    points: Points,
    scaling: Scaling,
    title: str,
    ends: str,
) -> list[Figure]:
    """Points and centres, in the plane of their first two components, and the map of choices.

    **Arguments:** `title`: of the first; `ends`: what its colours mean.
    """

    def clusters(figure: Any) -> None:
        from ...plot import clusters

        axes = clusters(
            problem, solution, ax=figure.add_subplot(), units=units(points, scaling), view=view
        )  # fmt: skip
        name_axes(axes, points, scaling)
        axes.set_title(title, fontsize=10)

    def borders(figure: Any) -> None:
        from ...plot import assignment_map

        axes = assignment_map(
            problem, solution, ax=figure.add_subplot(), units=units(points, scaling), view=view
        )  # fmt: skip
        name_axes(axes, points, scaling)

    plain = bool(np.all(view.used))  # else there is a legend below
    found = [Figure("clusters", clusters, ends, (8, 7), is_file=True, is_plain=plain)]
    everywhere = not by_entity(problem.autonomy)
    if points.x.shape[1] == 2 and problem.k > 1 and everywhere:
        caption = (
            "Where a new point would be told to go at the last β. Lines are the borders between "
            "clusters; between dashed ones the best cluster has less than 90 %."
        )
        found.append(Figure("map", borders, caption, (8, 7), is_plain=plain))
    return found


def by_entity(autonomy: Any) -> bool:
    """Whether it is given point by point, so that it says nothing of new points."""
    shapes = [getattr(autonomy, name, None) for name in ("kappa", "group", "p")]
    return any(np.ndim(a) == n for a, n in zip(shapes, (1, 1, 3), strict=True) if a is not None)


def units(points: Points, scaling: Scaling) -> Callable[[Any], np.ndarray] | None:
    """To input units, for figures; but principal components are those of the scaled points."""
    return scaling.unroll if points.x.shape[1] <= 2 else None


def tree(
    problem: mj.Clustering,
    solution: mj.Solution,
    view: ClusterView,
    points: Points,
    scaling: Scaling,
) -> list[Figure]:
    """Where the centres are as beta rises, if the trace has recorded them."""
    if solution.trace.params is None:
        return []

    def draw(figure: Any) -> None:
        from ...plot import bifurcation

        axes = bifurcation(
            problem, solution, ax=figure.add_subplot(), units=units(points, scaling), view=view
        )  # fmt: skip
        if points.x.shape[1] == 1:
            axes.set_ylabel(points.names[0], parse_math=False)

    caption = (
        "Where the centres are as β rises: one line as long as they coincide, parting at "
        "transitions."
    )
    return [Figure("tree", draw, caption, is_plain=True)]


def film(
    problem: mj.Clustering,
    solution: mj.Solution,
    view: ClusterView,
    points: Points,
    scaling: Scaling,
) -> Extra:
    """The anneal as a film."""

    def write(path: Any) -> None:
        from ...plot import animate

        animate(problem, solution, path, units=units(points, scaling), view=view)

    return Extra("anneal.gif", write)


def sizes_card(told: np.ndarray, excess: np.ndarray) -> Card:
    """Shares told to join each cluster, and by how much they miss their bounds."""
    worst = float(np.max(np.abs(excess)))
    # Shares are of whole points.
    kept = f"off by {100 * worst:.2g}% at most" if worst > 1e-6 else "as asked for"
    return Card("sizes told", ", ".join(f"{100 * share:.4g}%" for share in told), f"; {kept}")


def autonomy(
    problem: mj.Clustering,
    best: Run,
    ignored: Run | None,
    view: ClusterView,
    scaling: Scaling,
) -> Section:
    """What autonomy changed, and what ignoring it would have cost."""
    question = "What did autonomy change?"
    if ignored is None:
        return Section(question, ["Unknown: no run without autonomy converged."])

    def draw(figure: Any) -> None:
        from ...plot import cost_of_ignoring

        costs = [best.cost], [ignored.cost]
        axes = cost_of_ignoring(
            problem, best.solution, ignored.solution, costs=costs, ax=figure.add_subplot()
        )
        axes.set_ylabel("hard cost under autonomy" + scaled_units(scaling))

    moved = float(np.sum(np.abs(view.told - view.ending))) / 2
    runs = (best, ignored)
    columns = [
        Column("centres", ["found with autonomy known", "found without it"], is_text=True),
        Column("hard cost under autonomy" + scaled_units(scaling), [run.cost for run in runs]),
        Column("clusters used", [run.n_used for run in runs]),
    ]
    return Section(
        question,
        [
            "Centres found as if nobody strayed cost "
            f"{change(percent_more(ignored.cost, best.cost))} when points stray as they do. With "
            f"the centres of this page {100 * moved:.1f}% of the weight shifts between clusters, "
            "net, from where it is told to go to where it ends.",
            Table("autonomy", columns, is_file=False),
            Figure(
                "ignoring",
                draw,
                "Hard cost of both, under the same autonomy.",
                (5.2, 4),
                is_plain=True,
            ),
        ],
    )
