"""How much the centres move, and how stable they are, along an anneal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.codes import Code
from ..engine.problem import Problem
from ..engine.solution import Solution
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def transitions(
    problem: Problem, solution: Solution, *, ax: "Sequence[Axes] | None" = None
) -> np.ndarray:
    """Draw the displacement |ΔY| of each stage and the curvature against beta.

    Between transitions nothing moves; at each the curvature falls to zero and centres separate.
    Stages that failed are marked.

    **Arguments:**

    - `problem`, `solution`: what was solved, and the outcome.
    - `ax`: two axes, for the displacement and the curvature; default those of a new figure.

    **Returns:** the two axes. Displacements are in the problem's own units; the curvature has
    none, and is 1 as beta -> 0.

    **Raises:** `ValueError` unless two axes are given, or for lanes of a `vmap`; `ImportError`
    without matplotlib, naming the command that installs it.

    Source: autonomy-aware clustering, Figure 4b.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> from mepjax.plot import transitions
    >>> problem = mj.Clustering(jnp.array([[-1.1], [-0.9], [0.9], [1.1]]), 2)
    >>> solution = mj.anneal(problem, mj.Geometric(0.3, 30.0, 1.2), key=jax.random.key(0))
    >>> [axes.get_ylabel() for axes in transitions(problem, solution)]
    ['displacement |ΔY|', 'curvature']

    ```
    """
    del problem  # the trace says it all; every figure takes both
    style.check_single("transitions", solution)
    axes = style.new_figure((7, 5.5), 2) if ax is None else ax
    axes = np.atleast_1d(np.asarray(axes, object))
    if axes.shape != (2,):
        raise ValueError(f"transitions: `ax` must hold two axes; got {axes.size}.")
    stages = int(solution.n_stages)
    trace = solution.trace
    betas = np.asarray(trace.beta, np.float64)[:stages]
    failed = np.asarray(trace.code)[:stages] >= int(Code.MAX_STEPS)
    moved, bent = axes
    for place, values, marker, name in (
        (moved, trace.displacement, "o", "displacement |ΔY|"),
        (bent, trace.curvature, "s", "curvature"),
    ):
        _draw_stages(place, betas, np.asarray(values, np.float64)[:stages], failed, marker)
        place.set_ylabel(name)
        place.set_xscale("log")
        place.margins(x=0.02)
    bent.axhline(0, color="black", linewidth=0.8, zorder=0.6)
    moved.set_ylim(bottom=0)
    marks = [style.mark_transitions(place, solution) for place in axes]
    handles, labels = moved.get_legend_handles_labels()
    if marks[0] is not None:
        handles, labels = [marks[0], *handles], [style.count_transitions(solution), *labels]
    if handles:
        style.legend_above(moved, handles, labels)
    bent.set_xlabel("β")
    return axes


def _draw_stages(
    ax: Any, betas: np.ndarray, values: np.ndarray, failed: np.ndarray, marker: str
) -> None:
    ax.plot(betas, values, color=style.PALETTE[0], linewidth=1.4, marker=marker, markersize=2.5)
    if count := int(np.sum(failed)):
        ax.plot(
            betas[failed], values[failed], linestyle="", marker="x", markersize=7,
            markeredgewidth=1.6, color=style.PALETTE[5],
            label=f"{count} {'stage' if count == 1 else 'stages'} not converged",
        )  # fmt: skip
