"""A network for average costs from a log alone, without asking."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._core import checks, trees
from ..._core.codes import Code, as_code
from ..._core.failures import raise_failed
from ..._core.keys import check_key
from ..._core.programs import program
from ...problems.averaged_clustering import AveragedClustering
from ...problems.clustering import Clustering
from ..interactions import Interactions
from ..learner import check_needs, check_unaware, updated
from .settings import TrainingState
from .training import Training

_OWNER = "fit_costs"
# Share of the interactions that are kept from the network, to judge it by.
_HELD_OUT = 0.1


class FittedCosts(eqx.Module):
    """Average costs that were learnt from a log, and how well they foretell what it held back.

    **Fields:**

    - `problem`: the clustering whose average costs are those learnt, an `AveragedClustering`: its
        F and D are what the network says, and hold near the centres of the log.
    - `error`: mean squared error on `n_held_out` interactions that the network has not seen, most
        of which is the noise of single costs; `error_of_base`: that of what the cluster told would
        cost without overrides. A network that has learnt something is below it.
    - `code`: see `mepjax.Code`; `raise_if_failed` raises for failures.
    - `learner`, `state`: to go on by `learner.update`.
    """

    problem: AveragedClustering
    error: Float[Array, ""]
    error_of_base: Float[Array, ""]
    code: Int[Array, ""]
    input_report: checks.InputReport
    learner: Training
    state: TrainingState
    n_held_out: int = eqx.field(static=True)

    def raise_if_failed(self) -> "FittedCosts":
        """Return self, or raise on the host if the fit failed.

        **Raises:** `ValueError` for interactions that do not fit the problem, `SolveError` else.
        """
        raise_failed(self.code, self.input_report, self.learner.breakdown(np.nan))
        return self


def fit_costs(
    problem: Clustering,
    interactions: Interactions,
    training: Training | None = None,
    *,
    steps: int = 3000,
    key: Any = None,
) -> FittedCosts:
    """Learn average costs from a log of what was paid, where nobody saw who went where.

    The centres of the log should be many, around those that are wanted: of others the network
    knows nothing. Where overrides were seen, `fit` and `Choice` need thousands of times fewer
    interactions.

    **Arguments:**

    - `problem`: a `Clustering` without autonomy, which is what is learnt.
    - `interactions`: with costs, or with where entities went, and the centres in force; at least
        20. A tenth of them is held back.
    - `training`: network and settings of its steps, default `Training()`; its batches are of
        `batch` times `entities` interactions, drawn from all.
    - `steps`: of the network; the rate of learning falls until the last.
    - `key`: a JAX random key; default a fixed one.

    **Returns:** a `FittedCosts`.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was expected.

    Source: autonomy-aware clustering, Algorithm 2, its regression.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> problem = mj.Clustering(mj.datasets.four_square(40)[0], 4)
    >>> asked = mj.learn.Simulated(mj.autonomy.Uniform(0.2))
    >>> log = mj.learn.collect(problem, asked, key=jax.random.key(0), rounds=4, each=50)
    >>> training = mj.learn.Training(options={"width": 8, "heads": 2}, batch=1, entities=16)
    >>> fitted = mj.learn.fit_costs(problem, log, training, steps=2).raise_if_failed()
    >>> fitted.n_held_out, fitted.problem.k
    (20, 4)

    ```
    """
    check_unaware(_OWNER, problem)
    if not isinstance(interactions, Interactions):
        raise TypeError(
            f"{_OWNER}: `interactions` must be mepjax.learn.Interactions; "
            f"got {type(interactions).__name__}."
        )
    training = Training() if training is None else training
    if not isinstance(training, Training):
        raise TypeError(
            f"{_OWNER}: `training` must be a learn.Training; got {type(training).__name__}."
        )
    checks.check_count(_OWNER, "steps", steps)
    check_needs(_OWNER, training, interactions)
    m = len(interactions)
    held_out = int(_HELD_OUT * m)
    if held_out < 2:
        raise ValueError(
            f"{_OWNER}: `interactions` must be at least {round(2 / _HELD_OUT)}; got {m}."
        )
    key = jax.random.key(0) if key is None else check_key(key)
    start, split, learn = jax.random.split(key, 3)
    order = np.asarray(jax.random.permutation(split, m))
    log = interactions.for_problem(problem)
    # One cycle of that many steps, towards the end of which the rate falls.
    learner = trees.replaced(training.at_rest(), network_steps=steps, cycles=1, prefit=0)
    state = learner.init(start, problem)
    state, _ = updated(learner, state, problem, log.take(order[held_out:]), learn)
    error, of_base = _errors(problem, learner, state, log.take(order[:held_out]))
    report = checks.report((*problem.checks(), *interactions.checks(problem)))
    code = jnp.maximum(
        learner.state_code(state),
        jnp.where(jnp.isfinite(error), as_code(Code.OK), as_code(Code.NON_FINITE)),
    )
    return FittedCosts(
        problem=learner.problem(state, problem),
        error=error,
        error_of_base=of_base,
        code=jnp.where(report.code != int(Code.OK), report.code, code).astype(jnp.int32),
        input_report=report,
        learner=training.at_rest(),
        state=state,
        n_held_out=held_out,
    )


@program
def _errors(
    problem: Clustering, learner: Training, state: TrainingState, log: Interactions
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean squared errors of the network, and of the cost of the cluster told."""
    assert log.centres is not None and log.round is not None
    costs = learner.learnt_costs(state, problem)
    origin = jax.lax.stop_gradient(problem.origin)
    sets = jnp.asarray(log.centres)

    def foretold(entity: Array, told: Array, place: Array) -> tuple[Array, Array]:
        x, y = problem.x[entity][None], sets[place]
        plain = problem.cost.pairwise(x - origin, y - origin)
        return costs(x, y)[0, told], plain[0, told]

    found = jax.vmap(foretold)(log.entity, log.prescribed, log.round)
    paid, times = log.costs(problem), jnp.asarray(log.counted, problem.x.dtype)
    shares = times / jnp.maximum(jnp.sum(times), 1e-30)
    error, of_base = (shares @ (paid - each) ** 2 for each in found)
    return error, of_base
