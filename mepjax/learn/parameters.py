"""Learning where parameters of a decision process should be, and its policy, from answers alone."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from .._core import arrays, checks, gibbs, sampling
from .._core.codes import Code, as_code
from .._core.params import primal_of
from ..problems.parametric_mdp import ParametricMDP

_OWNER = "learn.learn_parameters"
# Where fewer episodes end, what they cost is not the cost of the policy.
_ENOUGH = 0.99


class AbstractProcess(eqx.Module):
    """A process with parameters that answers where an action leads and what it costs.

    `n_states` and `n_actions` are their numbers; `permitted`, boolean (states, actions) or `None`.
    """

    n_states: eqx.AbstractVar[int]
    n_actions: eqx.AbstractVar[int]
    permitted: eqx.AbstractVar[Bool[Array, "states actions"] | None]

    @abc.abstractmethod
    def reset(self, key: Any) -> Int[Array, ""]:
        """The state in which an episode begins."""

    @abc.abstractmethod
    def step(
        self, key: Any, state: Int[Array, ""], action: Int[Array, ""], params: Any
    ) -> tuple[Int[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """Next state, cost, and whether that was the end.

        With the same key the next state is the same whatever `params` are: two environments that
        differ in a parameter alone are asked for the derivative of the cost.
        """


class SimulatedProcess(AbstractProcess):
    """The answers of a `ParametricMDP`, which the learner does not see.

    **Arguments:** `problem`, without horizon and capacities; `noise`, standard deviation of the
    cost, the same with the same key.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from mepjax import learn
    >>> from mepjax.datasets import small_cells
    >>> env = learn.SimulatedProcess(small_cells(6, 2).problem())
    >>> after, cost, ended = env.step(jax.random.key(0), 7, 2, jnp.zeros((2, 2)))
    >>> print(after, ended)
    8 True

    ```
    """

    problem: ParametricMDP
    noise: Any
    n_states: int = eqx.field(static=True)
    n_actions: int = eqx.field(static=True)
    permitted: Bool[Array, "states actions"] | None

    def __init__(self, problem: ParametricMDP, *, noise: Any = 0.0) -> None:
        if not isinstance(problem, ParametricMDP):
            raise TypeError(
                "SimulatedProcess: `problem` must be a ParametricMDP; "
                f"got {type(problem).__name__}."
            )
        if problem.horizon is not None or problem.limits is not None:
            raise ValueError("SimulatedProcess: `problem` must have no horizon and no capacities.")
        self.problem, self.permitted = problem, problem.permitted
        self.noise = arrays.as_data_like("noise", noise, problem.dtype)
        self.n_states, self.n_actions = problem.kernel.n_states, problem.kernel.n_actions

    def reset(self, key: Any) -> Int[Array, ""]:
        """A state drawn from the start distribution."""
        return sampling.by_inverse(jax.random.uniform(key, ()), self.problem.start)

    def step(
        self, key: Any, state: Int[Array, ""], action: Int[Array, ""], params: Any
    ) -> tuple[Int[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """Next state, cost with `noise`, and whether that state is terminal."""
        which, how = jax.random.split(key)
        problem = self.problem
        after = problem.kernel.sample(jax.random.uniform(which, ()), state, action)
        states, actions = problem.parameters(params)
        place = None if actions is None else actions[action]
        cost = problem.step.of_one(states[state], place, states[after])
        if problem.extra_costs is not None:
            cost = cost + problem.extra_costs[state, action]
        cost = cost + self.noise * jax.random.normal(how, (), cost.dtype)
        return after, cost, problem.terminal[after]


def check_answers(owner: str, env: Any, params: Any) -> None:
    """Raise `ValueError` unless an environment answers in the shapes of its interface."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = eqx.filter_eval_shape(env.reset, key)
    action = jax.ShapeDtypeStruct((), jnp.int32)
    got = eqx.filter_eval_shape(env.step, key, state, action, params)
    if not isinstance(got, tuple) or len(got) != 3:
        raise ValueError(
            f"{owner}: `env.step` must answer (next state, cost, whether that was the end); got "
            f"{got!r:.60}."
        )
    expected = state.shape, (), ()
    for name, answer, shape in zip(("next state", "cost", "end"), got, expected, strict=True):
        if jnp.shape(answer) != shape:
            raise ValueError(
                f"{owner}: `env.step` must answer a {name} of shape {shape}; got "
                f"{jnp.shape(answer)}."
            )


class LearnedParameters(eqx.Module):
    """What was learned.

    **Fields:** `params`; `action_values` and `log_policy` (states, actions) at the last beta; by
    stage `beta`, `history` of the params and, in the stage's last round, `cost`, the sampled mean
    cost of an episode, and `ended`, the share of episodes that were not cut; `interactions`, how
    often the environment was asked; `failed`, how many answers were of no use; `code`: NON_FINITE
    where answers or params were not numbers; MAX_STEPS where, without discount, more than one of a
    hundred episodes was cut in the last round, so that `cost` leaves out what was still to come.
    """

    params: Any
    action_values: Float[Array, "states actions"]
    log_policy: Float[Array, "states actions"]
    beta: Float[Array, " stages"]
    history: Any
    cost: Float[Array, " stages"]
    ended: Float[Array, " stages"]
    interactions: Float[Array, ""]
    failed: Int[Array, ""]
    code: Int[Array, ""]


class _Tally(eqx.Module):
    """Sums over episodes: cost, its first and second differences in every parameter."""

    cost: Float[Array, ""]
    slope: Float[Array, " flat"]
    bend: Float[Array, " flat"]
    asked: Float[Array, ""]
    failed: Int[Array, ""]


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
    omega: Any = 0.6,
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
    transition.

    **Arguments:**

    - `env`: an `AbstractProcess`.
    - `init`: params to start from, in the environment's shape.
    - `key`: a JAX random key.
    - `beta`: rising inverse temperatures, shape (stages,).
    - `discount`: in (0, 1].
    - `rounds`, `actors`, `max_steps`: counts; an episode that has not ended by then is cut.
    - `omega`: the value of an action met for the n-th time at a beta moves by (n + 1)^-omega.
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
    for name, count in (("rounds", rounds), ("actors", actors), ("max_steps", max_steps)):
        checks.check_count(_OWNER, name, count)
    init = jax.tree.map(lambda leaf: arrays.as_float_array("init", leaf), primal_of(init))
    dtype = jax.tree.leaves(init)[0].dtype
    beta = arrays.as_data_like("beta", beta, dtype)
    if beta.ndim != 1 or beta.shape[0] == 0:
        raise ValueError(f"{_OWNER}: `beta` must have shape (stages,); got {beta.shape}.")
    given = {"discount": discount, "omega": omega, "eps": eps, "damping": damping, "kick": kick}
    given = {name: arrays.as_data_like(name, value, dtype) for name, value in given.items()}
    checks.enforce(
        [
            checks.check_range(_OWNER, "beta", beta, low=0.0, open_low=True),
            checks.check_range(
                _OWNER, "discount", given["discount"], low=0.0, high=1.0, open_low=True
            ),
            checks.check_range(_OWNER, "omega", given["omega"], low=0.0, high=1.0),
            checks.check_range(_OWNER, "eps", given["eps"], low=0.0, open_low=True),
            checks.check_range(
                _OWNER, "damping", given["damping"], low=0.0, high=1.0, open_low=True
            ),
            checks.check_range(_OWNER, "kick", given["kick"], low=0.0),
            *(checks.check_finite(_OWNER, "init", leaf) for leaf in jax.tree.leaves(init)),
        ]
    )
    check_answers(_OWNER, env, init)
    return _learn(env, init, key, beta, given, int(rounds), int(actors), int(max_steps))


@eqx.filter_jit
def _learn(
    env: AbstractProcess, init: Any, key: Any, betas: Float[Array, " stages"],
    given: dict[str, Any], rounds: int, actors: int, max_steps: int,
) -> LearnedParameters:  # fmt: skip
    start, shaped = ravel_pytree(init)
    dtype, size = start.dtype, start.size
    n, a = env.n_states, env.n_actions
    discount, eps = given["discount"], given["eps"]
    permitted = jnp.ones((n, a), bool) if env.permitted is None else env.permitted
    number = jnp.maximum(jnp.sum(permitted, axis=1, keepdims=True), 1)
    log_prior = jnp.where(permitted, -jnp.log(number.astype(dtype)), -jnp.inf)
    moves = jnp.concatenate([jnp.zeros((1, size), dtype), eps * jnp.eye(size, dtype=dtype)])
    moves = jnp.concatenate([moves, -moves[1:]])

    def asked(key: Any, state: Any, action: Any, flat: Array) -> tuple[Array, ...]:
        """Where it leads, whether it ends, and cost here and beside in every parameter."""
        after, costs, ends = jax.vmap(
            lambda move: env.step(key, state, action, shaped(flat + move))
        )(moves)
        return after[0], ends[0], costs.astype(dtype)

    def episode(carry: Any, key: Any, flat: Array, beta: Any) -> tuple[Any, _Tally, Array]:
        """A round: all actors go on side by side and teach one table; also how many are cut."""
        first, rest = jax.random.split(key)
        states = jax.vmap(env.reset)(jax.random.split(first, actors)).astype(jnp.int32)

        def step(inner: Any, key: Any) -> tuple[Any, None]:
            table, count, states, live, factor, tally = inner
            choose, ask = jax.random.split(key)
            rows, priors = table[states], log_prior[states]
            _, log_policy = gibbs.relative(rows, priors, beta)
            drawn = jax.random.uniform(choose, (actors,), dtype)
            actions = sampling.by_inverse(drawn, jnp.exp(log_policy))
            after, ends, costs = jax.vmap(lambda k, s, u: asked(k, s, u, flat))(
                jax.random.split(ask, actors), states, actions
            )
            good = jnp.all(jnp.isfinite(costs), axis=1) & (after >= 0) & (after < n)
            inside = jnp.clip(after, 0, n - 1).astype(jnp.int32)
            costs = jnp.where(good[:, None], costs, 0.0)
            here, above, below = costs[:, 0], costs[:, 1 : size + 1], costs[:, size + 1 :]
            worth, _ = gibbs.relative(table[inside], log_prior[inside], beta)
            target = here + discount * jnp.where(ends, 0.0, worth)
            taught = (live & good).astype(dtype)
            error = taught * (target - table[states, actions])
            seen = jnp.zeros((n, a), dtype).at[states, actions].add(taught)
            total = jnp.zeros((n, a), dtype).at[states, actions].add(error)
            count = count + (seen > 0)
            rate = (count + 1) ** -given["omega"]
            table = table + jnp.where(seen > 0, rate * total / jnp.maximum(seen, 1.0), 0.0)
            weight = taught * factor
            tally = _Tally(
                tally.cost + jnp.sum(weight * here),
                tally.slope + weight @ (above - below) / (2 * eps),
                tally.bend + weight @ (above - 2 * here[:, None] + below) / eps**2,
                tally.asked + (2 * size + 1) * jnp.sum(live),
                tally.failed + jnp.sum(live & ~good).astype(jnp.int32),
            )
            live = live & good & ~ends
            return (table, count, inside, live, factor * discount, tally), None

        table, count = carry
        zero = jnp.zeros((), dtype)
        none = _Tally(
            zero, jnp.zeros((size,), dtype), jnp.zeros((size,), dtype), zero, jnp.int32(0)
        )
        inner = table, count, states, jnp.ones((actors,), bool), zero + 1, none
        inner, _ = jax.lax.scan(step, inner, jax.random.split(rest, max_steps))
        return inner[:2], inner[-1], jnp.sum(inner[3].astype(dtype))

    def a_round(carry: Any, given_: tuple[Any, Any], beta: Any) -> tuple[Any, Any]:
        table, count, flat, good = carry
        key, index = given_
        (table, count), tally, cut = episode((table, count), key, flat, beta)
        # A parameter that no episode has to do with stays.
        bent = tally.bend > 1e-6 * jnp.max(jnp.abs(tally.bend))
        step = jnp.where(bent, tally.slope / jnp.where(bent, tally.bend, 1.0), 0.0)
        moved = flat - given["damping"] * step
        usable = jnp.all(jnp.isfinite(moved)) & (tally.failed == 0)
        flat = jnp.where(usable & (index >= rounds // 2), moved, flat)
        told = tally.cost / actors, tally.asked, tally.failed, 1 - cut / actors
        return (table, count, flat, good & usable), told

    def stage(carry: Any, given_: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        table, flat, good = carry
        beta, key, last = given_
        kicking, rest = jax.random.split(key)
        noise = given["kick"] * jax.random.normal(kicking, flat.shape, dtype)
        flat = flat + jnp.where(last, 0.0, noise)
        start = table, jnp.zeros((n, a), dtype), flat, good
        end, told = jax.lax.scan(
            lambda c, x: a_round(c, x, beta), start,
            (jax.random.split(rest, rounds), jnp.arange(rounds)),
        )  # fmt: skip
        table, _, flat, good = end
        cost, asked_, failed, ended = told
        told = flat, cost[-1], ended[-1], jnp.sum(asked_), jnp.sum(failed)
        return (table, flat, good), told

    stages = betas.shape[0]
    last = jnp.arange(stages) == stages - 1
    empty = jnp.zeros((n, a), dtype), start, jnp.asarray(True)
    (table, flat, good), (history, costs, ended, counts, failed) = jax.lax.scan(
        stage, empty, (betas, jax.random.split(key, stages), last)
    )
    _, log_policy = gibbs.relative(table, log_prior, betas[-1])
    lost = (discount == 1) & (ended[-1] < _ENOUGH)
    code = jnp.where(lost, as_code(Code.MAX_STEPS), as_code(Code.OK))
    return LearnedParameters(
        shaped(flat), table, log_policy, betas, jax.vmap(shaped)(history), costs, ended,
        jnp.sum(counts), jnp.sum(failed), jnp.where(good, code, as_code(Code.NON_FINITE)),
    )  # fmt: skip
