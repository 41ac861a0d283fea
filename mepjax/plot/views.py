"""What figures show of a solution, computed once and by one program."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._core.params import primal_of
from .._core.programs import program
from ..engine.problem import Problem
from ..engine.solution import Solution
from ..problems.clustering.problem import Clustering
from ..problems.facility_path import FacilityPath
from ..problems.hard_clustering import HardClustering


class ClusterView(NamedTuple):
    """A clustering at one beta, as NumPy arrays in the units of the problem.

    **Fields:** the `points` (N, d) and their `weights` (N,); the `centres` (K, d); the cluster that
    each point is told to join, `assigned` (N,), within the capacity if there is one, and what that
    costs; the soft `policy` (N, K), where points are told to go; `association` (N, K), the share of
    all weight that ends from each point in each cluster, after overrides; `ending` (K,), the share
    of weight that ends in each cluster if points are told to join `assigned`.
    """

    points: np.ndarray
    weights: np.ndarray
    centres: np.ndarray
    assigned: np.ndarray
    cost: float
    policy: np.ndarray
    association: np.ndarray
    ending: np.ndarray

    @property
    def used(self) -> np.ndarray:
        """Whether anybody is told to join each cluster (K,)."""
        return np.isin(np.arange(len(self.centres)), self.assigned)

    @property
    def told(self) -> np.ndarray:
        """Share of weight told to join each cluster (K,)."""
        sizes = np.bincount(self.assigned, self.weights, minlength=len(self.centres))
        return sizes / np.sum(self.weights)


def cluster_view(
    problem: Clustering,
    solution: Solution,
    *,
    params: Any = None,
    beta: Any = None,
    rows: int | None = None,
    hard: bool = True,
    decisions: HardClustering | None = None,
) -> ClusterView:
    """What figures and reports show of a clustering.

    **Arguments:**

    - `problem`, `solution`: what was solved, and the outcome.
    - `params`, `beta`: shown instead of those of the solution.
    - `rows`: only the first so many points, where the others have weight zero.
    - `hard`: whether `assigned` and `cost` have to meet a capacity, by an exact transport.
    - `decisions`: those that meet it, where they are known; no transport is solved then.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> from mepjax.plot.views import cluster_view
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> solution = mj.anneal(problem, mj.Geometric(0.3, 30.0, 1.5), key=jax.random.key(0))
    >>> sorted(cluster_view(problem, solution).assigned.tolist())
    [0, 1]

    ```
    """
    params = solution.params if params is None else params
    beta = jnp.asarray(solution.beta if beta is None else beta, problem.x.dtype)
    policy, association, found, ending = _read_clusters(problem, params, beta)
    if hard and problem.capacity is not None:
        found = decisions or problem.harden(params, capacities="assign")
        ending = _ending(problem, params, found.assignments)
    points, weights, centres, policy, association, ending = (
        np.asarray(part, np.float64)
        for part in (problem.x, problem.weights, primal_of(params), policy, association, ending)
    )
    assigned = np.asarray(found.assignments)
    return ClusterView(
        points[:rows], weights[:rows], centres, assigned[:rows], float(found.cost), policy[:rows],
        association[:rows], ending,
    )  # fmt: skip


@program
def _read_clusters(problem: Clustering, params: Any, beta: Any) -> Any:
    hard = problem.harden(params)
    return (
        jnp.exp(problem.policy(params, beta)),
        problem.association_weights(params, beta),
        hard,
        _ends(problem, params, hard.assignments),
    )


def _ends(problem: Clustering, params: Any, assigned: Any) -> Any:
    shares = problem.weights / jnp.sum(problem.weights)
    return shares @ problem.override_probabilities(params, assigned)


_ending = program(_ends)


@program
def log_policy(problem: Problem, params: Any, beta: Any) -> Any:
    """The problem's log policy."""
    return problem.policy(params, beta)


class PathView(NamedTuple):
    """Facilities and the soft choices of nodes at one beta, as NumPy arrays.

    **Fields:** the `nodes` (N, d) and their `weights` (N,); `facilities` (M, d), in the units of
    the problem; the choice of the first leg `policy` (N, M), or (N, M + L) with direct legs;
    traffic per unit weight that enters at each facility, `entry` (M,), on `links` (M, M) and on
    the `last` leg (M, L); `usage` (M,), visits; with capacities `revisits` (M,), the share of
    weight that visits more than once.
    """

    nodes: np.ndarray
    weights: np.ndarray
    facilities: np.ndarray
    policy: np.ndarray
    entry: np.ndarray
    links: np.ndarray
    last: np.ndarray
    usage: np.ndarray
    revisits: np.ndarray | None


def path_view(
    problem: FacilityPath,
    solution: Solution,
    *,
    params: Any = None,
    beta: Any = None,
    rows: int | None = None,
) -> PathView:
    """What figures and reports show of facilities on paths; arguments as in `cluster_view`."""
    params = solution.params if params is None else params
    beta = jnp.asarray(solution.beta if beta is None else beta, problem.nodes.dtype)
    found = problem.nodes, problem.weights, *_read_paths(problem, params, beta)
    nodes, weights, facilities, policy, *rest = (
        None if part is None else np.asarray(part, np.float64) for part in found
    )
    return PathView(nodes[:rows], weights[:rows], facilities, policy[:rows], *rest)  # type: ignore


@program
def _read_paths(problem: FacilityPath, params: Any, beta: Any) -> Any:
    traffic = problem.traffic(params, beta)
    return (
        problem.facilities(params),
        jnp.exp(problem.policy(params, beta)),
        jnp.sum(traffic.first, axis=0),
        traffic.links,
        traffic.last,
        problem.usage(params, beta),
        problem.revisits(params, beta) if problem.capacities.given else None,
    )
