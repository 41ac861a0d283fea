"""Autonomy-aware clustering as a scikit-learn estimator."""

import math
import warnings
from typing import Any

import jax
import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from .._core import trees
from .._core.arrays import refuse_masked
from .._core.codes import SolveError
from .._core.padding import pad_rows, pad_weights
from .._core.params import primal_of
from .._core.programs import program
from .._core.scaling import Scaling
from ..engine.schedules import Geometric
from ..problems.autonomy import AbstractAutonomy
from ..problems.clustering.problem import Clustering
from ..problems.costs import Mahalanobis, SquaredEuclidean
from ..select import sized
from ..select.order import canonical_order
from ..select.starts import (
    Run,
    best_of_starts,
    default_betas,
    default_starts,
    first_transition,
    percent_more,
)
from .batches import take_batch, takes_batches
from .parameters import (
    autonomy_model,
    capacity_shares,
    check,
    check_numbers,
    check_positive,
    cost_model,
)
from .samples import check_size, checked_weights

_MOST_STAGES = 10_000
# Hard costs this close, relative to the variance, differ by rounding only.
_TIE = 1e-9
_FLOATS = (np.float64, np.float32)

_average = program(lambda problem, centres: problem.average_distances(centres))
_log_policy = program(lambda problem, centres, beta: problem.policy(centres, beta))
_association = program(lambda problem, centres, beta: problem.association_weights(centres, beta))


class AutonomyAwareClustering(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
    """Clustering of points that may override the cluster they are told to join.

    Minimises sum_i w_i min_j sum_k p(k|j) d(x_i, y_k) over the centres y_k, where p(k|j) is the
    probability that a point told to join cluster j ends in cluster k, by annealing the free
    energy from several starts; see `mepjax.Clustering` and `mepjax.anneal`. Without autonomy that
    is the objective of k-means. Where p moves with the centres, an exact anneal and a frozen one
    polished by an exact solve are both done, and the lower cost is kept.

    All computation is in float64, whatever the precision of the session, which stays as it is.
    For squared Euclidean cost without autonomy, with uniform or with softmax one (gamma 0) the
    first start grows its clusters by splitting (`mepjax.Growth`), other starts are points drawn at
    random, and every result is repaired (`mepjax.Repair`; with autonomy by random swaps too).
    Elsewhere starts are the weighted mean, kicked by a ten-thousandth of the data's size. Up to
    `sample` points all are used in every stage, so that integer weights are the same as
    repetitions.

    **Arguments:**

    - `n_clusters`: K, at most the number of points.
    - `kappa`: probability of an override, from 0 to 1.
    - `autonomy`: `"none"`, `"uniform"` (any other cluster alike), `"softmax"` (one near the
        prescribed centre and near the point); a (K, K) array of p(k|j) with rows summing to one;
        a model from `mepjax.autonomy`, or a function of (x_i, Y) that gives such an array.
        Default `"softmax"` if `zeta`, `gamma` or `temperature` is given, else `"uniform"` if
        `kappa` > 0, else `"none"`. A model with numbers of its own for every point is refused.
    - `zeta`, `gamma`, `temperature`: softmax autonomy only, see `mepjax.autonomy.Softmax`;
        defaults 1, 0, 1. The temperature has the units of the cost in scaled coordinates.
    - `cost`: a name such as `"sqeuclidean"` or `"euclidean"`, an instance from `mepjax.costs`, or a
        function of two points.
    - `scale`: `"none"`; `"unit"`, the longest side of the bounding box becomes 1; `"zscore"`, the
        standard deviation of each column becomes 1. Default `"unit"` for softmax autonomy, whose
        temperature needs a scale, else `"none"`. Centres are always in input units; a function
        given as `autonomy` sees scaled coordinates.
    - `capacity`: share of the weight that may be told to join each cluster, shape (K,), > 0: an
        array of upper bounds with a sum of at least 1, or `mepjax.Equal(array)` of sizes to be
        met exactly, with the sum 1. The centres are those of the soft policy that meets it.
    - `restarts`: number of starts, of which the best is kept; default 4 where the autonomy moves
        with the centres, 10 random ones with a capacity but no autonomy, else 2.
    - `beta_min`, `beta_max`: first and last inverse temperature, in scaled units of one over the
        cost; default 0.5 and 10^4 times the first transition without autonomy. Without `beta_max`
        the anneal goes on past that until the data have separated and the policy is hard.
    - `factor`: growth of beta from stage to stage, > 1.
    - `sample`: where clusters can grow, points used before the last stage, which always uses
        all; default 10,000. `None`: all, in a multiple of the time if there are many.
    - `tol`: relative error of the centres, in units of the data's size, asked of the last stage;
        default 1e-4.
    - `random_state`: an int, a NumPy `RandomState` or `None`, for the kicks' directions and the
        sample; growth on all data has no chance in it.

    **Attributes** (costs are squares of input units for a quadratic `cost` with `scale` `"none"`
    or `"unit"`, else scaled ones):

    - `cluster_centers_`: centres, shape (K, d), in input units and the dtype of the data.
    - `labels_`: the prescribed cluster of each point, the one of least average cost; with a
        capacity the cheapest prescription of whole points that meets it, rounded as
        `mepjax.Clustering.harden(..., capacities="assign")` tells, so that a label need not be
        what `predict` says of the same point.
    - `inertia_`: sum_i w_i sum_k p(k|labels_i) d(x_i, y_k), weights as given (1 without), so that
        it is the inertia of `sklearn.cluster.KMeans` where there is no autonomy or capacity.
    - `cost_of_ignoring_autonomy_`: how many per cent more the centres found without autonomy
        cost under it; `None` without autonomy or where that is not defined.
    - `n_used_clusters_`: number of clusters that a point of positive weight is told to join.
    - `transitions_`: the critical betas met on the way, in scaled units, ascending; none on that
        of a random start.
    - `beta_`: the last beta, in scaled units.
    - `solution_code_`: the `mepjax.Code` of the solution kept.
    - `found_by_`: how it was found, such as `"exact"`, `"random start"` or `"frozen, then exact"`.
    - `sampling_gap_`: by how much the last stage, on all points, lowered the free energy that the
        centres found on a sample have on all of them, in scaled units; 0 without a sample.
    - `n_iter_`: steps of the inner solver that led to it, over all stages.
    - `autonomy_`: the model in effect, `None` without.
    - `n_features_in_`, `feature_names_in_`: as everywhere in scikit-learn.

    **Raises:** `ValueError` naming the parameter, what was got and what was expected, in `fit`.
    A solve that did not converge gives a `ConvergenceWarning` with the sentence of its code.

    Source: autonomy-aware clustering, problem (P2), Algorithms 1 and 3.

    **Example:**

    ```python
    >>> import numpy as np
    >>> from mepjax.estimators import AutonomyAwareClustering
    >>> x = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    >>> model = AutonomyAwareClustering(4, kappa=0.2, factor=1.5, random_state=0).fit(x)
    >>> f"{model.inertia_:.4f}, ignoring autonomy {model.cost_of_ignoring_autonomy_:+.1f}%"
    '0.9244, ignoring autonomy +15.4%'
    >>> bool(np.all(model.predict(x) == model.labels_))
    True

    ```
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        kappa: float = 0.0,
        autonomy: Any = None,
        zeta: float | None = None,
        gamma: float | None = None,
        temperature: float | None = None,
        cost: Any = "sqeuclidean",
        scale: str | None = None,
        restarts: int | None = None,
        beta_min: float | None = None,
        beta_max: float | None = None,
        factor: float = 1.05,
        capacity: Any = None,
        sample: int | None = 10_000,
        tol: float = 1e-4,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.kappa = kappa
        self.autonomy = autonomy
        self.zeta = zeta
        self.gamma = gamma
        self.temperature = temperature
        self.cost = cost
        self.scale = scale
        self.restarts = restarts
        self.beta_min = beta_min
        self.beta_max = beta_max
        self.factor = factor
        self.capacity = capacity
        self.sample = sample
        self.tol = tol
        self.random_state = random_state

    @property
    def _n_features_out(self) -> int:
        """What `get_feature_names_out` counts: the columns of `transform`."""
        return len(self.cluster_centers_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "AutonomyAwareClustering":
        """Find the centres.

        **Arguments:** `X`, points, shape (N, d); `y`, ignored; `sample_weight`, shape (N,), >= 0
        and not all zero, default 1.

        **Returns:** self.
        """
        check_numbers(self)
        model, is_softmax = autonomy_model(self)
        cost = cost_model(self.cost)
        capacity = capacity_shares(self.capacity, int(self.n_clusters))
        x = self._validated(X, reset=True)
        n, d = x.shape
        if n < self.n_clusters:
            raise ValueError(f"n_samples={n} should be >= n_clusters={self.n_clusters}.")
        weights = checked_weights(sample_weight, n)
        kind = self.scale or ("unit" if is_softmax else "none")
        given = None if sample_weight is None else weights
        exact = x.astype(np.float64)
        scaling = Scaling.identity(d) if kind == "none" else Scaling.of(kind, exact, given)
        check_size(scaling, exact)

        self._stream = None
        self.autonomy_: AbstractAutonomy | None = model
        self._cost, self._scaling = cost, scaling
        with jax.enable_x64(True):
            problem = self._problem(exact, pad_weights(weights), capacity)
            # Later problems share the origin, so that a point costs the same in any company.
            self._origin = np.asarray(problem.origin)
            run, ignored = self._solve(problem)
            params, beta = run.solution.params, float(run.solution.beta)
            centres = np.asarray(primal_of(params))
            if problem.exchangeable:
                centres = centres[canonical_order(centres)]
            assigned = None if run.decisions is None else run.decisions.assignments
        self.cluster_centers_ = scaling.invert(centres).astype(x.dtype)
        self.beta_ = beta
        self.solution_code_ = run.code
        self.found_by_ = run.name
        self.sampling_gap_ = float(run.solution.sampling_gap)
        self.n_iter_ = sum(int(np.sum(r.solution.trace.steps)) for r in run.path)
        met = np.concatenate([np.asarray(r.solution.transitions) for r in run.path])
        self.transitions_ = np.sort(met[np.isfinite(met)])
        self.cost_of_ignoring_autonomy_ = (
            None if ignored is None else percent_more(ignored.cost, run.cost)
        )
        costs = self._costs(x)
        labels = np.argmin(costs, axis=1) if assigned is None else np.asarray(assigned)[:n]
        self.labels_ = labels.astype(np.int32)
        self.inertia_ = float(weights @ costs[np.arange(n), labels])
        self.n_used_clusters_ = len(np.unique(self.labels_[weights > 0]))
        if run.code.is_failing:
            text = f"[{run.code.name}] {run.code.message}"
            warnings.warn(text, ConvergenceWarning, stacklevel=2)
        return self

    # What learns its autonomy from a log has none of batches.
    _takes_batches = True

    @available_if(takes_batches)
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None
    ) -> "AutonomyAwareClustering":
        """Take one more batch of a stream, whose points are not kept; see `OnlineClustering`.

        Batches count alike and the centres follow a stream that changes. After `fit` it goes on
        from the centres and the beta found. For squared distances, no autonomy or uniform one
        (it is not there under another), without capacity and scale; `factor`, `restarts`, `sample`,
        `tol` and `random_state` play no part.

        **Arguments:** as in `fit`; a batch may have fewer points than there are clusters.

        **Returns:** self. `labels_`, `inertia_` and `n_used_clusters_` are those of this batch,
        `n_iter_` counts batches, `n_recoveries_` how often centres of one batch took over, and
        `solution_code_` is MAX_STEPS until the last beta is reached (some 150 batches).
        """
        take_batch(self, X, sample_weight)
        return self

    def _solve(self, problem: Clustering) -> tuple[Run, Run | None]:
        first = first_transition(problem)
        beta_min, beta_max = default_betas(first, self.beta_min, self.beta_max)
        name = "beta_min" if self.beta_max is None else "beta_max"
        got, relation = (beta_min, "<=") if self.beta_max is None else (beta_max, ">=")
        other = beta_max if self.beta_max is None else beta_min
        check(name, beta_max >= beta_min, got, f"{relation} {other:g}")
        stages = math.log(beta_max / beta_min) / math.log(self.factor)
        expected = f"larger, as it would take {stages:.0f} stages"
        check("factor", stages < _MOST_STAGES, self.factor, expected)
        open_ended = self.beta_max is None
        schedule = Geometric(beta_min, beta_max, float(self.factor), open_ended=open_ended)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        number = default_starts(problem.autonomy.depends_on_centres)
        if sized.suits(problem, schedule):
            number = sized.STARTS
        keys = jax.random.split(jax.random.key(seed), self.restarts or number)
        starts = best_of_starts(
            problem, schedule, keys, tie=_TIE / first, sample=self.sample, rtol=float(self.tol),
            course=False,
        )  # fmt: skip
        run = starts.least_bad
        if run is None:
            code = starts.candidates[0].code
            raise SolveError(f"[{code.name}] {code.message}")
        return run, starts.ignored

    def _problem(
        self, x: np.ndarray, weights: np.ndarray | None = None, capacity: Any = None
    ) -> Clustering:
        """The problem on these points, in scaled units and padded."""
        return Clustering(
            pad_rows(self._scaling.apply(x.astype(np.float64))),
            int(self.n_clusters) if weights is not None else len(self.cluster_centers_),
            weights=weights,
            cost=self._cost,
            autonomy=self.autonomy_,
            capacity=capacity,
        )

    def _evaluate(self, function: Any, x: np.ndarray, *arguments: Any) -> np.ndarray:
        """A function of problem, centres and `arguments`, one row a point, in float64."""
        with jax.enable_x64(True):
            problem = self._problem(x)
            problem = trees.replaced(problem, origin=jax.numpy.asarray(self._origin))
            centres = self._scaling.apply(self.cluster_centers_.astype(np.float64))
            rows = function(problem, jax.numpy.asarray(centres), *arguments)
            return np.asarray(rows)[: len(x)]

    def _costs(self, x: np.ndarray) -> np.ndarray:
        factor = 1.0
        if self._scaling.kind == "unit" and isinstance(self._cost, SquaredEuclidean | Mahalanobis):
            factor = self._scaling.cost_factor or 1.0
        return self._evaluate(_average, x) * factor

    def _validated(self, X: Any, *, reset: bool) -> np.ndarray:
        # scikit-learn's annotation covers all that this function can return.
        refuse_masked("X", X)
        points: Any = validate_data(self, X, dtype=_FLOATS, reset=reset)
        return points

    def _check_points(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self._validated(X, reset=False)

    def _check_beta(self, beta: float | None) -> np.ndarray:
        check_positive("beta", beta)
        return np.asarray(self.beta_ if beta is None else beta, np.float64)

    def predict(self, X: Any) -> np.ndarray:
        """The cluster each point should be told to join, given how it may override: shape (n,).

        A capacity is one of the data that were fitted: here and in all other methods each point
        is told the cluster of least average cost.
        """
        return np.argmin(self._costs(self._check_points(X)), axis=1).astype(np.int32)

    def transform(self, X: Any) -> np.ndarray:
        """Average cost of telling each point to join each cluster, shape (n, K).

        It is sum_k p(k|j) d(x_i, y_k): squared distances where there is no autonomy (k-means
        gives their roots). `predict` is its argmin, and `score` the negative sum of its minima.
        """
        x = self._check_points(X)
        return self._costs(x).astype(x.dtype)

    def predict_proba(self, X: Any, beta: float | None = None) -> np.ndarray:
        """Gibbs policy pi(j|x), how firmly to tell each point to join each cluster, shape (n, K).

        Rows sum to one and are largest at `predict`. At the default last beta they are close to
        0 and 1; a lower `beta` (in scaled units) gives softer ones with the same centres. Where
        points end after overrides is told by `association_weights`.
        """
        x = self._check_points(X)
        log_policy = self._evaluate(_log_policy, x, self._check_beta(beta))
        return np.exp(log_policy).astype(x.dtype)

    def association_weights(self, X: Any, beta: float | None = None) -> np.ndarray:
        """Where each point ends after overrides, sum_j pi(j|x) p(k|j), shape (n, K).

        Rows sum to one. `beta` as in `predict_proba`.
        """
        x = self._check_points(X)
        shares = self._evaluate(_association, x, self._check_beta(beta))
        return (shares / np.sum(shares, axis=1, keepdims=True)).astype(x.dtype)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the cost of the best prescriptions for `X`, summed with the weights.

        Higher is better; `-score(X)` of the training data is `inertia_` without a capacity.
        """
        x = self._check_points(X)
        weights = checked_weights(sample_weight, len(x))
        return -float(weights @ np.min(self._costs(x), axis=1))
