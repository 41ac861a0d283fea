"""What solves of several commands have in common."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import mepjax as mj

from .._core.programs import program
from ..select.order import in_order
from ..select.starts import Measured, Run, Starts
from .errors import SOLVE, CommandError

# Choices of entries that an integer program can decide in good time.
_MOST_ASSIGNED = 100_000
# Visits per unit weight below which a facility is not used.
_UNUSED = 1e-3


def best_run(found: Starts) -> Run:
    """The best of all runs that may be chosen.

    **Raises:** `CommandError`, with the code of the first, where all failed.
    """
    if found.best is None:
        runs: Sequence[Run] = found.candidates
        code = runs[0].code
        raise CommandError(
            f"the solve failed in all {len(runs)} runs: [{code.name}] {code.message}", SOLVE
        )
    return found.best


def best_clusters(problem: mj.Clustering, found: Starts) -> Run:
    """The best run, with clusters in the order of their centres."""
    return in_order(problem, best_run(found))


def hard_routes(
    problem: mj.FacilityPath, params: Any, beta: Any
) -> tuple[mj.HardPaths, str | None]:
    """Hard routes, and why they do not keep the capacities, if they do not."""
    if not problem.capacities.given:
        return _read(problem, params, beta)[0], None
    reason = "there are too many nodes for an integer program"
    if problem.nodes.shape[0] * problem.total <= _MOST_ASSIGNED:
        try:
            return problem.harden(params, capacities="assign"), None
        except ValueError:
            reason = "nodes of unequal weight cannot be split"
        except mj.SolveError:
            reason = "whole nodes cannot meet them"
    return _read(problem, params, beta)[0], reason


def measure_routes(problem: mj.FacilityPath, solution: mj.Solution) -> Measured:
    """The hard cost of a run, the soft one with capacities, and how many facilities are used."""
    hard, usage = _read(problem, solution.params, solution.beta)
    cost = solution.distortion if problem.capacities.given else hard.cost
    return Measured(float(cost), int(np.sum(np.asarray(usage) > _UNUSED)))


@program
def _read(problem: mj.FacilityPath, params: Any, beta: Any) -> Any:
    """Hard routes without capacities, and visits of every facility."""
    return problem.harden(params), problem.usage(params, beta)
