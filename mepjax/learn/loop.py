"""Learning while annealing: one scan over the schedule, in pieces or whole."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from .._core import checks, gibbs, trees
from .._core.codes import Code, as_code
from .._core.keys import check_key
from .._core.programs import program
from ..engine.monitor import report_progress
from ..engine.schedules import AbstractSchedule
from ..engine.state import check_kind
from ..engine.transitions import critical_beta
from ..problems.clustering import Clustering
from .ending import concluded, solved
from .environments import AbstractEnvironment
from .learned import Learned, LearningTrace
from .learner import AbstractLearner, check_learner, check_unaware, with_autonomy
from .rounds import Explore, over_starts, played
from .scattered import check_environment
from .state import Carry, LearningProgress, LearningState

# Interactions above which running costs more than compiling; see `mepjax.compile_options`.
_LONG = 3_000_000
# Fresh interactions by default: a tenth of what a start has asked, within these bounds. Starts that
# differ by a per cent are told apart by some 1e5, since overrides make costs noisy.
_LEAST_FRESH, _MOST_FRESH = 2_000, 200_000


def begin(
    problem: Clustering,
    environment: AbstractEnvironment,
    learner: AbstractLearner,
    schedule: AbstractSchedule | None = None,
    *,
    key: Any,
    explore: Explore | None = None,
    rounds: int | None = None,
    each: int | None = None,
    starts: int = 4,
    fresh: int | None = None,
    monitor: Callable[[LearningProgress], None] | None = None,
) -> LearningState:
    """The state of `interact` before its first level of beta; takes the same arguments."""
    owner = "interact"
    key = check_key(key)
    check_unaware(owner, problem)
    check_environment(owner, environment)
    check_learner(owner, learner)
    check_kind("schedule", schedule, AbstractSchedule)
    check_kind("explore", explore, Explore)
    rounds_by_default, each_by_default = learner.pace
    rounds = rounds_by_default if rounds is None else rounds
    each = (each_by_default or problem.x.shape[0]) if each is None else each
    for name, value in (("rounds", rounds), ("each", each), ("starts", starts), ("fresh", fresh)):
        checks.check_count(owner, name, value, optional=name == "fresh")
    learner = learner.in_motion()
    conditions = () if schedule is None else schedule.checks()
    report = checks.report((*problem.checks(), *conditions))
    explore = learner.explore if explore is None else explore
    explore = Explore() if explore is None else explore
    scale, betas, carry, rows = _begin(problem, learner, schedule, key, starts, rounds * each)
    if betas.horizon is not None and _model(learner, carry.states) is None:
        raise ValueError(
            f"interact: `schedule` {type(betas).__name__} asks for the next transition, which "
            f"{type(learner).__name__} cannot foretell, as it learns no autonomy model; use a "
            "`Geometric` schedule."
        )
    asked = rows.beta.shape[0] * rounds * each
    few = min(max(asked // 10, _LEAST_FRESH), _MOST_FRESH) if fresh is None else fresh
    return LearningState(
        learner, betas, explore, key, scale, carry, rows, report, rounds, each, few, monitor
    )


def advance(
    problem: Clustering, environment: AbstractEnvironment, state: LearningState, stages: Any
) -> LearningState:
    """The next levels of beta, or as many as are left; `stages` may be traced."""
    _check_state("advance", state)
    carry, rows = _advance(
        problem,
        environment,
        state,
        np.asarray(stages, np.int32) if checks.is_concrete(stages) else stages,
    )
    return eqx.tree_at(lambda s: (s.carry, s.rows), state, (carry, rows))


def finish(problem: Clustering, environment: AbstractEnvironment, state: LearningState) -> Learned:
    """The levels that are left, then the centres, and fresh interactions to choose among starts."""
    state = advance(problem, environment, state, state.rows.beta.shape[0])
    learned = _finish(problem, environment, state, solved(problem, state))
    failure = environment.failure if checks.is_concrete(learned) else None
    if failure is not None and int(learned.code) != int(Code.OK):
        return learned.told(failure)
    return learned


def interact(
    problem: Clustering,
    environment: AbstractEnvironment,
    learner: AbstractLearner,
    schedule: AbstractSchedule | None = None,
    *,
    key: Any,
    explore: Explore | None = None,
    rounds: int | None = None,
    each: int | None = None,
    starts: int = 4,
    fresh: int | None = None,
    monitor: Callable[[LearningProgress], None] | None = None,
) -> Learned:
    """Learn where entities go by asking, and place the centres, while beta rises.

    At each level of beta, in every round, entities are drawn by their weights and told clusters
    by the Gibbs policy of what has been learnt so far, some of them at random; what they do is
    learnt, and the centres move. Compiled as a whole, one scan over the schedule; legal inside
    `jit` and `vmap` (but for `FromCallback`), over keys and all numbers of the environment.

    **Arguments:**

    - `problem`: a `Clustering` without autonomy, which is what is learnt.
    - `environment`: what answers, such as `Simulated(autonomy)` or `FromCallback(fn)`.
    - `learner`: `Tabular()`, `Counts()`, `Structured()`, `Training()`, or one of your own.
    - `schedule`: levels of beta; default that of the learner, which but for `Training` is
        `Geometric(0.5 b, 1e4 b, 1.1)` with b the problem's first transition.
        One that asks for transitions needs a learner of an autonomy model.
    - `key`: a JAX random key.
    - `explore`: how many interactions are prescribed at random; default that of the
        learner, which but for published settings of `Training` is `Explore(0.3, floor=0.1)`.
    - `rounds`, `each`: rounds at each level, and interactions of every start in each of them;
        default as suits the learner (`learner.pace`).
    - `starts`: several sets of centres that learn side by side.
    - `fresh`: interactions in the end by which the cheapest of them is chosen, for each; default
        a tenth of what it has asked before, from 2,000 to 200,000. Among those that they do not
        tell apart, a model that holds anywhere chooses.
    - `monitor`: a function called on the host after each level, with a `LearningProgress`.

    With a model the centres come from an anneal of it: for each start from where it has led, and
    where the model holds at any centres from `mepjax.solve` besides, with as many starts.

    **Returns:** a `Learned`, without derivatives: noise has none. It never raises for what happens
    on the way: see its `code`.

    **Raises:** `TypeError` or `ValueError` for arguments of the wrong kind.

    Source: autonomy-aware clustering, section 4 and appendix F (Algorithm 2 in one loop).

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> problem = mj.Clustering(mj.datasets.four_square(40)[0], 4)
    >>> environment = mj.learn.Simulated(mj.autonomy.Uniform(0.2))
    >>> learned = mj.learn.interact(
    ...     problem, environment, mj.learn.Counts(), mj.Geometric(1.0, 1e3, 1.5),
    ...     each=100, starts=2, key=jax.random.key(0),
    ... ).raise_if_failed()
    >>> print(learned.n_interactions, jax.numpy.diag(learned.autonomy.p).round(1))
    7800 [0.8 0.8 0.8 0.8]

    ```
    """
    state = begin(
        problem,
        environment,
        learner,
        schedule,
        key=key,
        explore=explore,
        rounds=rounds,
        each=each,
        starts=starts,
        fresh=fresh,
        monitor=monitor,
    )
    return finish(problem, environment, state)


def _check_state(owner: str, state: Any) -> None:
    if not isinstance(state, LearningState):
        raise TypeError(
            f"learn.{owner}: `state` must be a LearningState, such as `learn.begin` returns; "
            f"got {type(state).__name__}."
        )


def _model(learner: AbstractLearner, states: Any) -> Any:
    """The shapes of a learnt model, `None` where there is none."""
    if not learner.shares_starts:
        states = jax.tree.map(lambda leaf: leaf[0], states)
    return eqx.filter_eval_shape(learner.autonomy, states)


@program
def _begin(
    problem: Clustering,
    learner: AbstractLearner,
    schedule: AbstractSchedule | None,
    key: Any,
    starts: int,
    m: int,
) -> tuple[Array, AbstractSchedule, Carry, LearningTrace]:
    problem = trees.stop_gradient(problem)
    dtype = problem.x.dtype
    first, place = jax.random.split(jax.random.fold_in(key, np.uint32(2**32 - 1)))
    scale = problem.beta_scale().astype(dtype)
    if schedule is None:
        schedule = learner.schedule(scale, problem)
    betas: AbstractSchedule = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype) if eqx.is_inexact_array(leaf) else leaf,
        trees.stop_gradient(schedule),
    )
    centres = learner.starts(problem, starts, place)
    if learner.shares_starts:
        states = learner.init(first, problem)
        states = learner.reserve(states, problem, starts * m * betas.max_stages)
    else:
        keys = jax.random.split(first, starts)
        states = jax.vmap(lambda key: learner.init(key, problem))(keys)
    carry = Carry(
        states=states,
        centres=centres,
        levels=jnp.broadcast_to(centres, (learner.levels, *centres.shape)),
        stage=betas.init(scale),
        code=as_code(Code.OK),
        n_stages=jnp.zeros((), jnp.int32),
        n_interactions=jnp.zeros((), jnp.int32),
        done=jnp.asarray(False),
    )
    empty = jnp.full((betas.max_stages, starts), jnp.nan, dtype)
    rows = LearningTrace(empty[:, 0], empty, empty, empty, empty, empty[:, 0])
    # Weak types would be gone after a level, and a second piece be another program.
    carry = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), carry)
    return scale, betas, carry, rows


def _is_long(problem: Clustering, environment: Any, state: LearningState, stages: Any) -> bool:
    del problem, environment, stages
    levels, starts = state.rows.loss.shape
    return levels * starts * state.rounds * state.each > _LONG


def _advanced(
    problem: Clustering,
    environment: AbstractEnvironment,
    state: LearningState,
    stages: Int[Array | np.ndarray, ""],
) -> tuple[Carry, LearningTrace]:
    problem, environment, state = trees.stop_gradient((problem, environment, state))
    count = state.rows.beta.shape[0]
    stop = state.carry.n_stages + jnp.minimum(jnp.asarray(stages), count)

    def body(carry: Carry, at: tuple[Array, LearningTrace]) -> tuple[Carry, LearningTrace]:
        index, row = at
        skipped = carry.done | (index != carry.n_stages) | (index >= stop)
        return jax.lax.cond(
            skipped,
            lambda carry, index, row: (carry, row),
            lambda carry, index, row: _level(problem, environment, state, carry, index),
            carry,
            index,
            row,
        )

    return jax.lax.scan(body, state.carry, (jnp.arange(count), state.rows))


_advance = program(_advanced, is_long=_is_long)


def _level(
    problem: Clustering,
    environment: AbstractEnvironment,
    state: LearningState,
    carry: Carry,
    index: Int[Array, ""],
) -> tuple[Carry, LearningTrace]:
    """All rounds at one beta."""
    learner, beta = state.learner, carry.stage.beta
    explored = state.explore.at(beta, state.scale).astype(beta.dtype)
    key = jax.random.fold_in(state.key, index)

    def one(held: Any, number: Array) -> Any:
        return jax.lax.cond(held[2] == int(Code.OK), once, unasked, held, number)

    def unasked(held: Any, number: Array) -> Any:
        # Nothing more is asked of what broke down.
        del number
        return held, (held[1], jnp.full((held[1].shape[0],), jnp.nan, held[1].dtype))

    def once(held: Any, number: Array) -> Any:
        states, centres, code, answered = held
        new = played(
            problem,
            environment,
            learner,
            states,
            centres,
            beta,
            explored,
            state.each,
            jax.random.fold_in(key, number),
        )
        wrong = jnp.where(new.impossible, int(Code.INVALID_INPUT), int(Code.OK))
        wrong = jnp.where(trees.all_finite(new.centres), wrong, int(Code.NON_FINITE))
        wrong = jnp.where(new.impossible, int(Code.INVALID_INPUT), wrong)
        wrong = jnp.where(new.failed, int(Code.INVALID_INPUT), wrong)
        code = jnp.maximum(code, wrong).astype(jnp.int32)
        good = code == int(Code.OK)
        # The last good state is kept.
        states, centres = trees.where(good, (new.states, new.centres), (states, centres))
        answered = answered + jnp.where(good, new.answered, 0)
        return (states, centres, code, answered), (centres, new.loss)

    held = (carry.states, carry.centres, carry.code, jnp.zeros((), jnp.int32))
    held, (path, losses) = jax.lax.scan(one, held, jnp.arange(state.rounds))
    states, centres, code, answered = held
    level = jnp.mean(path[state.rounds // 2 :], axis=0)
    shares = problem.weights / jnp.sum(problem.weights)
    everybody = jnp.arange(problem.x.shape[0])

    def terms(learnt: Any, y: Array) -> tuple[Array, Array, Array]:
        costs = learner.costs(learnt, problem, everybody, y)
        return gibbs.free_energy_and_terms(costs, shares, beta)

    energy, distortion, entropy = over_starts(learner, terms, states, centres)
    row = LearningTrace(beta, jnp.mean(losses, axis=0), energy, distortion, entropy, explored)
    predicted = jnp.full_like(beta, jnp.inf)
    if state.schedule.horizon is not None:

        def foretold(learnt: Any, y: Array) -> Array:
            model = learner.autonomy(learnt)
            return critical_beta(with_autonomy(problem, model), y, beta)

        predicted = jnp.min(over_starts(learner, foretold, states, centres)).astype(beta.dtype)
    new = Carry(
        states=states,
        centres=centres,
        levels=jnp.concatenate([carry.levels[1:], level[None]]),
        stage=trees.where(
            carry.stage.last, carry.stage, state.schedule.next(carry.stage, predicted)
        ),
        code=code,
        n_stages=carry.n_stages + 1,
        n_interactions=carry.n_interactions + answered,
        done=carry.stage.last | (code != int(Code.OK)),
    )
    if state.monitor is not None:
        end = state.schedule.final_beta()
        report_progress(
            state.monitor,
            state.schedule.max_stages,
            kind=LearningProgress,
            stage=new.n_stages,
            beta=beta,
            beta_max=jnp.nan if end is None else end,
            free_energy=energy[0],
            loss=row.loss[0],
            explored=explored,
            n_interactions=new.n_interactions,
        )
    return new, row


@program
def _finish(
    problem: Clustering, environment: AbstractEnvironment, state: LearningState, best: Any
) -> Learned:
    return concluded(*trees.stop_gradient((problem, environment, state, best)))
