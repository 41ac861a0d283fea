"""Learning where parameters of a decision process should be, and its policy, from answers alone."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from .._core import arrays, checks, gibbs
from .._core.codes import Code, as_code
from .._core.failures import raise_failed, with_report
from .._core.params import primal_of
from .episodes import Episodes, Table, Tally
from .processes import AbstractProcess, check_answers

_OWNER = "learn.learn_parameters"
# Where fewer episodes end, what they cost is not the cost of the policy.
_ENOUGH = 0.99


class LearnedParameters(eqx.Module):
    """What was learned.

    **Fields:** `params`; `action_values` and `log_policy` (states, actions) at the last beta; by
    stage `beta`, `history` of the params and, while these moved, `cost`, the sampled mean cost of
    an episode, and `ended`, the share of episodes that were not cut; `sampled_cost`, the mean cost
    of `rounds` times `actors` fresh episodes under `log_policy` at `params`, by which to choose
    among keys; `interactions`, how often the environment was asked; `failed`, how many answers were
    of no use; `code`: NON_FINITE where answers or params were not numbers; MAX_STEPS where, without
    discount, more than one of a hundred fresh episodes was cut, so that `sampled_cost` leaves out
    what was still to come; `input_report`, of bad input that was traced, whose code comes first.
    """

    params: Any
    action_values: Float[Array, "states actions"]
    log_policy: Float[Array, "states actions"]
    beta: Float[Array, " stages"]
    history: Any
    cost: Float[Array, " stages"]
    ended: Float[Array, " stages"]
    sampled_cost: Float[Array, ""]
    interactions: Float[Array, ""]
    failed: Int[Array, ""]
    code: Int[Array, ""]
    input_report: checks.InputReport | None = None

    def raise_if_failed(self) -> "LearnedParameters":
        """Return self, or raise on the host if learning failed.

        **Raises:** `ValueError` for bad input, `SolveError` otherwise.
        """
        raise_failed(self.code, self.input_report)
        return self


def learn_parameters(
    env: AbstractProcess,
    init: Any,
    *,
    key: Any,
    beta: Any,
    discount: Any = 1.0,
    rounds: int = 40,
    actors: int = 64,
    max_steps: int = 30,
    warm_up: int = 10,
    omega: Any = 0.6,
    keep: Any = 0.25,
    trace: Any = 0.9,
    eps: Any = 1e-2,
    damping: Any = 0.5,
    kick: Any = 1e-2,
) -> LearnedParameters:
    """Learn policy and parameters together while beta rises, from an environment that only answers.

    At every beta `rounds` times `actors` episodes are run side by side. All of them teach a table
    of action values by soft Q-learning relative to the uniform prior over permitted actions. In the
    latter half of the rounds parameters move as well: by the envelope theorem the mean over
    episodes of the discounted sum of dc/dzeta is the gradient of F, and that of second derivatives
    the scale of a step, both from two environments that differ in one parameter and take the same
    transition. At the end of a stage they are the mean of its last quarter.

    The table begins with values of the prior and is taught on the way to the first beta while
    parameters stay at `init`, which may so be a solution of a model. Values come down from above:
    where packets may wait or circle for nothing an empty table would hold them there.

    **Arguments:**

    - `env`: an `AbstractProcess`.
    - `init`: params to start from, in the environment's shape.
    - `key`: a JAX random key.
    - `beta`: rising inverse temperatures, shape (stages,).
    - `discount`: in (0, 1].
    - `rounds`, `actors`, `max_steps`: counts; an episode that has not ended by then is cut.
    - `warm_up`: betas at which the table is taught before the first.
    - `omega`: where m episodes of a round met an action and n all in all, its value moves by
        (m / n)^omega.
    - `keep`: share of n that counts at the next beta, in [0, 1].
    - `trace`: how much of what an episode went on to cost enters a value, in [0, 1], in place of
        the value of the next state.
    - `eps`: by how much the two environments differ, in units of the parameters.
    - `damping`: share of a Newton step of every parameter by itself, in (0, 1].
    - `kick`: standard deviation of what moves parameters at random before every beta but the last,
        in their units: what stands at one place cannot part otherwise.

    **Returns:** `LearnedParameters`; vmaps over keys, `init`, `beta` and environments. Where the
    environment fails the last good parameters stay.

    **Raises:** `TypeError` or `ValueError` naming the argument.

    Source: parameterized sequential decision making, Algorithm 4; its (3.26) keeps a table of
    derivatives for every parameter, of which this is the mean along episodes.

    **Example:** one user, one relay half way to the base.

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> from mepjax import learn, mdp
    >>> problem = mj.ParametricMDP(
    ...     mdp.Deterministic([[1], [2], [2]]), unknown_states=[1], terminal=[2],
    ...     state_params=jnp.array([[0.0, 0.0], [9.0, 9.0], [4.0, 2.0]]),
    ... )
    >>> env = learn.SimulatedProcess(problem)
    >>> found = learn.learn_parameters(
    ...     env, jnp.zeros((1, 2)), key=jax.random.key(0), beta=[1.0, 2.0], actors=4, max_steps=3
    ... )
    >>> print(found.params.round(2))
    [[2. 1.]]

    ```
    """
    if not isinstance(env, AbstractProcess):
        raise TypeError(
            f"{_OWNER}: `env` must be an AbstractProcess such as SimulatedProcess(problem); got "
            f"{type(env).__name__}."
        )
    counts = {"rounds": rounds, "actors": actors, "max_steps": max_steps, "warm_up": warm_up}
    for name, count in counts.items():
        checks.check_count(_OWNER, name, count)
    init = jax.tree.map(lambda leaf: arrays.as_float_array("init", leaf), primal_of(init))
    dtype = jax.tree.leaves(init)[0].dtype
    beta = arrays.as_data_like("beta", beta, dtype)
    if beta.ndim != 1 or beta.shape[0] == 0:
        raise ValueError(f"{_OWNER}: `beta` must have shape (stages,); got {beta.shape}.")
    given = {
        "discount": discount, "omega": omega, "eps": eps, "damping": damping, "kick": kick,
        "keep": keep, "trace": trace,
    }  # fmt: skip
    given = {name: arrays.as_data_like(name, value, dtype) for name, value in given.items()}
    found = [
        checks.check_range(_OWNER, "beta", beta, low=0.0, open_low=True),
        checks.check_range(_OWNER, "discount", given["discount"], low=0.0, high=1.0, open_low=True),
        *(
            checks.check_range(_OWNER, name, given[name], low=0.0, high=1.0)
            for name in ("omega", "keep", "trace")
        ),
        checks.check_range(_OWNER, "eps", given["eps"], low=0.0, open_low=True),
        checks.check_range(_OWNER, "damping", given["damping"], low=0.0, high=1.0, open_low=True),
        checks.check_range(_OWNER, "kick", given["kick"], low=0.0),
        *(checks.check_finite(_OWNER, "init", leaf) for leaf in jax.tree.leaves(init)),
    ]
    checks.enforce(found)
    check_answers(_OWNER, env, init)
    learnt = _learn(
        env, init, key, beta, given, int(rounds), int(actors), int(max_steps), int(warm_up)
    )
    return with_report(learnt, checks.report(found))


@eqx.filter_jit
def _learn(
    env: AbstractProcess, init: Any, key: Any, betas: Float[Array, " stages"],
    given: dict[str, Any], rounds: int, actors: int, max_steps: int, warm_up: int,
) -> LearnedParameters:  # fmt: skip
    start, shaped = ravel_pytree(init)
    dtype, stages = start.dtype, betas.shape[0]
    shape = env.n_states, env.n_actions
    permitted = jnp.ones(shape, bool) if env.permitted is None else env.permitted
    number = jnp.maximum(jnp.sum(permitted, axis=1, keepdims=True), 1)
    log_prior = jnp.where(permitted, -jnp.log(number.astype(dtype)), -jnp.inf)
    episodes = Episodes(
        env, shaped, log_prior, given["discount"], given["omega"], given["trace"], given["eps"],
        actors, max_steps,
    )  # fmt: skip
    looking, warming, going, judging = jax.random.split(key, 4)
    resting, moving = rounds // 2, rounds - rounds // 2

    def rest(table: Table, flat: Array, beta: Any, key: Any, count: int) -> tuple[Table, Tally]:
        """Rounds that teach the table alone."""
        table = Table(table.values, table.by_chance, given["keep"] * table.met)
        teach = lambda table, key: episodes.run(  # noqa: E731
            key, table, flat, beta
        )
        return jax.lax.scan(teach, table, jax.random.split(key, count))

    def move(carry: Any, key: Any, beta: Any) -> tuple[Any, Any]:
        """A round under the policy, after which parameters take a step."""
        table, flat, good = carry
        table, tally = episodes.run(key, table, flat, beta, beside=True)
        # A parameter that no episode has to do with stays.
        bent = tally.bend > 1e-6 * jnp.max(jnp.abs(tally.bend))
        step = jnp.where(bent, tally.slope / jnp.where(bent, tally.bend, 1.0), 0.0)
        moved = flat - given["damping"] * step
        usable = jnp.all(jnp.isfinite(moved)) & (tally.failed == 0)
        flat = jnp.where(usable, moved, flat)
        return (table, flat, good & usable), (flat, tally)

    def stage(carry: Any, given_: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        table, flat, good = carry
        beta, key, last = given_
        kicking, teaching, key = jax.random.split(key, 3)
        noise = given["kick"] * jax.random.normal(kicking, flat.shape, dtype)
        flat = flat + jnp.where(last, 0.0, noise)
        table, quiet = rest(table, flat, beta, teaching, resting)
        (table, _, good), (flats, told) = jax.lax.scan(
            lambda c, k: move(c, k, beta), (table, flat, good), jax.random.split(key, moving)
        )
        # Single steps carry the chance of their episodes.
        flat = jnp.mean(flats[moving // 2 :], axis=0)
        asked = jnp.sum(quiet.asked) + jnp.sum(told.asked)
        failed = jnp.sum(quiet.failed) + jnp.sum(told.failed)
        cost, ended = jnp.mean(told.cost) / actors, 1 - jnp.mean(told.cut) / actors
        return (table, flat, good), (flat, cost, ended, asked, failed)

    zero = jnp.zeros(shape, dtype)
    empty = Table(zero, zero, zero)
    table, first = jax.lax.scan(
        lambda table, k: episodes.run(k, table, start, betas[0], by_chance=True),
        empty, jax.random.split(looking, max(resting, 1)),
    )  # fmt: skip
    mean = jnp.abs(jnp.mean(first.cost)) / actors
    low = jnp.minimum(betas[0], 1 / jnp.where(mean > 0, mean, 1.0))
    rising = low * (betas[0] / low) ** (jnp.arange(warm_up, dtype=dtype) / warm_up)
    table, warmed = jax.lax.scan(
        lambda table, g: rest(table, start, g[0], g[1], max(resting, 1)),
        table, (rising, jax.random.split(warming, warm_up)),
    )  # fmt: skip
    last = jnp.arange(stages) == stages - 1
    carry = table, start, jnp.sum(first.failed) + jnp.sum(warmed.failed) == 0
    (table, flat, good), (history, costs, ended, asked, failed) = jax.lax.scan(
        stage, carry, (betas, jax.random.split(going, stages), last)
    )
    _, judged = jax.lax.scan(
        lambda _, k: (None, episodes.run(k, table, flat, betas[-1])[1]),
        None, jax.random.split(judging, rounds),
    )  # fmt: skip
    _, log_policy = gibbs.relative(table.values, log_prior, betas[-1])
    whole = 1 - jnp.mean(judged.cut) / actors
    code = jnp.where(
        (given["discount"] == 1) & (whole < _ENOUGH), as_code(Code.MAX_STEPS), as_code(Code.OK)
    )
    others = first, warmed, judged
    return LearnedParameters(
        shaped(flat), table.values, log_policy, betas, jax.vmap(shaped)(history), costs, ended,
        jnp.mean(judged.cost) / actors,
        jnp.sum(asked) + sum(jnp.sum(tally.asked) for tally in others),
        jnp.sum(failed) + sum(jnp.sum(tally.failed) for tally in others),
        jnp.where(good, code, as_code(Code.NON_FINITE)),
    )  # fmt: skip
