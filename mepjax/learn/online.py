"""Going on learning: more interactions, more entities, an autonomy that drifts."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from .._core import arrays, checks, trees
from .._core.keys import check_key
from .._core.programs import program
from ..problems.clustering import Clustering
from .ending import placed
from .evidence import ModelLearner
from .fit import Fitted, fitted_from
from .interactions import Interactions
from .learned import Learned
from .learner import AbstractLearner, check_needs, check_unaware, default_schedule, updated


def with_points(problem: Clustering, points: Any, weights: Any = None) -> Clustering:
    """The problem with more entities, which come after those it has.

    **Arguments:** `problem`; `points`, shape (m, d); `weights`, shape (m,), in units of those that
    the problem was given; default that of the mean entity.

    **Returns:** a `Clustering`, to be given to `learn.update`.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2, weights=[1.0, 3.0])
    >>> print(mj.learn.with_points(problem, jnp.array([[2.0]])).weights)
    [1. 3. 2.]

    ```
    """
    check_unaware("with_points", problem)
    points = arrays.as_data_like("points", points, problem.x.dtype)
    if points.ndim != 2 or points.shape[1] != problem.x.shape[1] or points.shape[0] == 0:
        raise ValueError(
            f"with_points: `points` must have shape (m, {problem.x.shape[1]}); got {points.shape}."
        )
    if weights is None:
        weights = jnp.full((points.shape[0],), jnp.mean(problem.weights))
    weights = arrays.as_data_like("weights", weights, problem.x.dtype)
    if weights.shape != points.shape[:1]:
        raise ValueError(
            f"with_points: `weights` must have shape {points.shape[:1]}; got {weights.shape}."
        )
    return Clustering(
        jnp.concatenate([problem.x, points]),
        problem.k,
        weights=jnp.concatenate([problem.weights, weights]),
        cost=problem.cost,
        stationarity=problem.stationarity,
    )


def update(
    learned: Any,
    problem: Clustering,
    interactions: Interactions | None = None,
    *,
    points: Any = None,
    weights: Any = None,
    key: Any = None,
    learner: AbstractLearner | None = None,
) -> Any:
    """Go on learning from more interactions, or with more entities, and place the centres again.

    Of counts and of the softmax family the result is that of all interactions at once; older ones
    count less where the learner's `forget` is below 1. With a model the centres come from anneals:
    one at the last beta from where they are, and one from the start to that beta, whichever the
    learnt model says is cheaper. `Tabular` moves its table, and its centres once towards those
    who came, as if all interactions had followed its policy.

    **Arguments:**

    - `learned`: what `fit`, `interact` or `update` returned.
    - `problem`: the problem, which may have more entities than before.
    - `interactions`: the new ones alone; `None` where there are `points` only.
    - `points`, `weights`: entities that join the problem, after those it has, shapes (m, d) and
        (m,): what is returned is of `learn.with_points(problem, points, weights)`, and
        `interactions` may be theirs too.
    - `key`: a JAX random key; default a fixed one.
    - `learner`: the same kind of learner with other settings, such as groups for new entities, or
        another `forget`; default that of `learned`.

    **Returns:** a `Fitted` for a `Fitted`, whose test of fit and coverage are those of the new
    interactions, and a `Learned` for a `Learned`.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was expected;
    `learned` is then as it was.

    **Example:**

    ```python
    >>> import mepjax as mj
    >>> problem = mj.Clustering(mj.datasets.four_square(40)[0], 4)
    >>> first = mj.learn.Interactions([0, 1], [0, 0], [0, 1])
    >>> fitted = mj.learn.fit(problem, first, mj.learn.Counts(prior=0.0))
    >>> more = mj.learn.Interactions([2, 3], [0, 0], [0, 0])
    >>> print(mj.learn.update(fitted, problem, more).autonomy.p[0])
    [0.75 0.25 0.   0.  ]

    ```
    """
    owner = "update"
    check_unaware(owner, problem)
    if not isinstance(learned, Fitted | Learned):
        raise TypeError(
            f"{owner}: `learned` must be what `fit`, `interact` or `update` returned; "
            f"got {type(learned).__name__}."
        )
    if interactions is None and points is None:
        raise ValueError(
            f"{owner}: at least one of `interactions` and `points` must be given; got neither."
        )
    if not isinstance(interactions, Interactions | None):
        raise TypeError(
            f"{owner}: `interactions` must be mepjax.learn.Interactions; "
            f"got {type(interactions).__name__}."
        )
    if points is not None:
        problem = with_points(problem, points, weights)
    elif weights is not None:
        raise ValueError(f"{owner}: `weights` are those of `points`; got no `points`.")
    learner = learned.learner if learner is None else learner
    if type(learner) is not type(learned.learner):
        raise TypeError(
            f"{owner}: `learner` must be a {type(learned.learner).__name__}, as before; "
            f"got {type(learner).__name__}."
        )
    key = jax.random.key(0) if key is None else check_key(key)
    state = learner.resize(learned.state, problem)
    if interactions is not None:
        check_needs(owner, learner, interactions)
    if isinstance(learned, Fitted):
        assert isinstance(learner, ModelLearner)
        if interactions is None:
            return _resized(learned, learner, state)
        return fitted_from(problem, interactions, learner, state, key, 200)
    learn, place = jax.random.split(key)
    if learned.params.shape != (problem.k, problem.x.shape[1]):
        raise ValueError(
            f"{owner}: `problem` must have the clusters and features of what was learnt, "
            f"{learned.params.shape}; got {(problem.k, problem.x.shape[1])}."
        )
    log, conditions = None, problem.checks()
    if interactions is not None:
        log = interactions.for_problem(problem)
        conditions = (*conditions, *interactions.checks(problem))
        state, _ = updated(learner, state, problem, log, learn)
    centres, code = _placed(problem, learner, state, learned.params, learned.beta, log, place)
    report = checks.report(conditions)
    bad = report.code
    count = 0 if interactions is None else len(interactions)
    return dataclasses.replace(
        learned,
        params=centres,
        autonomy=learner.autonomy(state),
        state=state,
        code=jnp.where(bad != 0, bad, jnp.maximum(code, learner.state_code(state))),
        n_interactions=learned.n_interactions + np.int32(count),
        learner=learner,
        input_report=report,
        message=None,
    )


def _resized(fitted: Fitted, learner: ModelLearner, state: Any) -> Fitted:
    """What is known where entities have joined of whom nothing was seen."""
    parameters, uncertainty = learner.parameters(state), learner.uncertainty(state)
    errors = jnp.sqrt(jnp.diagonal(uncertainty.covariance, axis1=-2, axis2=-1))
    return dataclasses.replace(
        fitted,
        autonomy=learner.model(parameters),
        parameters=parameters,
        covariance=uncertainty.covariance,
        standard_errors=learner.named(errors),
        identified=learner.named(uncertainty.identified),
        coverage=None,
        learner=learner,
        state=state,
    )


@program
def _placed(
    problem: Clustering,
    learner: AbstractLearner,
    state: Any,
    centres: Array,
    beta: Array,
    log: Interactions | None,
    key: Any,
) -> tuple[Array, Int[Array, ""]]:
    problem, state = trees.stop_gradient((problem, state))
    model = learner.autonomy(state)
    if model is None:
        if log is None:
            return centres, jnp.zeros((), jnp.int32)
        explored = jnp.zeros(log.entity.shape, bool)
        moved = learner.move(state, problem, centres, beta, log, explored, key)
        return moved, jnp.zeros((), jnp.int32)
    schedule = default_schedule(problem.beta_scale().astype(centres.dtype), last=beta)
    return placed(problem, model, centres, beta, schedule, key)
