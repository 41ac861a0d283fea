"""Clustering with an autonomy that is learnt from a log, as a scikit-learn estimator."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from sklearn.utils import check_array

from ..learn.counts import Counts
from ..learn.evidence import ModelLearner
from ..learn.fit import fit as learnt_from
from ..learn.interactions import Interactions
from ..learn.structured import Structured
from ..problems.clustering import Clustering
from .clustering import AutonomyAwareClustering

_LEARNERS = {"structured": Structured, "counts": Counts}


class LearnedAutonomyClustering(AutonomyAwareClustering):
    """`AutonomyAwareClustering` whose autonomy is learnt from interactions with the points.

    `fit(X, interactions=log)` learns where points stray from a `mepjax.learn.Interactions` whose
    entities are the rows of `X`, and then clusters; without a log there is no autonomy. Costs,
    centres and what is learnt are in the units of the input: nothing is scaled. For use in a
    pipeline with metadata routing request it by `set_fit_request(interactions=True)`.

    **Arguments:**

    - `n_clusters`: K, as in the log.
    - `learner`: `"structured"`, `"counts"`, or a learner of an autonomy model from `mepjax.learn`
        without numbers of its own for every point.
    - all others: see `AutonomyAwareClustering`.

    **Attributes:** those of `AutonomyAwareClustering`, and

    - `learned_`: the `mepjax.learn.Fitted`, with error bars and test of fit; `None` without a log.
    - `autonomy_`: its model, or `None`.

    **Example:**

    ```python
    >>> import numpy as np, mepjax as mj
    >>> from mepjax.estimators import LearnedAutonomyClustering
    >>> X = np.array([[-1.1], [-0.9], [0.9], [1.1]])
    >>> who, told = [0, 1, 2, 3] * 5, [0, 0, 1, 1] * 5
    >>> log = mj.learn.Interactions(who, told, told[:16] + [1, 0, 1, 0])
    >>> model = LearnedAutonomyClustering(2, learner="counts").fit(X, interactions=log)
    >>> print(model.labels_[:2] == model.labels_[2:], model.autonomy_.p.shape)
    [False False] (2, 2)

    ```
    """

    # What the log tells is no argument here.
    kappa = 0.0
    zeta = gamma = temperature = capacity = None
    scale = "none"

    _takes_batches = False

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        learner: Any = "structured",
        cost: Any = "sqeuclidean",
        restarts: int | None = None,
        beta_min: float | None = None,
        beta_max: float | None = None,
        factor: float = 1.05,
        sample: int | None = 10_000,
        tol: float = 1e-4,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.learner = learner
        self.cost = cost
        self.restarts = restarts
        self.beta_min = beta_min
        self.beta_max = beta_max
        self.factor = factor
        self.sample = sample
        self.tol = tol
        self.random_state = random_state

    @property
    def autonomy(self) -> Any:
        """What has been learnt, for the clustering."""
        return getattr(self, "autonomy_", None)

    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, interactions: Any = None
    ) -> "LearnedAutonomyClustering":
        """Learn from the interactions, and cluster.

        **Raises:** `ValueError` or `TypeError` naming the argument, what was got and what was
        expected.
        """
        self.autonomy_ = self.learned_ = None
        if interactions is not None:
            learner = self._learner()
            if not isinstance(interactions, Interactions):
                raise TypeError(
                    "`interactions` must be mepjax.learn.Interactions or None; "
                    f"got {type(interactions).__name__}."
                )
            points = np.asarray(check_array(X), np.float64)
            with jax.enable_x64(True):
                problem = Clustering(points, self.n_clusters, cost=self.cost)
                found = learnt_from(problem, interactions, learner).raise_if_failed()
                # Arrays of NumPy, which no session's precision changes.
                self.learned_ = jax.tree.map(
                    lambda leaf: np.asarray(leaf) if eqx.is_array(leaf) else leaf, found
                )
            self.autonomy_ = self.learned_.autonomy
        super().fit(X, y, sample_weight)
        return self

    def _learner(self) -> ModelLearner:
        if isinstance(self.learner, ModelLearner):
            return self.learner
        if not isinstance(self.learner, str) or self.learner not in _LEARNERS:
            raise ValueError(
                f"`learner` must be one of {tuple(_LEARNERS)} or a learner of an autonomy model "
                f"from mepjax.learn; got {self.learner!r}."
            )
        return _LEARNERS[self.learner]()
