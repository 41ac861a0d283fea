"""Pictures of what was learnt: numbers with their errors, gaps, and what a log has seen."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import style


def learnt_numbers(
    names: Sequence[str],
    values: Sequence[float],
    errors: Sequence[float | None],
    *,
    truth: Mapping[str, float] | None = None,
    ax: Any = None,
) -> Any:
    """Learnt numbers with 95 % intervals, and the true ones where they are known.

    **Arguments:** `names`, `values` and standard `errors`, `None` or inf where the data do not
    tell; `truth`, by name; `ax`, matplotlib axes, new ones by default.

    **Returns:** the axes.

    **Example:** `learnt_numbers(["kappa"], [0.31], [0.01], truth={"kappa": 0.3})`.
    """
    ax = style.new_figure((6.5, 4.5)) if ax is None else ax
    rows = np.arange(len(names))[::-1]
    known = np.array([e is not None and np.isfinite(e) for e in errors])
    spread = np.array(
        [1.96 * e if ok and e is not None else 0.0 for e, ok in zip(errors, known, strict=True)]
    )
    values_ = np.asarray(values, float)
    ax.errorbar(
        values_[known], rows[known], xerr=spread[known], fmt="o", capsize=3, label="learnt, 95 %"
    )
    if not known.all():
        ax.plot(values_[~known], rows[~known], "x", color="grey", label="not told by the data")
    if truth is not None:
        places = [row for row, name in zip(rows, names, strict=True) if name in truth]
        true = [truth[name] for name in names if name in truth]
        ax.plot(true, places, "|", markersize=16, color="black", label="true")
    ax.set_yticks(rows, names)
    ax.set_xlabel("value")
    ax.legend()
    return ax


def gap_against_interactions(
    counts: Sequence[int], gaps: Mapping[str, Sequence[float]], *, ax: Any = None
) -> Any:
    """How far each learner's centres are from the best, against how much it was told; log-log.

    **Arguments:** `counts`, numbers of interactions; `gaps`, per cent for each of them, by learner.

    **Returns:** the axes.

    **Example:** `gap_against_interactions([100, 1000], {"structured": [2.0, 0.2]})`.
    """
    ax = style.new_figure((6.5, 4.5)) if ax is None else ax
    for name, values in gaps.items():
        # A gap of zero has no logarithm.
        ax.loglog(counts, np.maximum(np.asarray(values, float), 1e-4), "o-", label=name)
    ax.set_xlabel("interactions")
    ax.set_ylabel("gap to the best, %")
    ax.legend()
    return ax


def log_coverage(coverage: Any, *, ax: Any = None) -> Any:
    """How often those told each cluster went to each, as a table of colours.

    **Arguments:** `coverage`, of `Interactions.coverage`.

    **Returns:** the axes.

    **Raises:** `ValueError` where it is not known where entities went.
    """
    if coverage.went is None:
        raise ValueError("log_coverage: `coverage` must know where entities went; got costs alone.")
    ax = style.new_figure((6.5, 4.5)) if ax is None else ax
    went = coverage.went.sum(axis=0) if coverage.went.ndim == 3 else coverage.went
    shades = np.log10(np.maximum(went, 0.5))
    image = ax.imshow(shades, cmap="viridis")
    bright = shades > (shades.min() + shades.max()) / 2
    for j, row in enumerate(went):
        for k, count in enumerate(row):
            color = "black" if bright[j, k] else "white"
            ax.text(k, j, f"{count:g}", ha="center", va="center", color=color, fontsize=8)
    ax.set_xticks(range(len(went)))
    ax.set_yticks(range(len(went)))
    ax.figure.colorbar(image, ax=ax, label="log10 of interactions")
    ax.set_xlabel("went to")
    ax.set_ylabel("told")
    return ax
