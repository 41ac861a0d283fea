"""Figures: each function takes (problem, solution) and returns matplotlib axes.

`animate` alone writes a file; `cost_ratio`, `learning_curves` and `value_by_clusters` take plain
numbers, `sensitivity` derivatives, `policy_map` an MDP and what `mdp.solve` found, `returns` and
`trade_off` a report of `mepjax.select`, `track` a scene that `mepjax.control` followed, `splitting`
and `steered` what `mepjax.mdp` found. Every figure can be read by the colour-blind and in print:
colours never stand alone, but with numbers, markers, line styles or hatches.
"""

from .aggregation import aggregation
from .animation import animate
from .assignment_map import assignment_map
from .bifurcation import bifurcation
from .capacity_usage import capacity_usage
from .clusters import clusters
from .cost_of_ignoring import cost_of_ignoring
from .cost_ratio import cost_ratio
from .learning import gap_against_interactions, learnt_numbers, log_coverage
from .learning_curves import learning_curves
from .policy_map import policy_map
from .returns import returns
from .routes import routes
from .sensitivity import sensitivity
from .small_cells import small_cells
from .sparse_path import sparse_path
from .splitting import splitting
from .steered import steered
from .track import track
from .trade_off import trade_off
from .transitions import transitions
from .value_by_clusters import value_by_clusters

__all__ = [
    "aggregation",
    "animate",
    "assignment_map",
    "bifurcation",
    "capacity_usage",
    "clusters",
    "cost_of_ignoring",
    "cost_ratio",
    "gap_against_interactions",
    "learning_curves",
    "learnt_numbers",
    "log_coverage",
    "policy_map",
    "returns",
    "routes",
    "sensitivity",
    "small_cells",
    "splitting",
    "steered",
    "sparse_path",
    "track",
    "trade_off",
    "transitions",
    "value_by_clusters",
]
