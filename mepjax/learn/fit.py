"""From a log of interactions to an autonomy model, and to error bars of centres."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import checks
from .._core.codes import Code, as_code
from .._core.failures import raise_failed
from .._core.keys import check_key
from .._core.programs import program
from ..engine.solution import Solution
from ..problems.clustering import Clustering
from ..solvers.implicit import LinearSolve, attach
from .coverage import Coverage
from .evidence import Evidence, ModelLearner, Uncertainty
from .interactions import Interactions
from .learner import check_learner, check_needs, check_unaware, with_autonomy
from .structured import Structured
from .test_of_fit import TestOfFit, examined

# Derivatives below this many roundings of the size of the data are none.
_NO_DERIVATIVE = 1e4


class Fitted(eqx.Module):
    """An autonomy model that was learnt from a log, and how well.

    **Fields:**

    - `autonomy`: a model from `mepjax.autonomy`, to be put into `mepjax.Clustering`.
    - `parameters`: its numbers in blocks, (blocks, size): (kappa by group, zeta, gamma) or rows of
        tables; `covariance` of each block, (blocks, size, size).
    - `standard_errors`, `identified`: by name, shaped like the model's numbers: how well each is
        known, inf where the data do not tell, and whether they do. That is no failure.
    - `test`: whether the log looks like the model, see `TestOfFit`.
    - `coverage`: what the log has not seen, see `Coverage`; `None` inside `jit` or `vmap`.
    - `code`: see `mepjax.Code`; `raise_if_failed` raises for failures.
    - `learner`, `state`: to go on learning from more interactions, see `learn.update`.
    """

    autonomy: Any
    parameters: Float[Array, "blocks size"]
    covariance: Float[Array, "blocks size size"]
    standard_errors: dict[str, Array]
    identified: dict[str, Array]
    test: TestOfFit
    coverage: Coverage | None
    code: Int[Array, ""]
    input_report: checks.InputReport
    learner: ModelLearner
    state: Any

    @property
    def values(self) -> dict[str, Array]:
        """The model's numbers by name."""
        return self.learner.named(self.parameters)

    def problem(self, problem: Clustering) -> Clustering:
        """The problem under the learnt autonomy."""
        return with_autonomy(problem, self.autonomy)

    def raise_if_failed(self) -> "Fitted":
        """Return self, or raise on the host if the fit failed.

        **Raises:** `ValueError` for interactions that do not fit the problem, `SolveError` else.
        """
        raise_failed(self.code, self.input_report)
        return self


def fit(
    problem: Clustering,
    interactions: Interactions,
    learner: ModelLearner | None = None,
    *,
    key: Any = None,
    bootstrap: int = 200,
) -> Fitted:
    """Learn the autonomy of a clustering's entities from what they did.

    Compiled as a whole, with its test of fit; legal inside `jit` and `vmap`.

    **Arguments:**

    - `problem`: a `Clustering` without autonomy, which is what is learnt.
    - `interactions`: the log.
    - `learner`: `Structured()` (default), which needs to know the centres in force at the time, or
        `Counts()`.
    - `key`: a JAX random key for the draws of the test of fit; default a fixed one.
    - `bootstrap`: logs drawn for it.

    **Returns:** a `Fitted`.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was expected.
    Values that are traced become a result code instead.

    Source: autonomy-aware clustering, section 4, case C1, and equation (72).

    **Example:** from a log to centres.

    ```python
    >>> import jax, mepjax as mj
    >>> from mepjax.datasets import four_square
    >>> key = jax.random.key(0)
    >>> problem = mj.Clustering(four_square(60)[0], 4)
    >>> truth = mj.autonomy.Softmax(kappa=0.3, gamma=0.5)
    >>> log = mj.learn.collect(problem, mj.learn.Simulated(truth), key=key)
    >>> fitted = mj.learn.fit(problem, log).raise_if_failed()
    >>> for name, value in fitted.values.items():
    ...     print(f"{name} {value:.1f} +- {fitted.standard_errors[name]:.2f}")
    kappa 0.3 +- 0.01
    zeta 1.0 +- 0.05
    gamma 0.5 +- 0.05
    >>> schedule = mj.Geometric(1.0, 1e3, 1.3)
    >>> sol = mj.anneal(fitted.problem(problem), schedule, key=key).raise_if_failed()

    ```
    """
    check_unaware("fit", problem)
    learner = Structured() if learner is None else learner
    check_learner("fit", learner)
    if not isinstance(learner, ModelLearner):
        raise TypeError(
            "fit: `learner` must be one that learns an autonomy model, such as Structured() or "
            f"Counts(); got {type(learner).__name__}, which `interact` takes."
        )
    if not isinstance(interactions, Interactions):
        raise TypeError(
            "fit: `interactions` must be mepjax.learn.Interactions; "
            f"got {type(interactions).__name__}."
        )
    checks.check_count("fit", "bootstrap", bootstrap)
    check_needs("fit", learner, interactions)
    key = jax.random.key(0) if key is None else check_key(key)
    return fitted_from(problem, interactions, learner, None, key, bootstrap)


def fitted_from(
    problem: Clustering,
    interactions: Interactions,
    learner: ModelLearner,
    state: Any,
    key: Any,
    bootstrap: int,
) -> Fitted:
    """`fit` without checks, going on from a state if there is one."""
    log = interactions.for_problem(problem)
    conditions = (*problem.checks(), *interactions.checks(problem))
    report = checks.report(conditions)
    if state is not None:
        state = learner.reserve(state, problem, len(log))
    state, parameters, uncertainty, test, code = _fitted(
        problem, log, learner, state, key, bootstrap, _told_apart(interactions.times)
    )
    coverage = None
    if checks.is_concrete(problem, interactions):
        group = getattr(learner, "group", None)
        coverage = interactions.coverage(problem, groups=group)
    input_code = report.code
    errors = jnp.sqrt(jnp.diagonal(uncertainty.covariance, axis1=-2, axis2=-1))
    return Fitted(
        autonomy=learner.model(parameters),
        parameters=parameters,
        covariance=uncertainty.covariance,
        standard_errors=learner.named(errors),
        identified=learner.named(uncertainty.identified),
        test=test,
        coverage=coverage,
        code=jnp.where(input_code != int(Code.OK), input_code, code),
        input_report=report,
        learner=learner,
        state=state,
    )


def _told_apart(times: Any) -> np.ndarray | None:
    """Rows of a log in which each counts once; `None` where they do, or counts are no integers."""
    if times is None or not checks.is_concrete(times):
        return None
    times = np.asarray(times)
    if np.all(times <= 1) or np.any(times != np.round(times)):
        return None
    return np.repeat(np.arange(len(times), dtype=np.int32), times.astype(int))


@program
def _fitted(
    problem: Clustering,
    log: Interactions,
    learner: ModelLearner,
    state: Any,
    key: Any,
    bootstrap: int,
    once: Any,
) -> tuple[Any, Array, Uncertainty, TestOfFit, Int[Array, ""]]:
    init_key, update_key, test_key = jax.random.split(key, 3)
    if state is None:
        state = learner.reserve(learner.init(init_key, problem), problem, log.entity.shape[0])
    state, _ = learner.update(state, problem, log, update_key)
    parameters = learner.parameters(state)
    evidence: Evidence = learner.evidence(problem, log)
    if once is not None:
        # Other logs are drawn row by row: one that counts ten times is ten draws.
        evidence = jax.tree.map(lambda leaf: leaf[once], evidence)
        evidence = eqx.tree_at(lambda e: e.times, evidence, jnp.ones_like(evidence.times))
    rounds = 1 if log.centres is None else log.centres.shape[0]
    test = examined(learner, parameters, evidence, problem.x.shape[0], rounds, test_key, bootstrap)
    finite = jnp.all(jnp.isfinite(parameters))
    code = jnp.where(finite, learner.state_code(state), as_code(Code.NON_FINITE))
    return state, parameters, learner.uncertainty(state), test, code


class CentreErrors(eqx.Module):
    """How far centres may be off because the autonomy was learnt.

    **Fields:** `standard_errors`, shape (K, d), and `covariance`, shape (K d, K d), of the centres
    flattened; both inf where they depend on a number that the data do not tell.
    """

    standard_errors: Float[Array, "k d"]
    covariance: Float[Array, "kd kd"]


def centre_errors(problem: Clustering, solution: Solution, fitted: Fitted) -> CentreErrors:
    """Error bars of centres that were found with a learnt autonomy.

    J Sigma J^T, with Sigma the covariance of the autonomy's numbers and J the derivative of the
    solution in them, by the implicit function theorem: the sampling error of the interactions
    alone, to first order. That of the points is not in it.

    **Arguments:**

    - `problem`: the clustering, with or without the learnt autonomy.
    - `solution`: of `fitted.problem(problem)`.
    - `fitted`: what `fit` returned.

    **Returns:** a `CentreErrors`, NaN where the solution failed.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> log = mj.learn.Interactions([0, 1] * 50, [0, 1] * 50, ([0, 1] * 9 + [1, 0]) * 5)
    >>> fitted = mj.learn.fit(problem, log, mj.learn.Counts())
    >>> schedule, key = mj.Geometric(0.1, 50.0, 1.2), jax.random.key(0)
    >>> sol = mj.anneal(fitted.problem(problem), schedule, key=key)
    >>> errors = mj.learn.centre_errors(problem, sol, fitted)
    >>> print(jnp.sort(sol.params[:, 0]).round(2), errors.standard_errors[:, 0].round(2))
    [-0.78  0.78] [0.08 0.08]

    ```
    """
    check_unaware("centre_errors", with_autonomy(problem, None))
    if not isinstance(solution, Solution) or not isinstance(fitted, Fitted):
        raise TypeError(
            "centre_errors: `solution` must be a Solution and `fitted` what `learn.fit` returned; "
            f"got {type(solution).__name__} and {type(fitted).__name__}."
        )
    covariance = _centre_covariance(
        problem,
        solution.params,
        solution.beta,
        solution.code,
        fitted.learner,
        fitted.parameters,
        fitted.covariance,
    )
    shape = solution.params.shape
    return CentreErrors(jnp.sqrt(jnp.diag(covariance)).reshape(shape), covariance)


@program
def _centre_covariance(
    problem: Clustering,
    centres: Float[Array, "k d"],
    beta: Float[Array, ""],
    code: Int[Array, ""],
    learner: ModelLearner,
    parameters: Float[Array, "blocks size"],
    covariance: Float[Array, "blocks size size"],
) -> Float[Array, "kd kd"]:
    failing = code >= int(Code.MAX_STEPS)

    def solution(parameters: Array) -> Array:
        learnt = with_autonomy(problem, learner.model(parameters))
        found = attach(centres, learnt, beta, failing, options=LinearSolve(), on_failure="nan")
        return found.reshape(-1)

    slopes = jax.jacrev(solution)(parameters)
    variances = jnp.diagonal(covariance, axis1=1, axis2=2)
    unknown = jnp.isinf(variances)
    known = jnp.where(unknown[:, :, None] | unknown[:, None, :], 0.0, covariance)
    found = jnp.einsum("abs,bst,cbt->ac", slopes, known, slopes)
    sizes = jnp.abs(slopes) * jnp.maximum(jnp.abs(parameters), 1)
    eps = float(jnp.finfo(centres.dtype).eps)
    depends = sizes > _NO_DERIVATIVE * eps * problem.spread
    lost = jnp.any(depends & unknown, axis=(1, 2))
    return jnp.where(lost[:, None] & lost[None, :], jnp.inf, found)
