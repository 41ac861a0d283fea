"""What a given policy costs, where it goes, and paths that follow it."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import arrays, checks, trees
from .learners import Environment
from .model import MDP
from .solve import MDPSolution
from .transitions import solve_chain


def evaluate(model: MDP, policy: Any) -> Float[Array, " states"]:
    """Expected discounted cost of a policy from every state, without entropy.

    **Arguments:** `model`; `policy`, actions (states,), probabilities of actions (states, actions),
    or what `mdp.solve` returned.

    **Returns:** the costs; inf without discount where the policy does not end with probability one,
    and no finite number where a traced policy names an action that is not there.
    Differentiable in everything.

    **Raises:** `TypeError` or `ValueError` for a policy of another shape, or one that is no
    distribution over permitted actions.

    **Example:** of two steps, each tried until it succeeds.

    ```python
    >>> import jax.numpy as jnp
    >>> from mepjax import mdp
    >>> kernel = mdp.Deterministic([[1, 0], [2, 1], [2, 2]])
    >>> model = mdp.MDP(kernel, jnp.ones((3, 2)), discount=1.0, terminal=[2])
    >>> print(mdp.evaluate(model, jnp.full((3, 2), 0.5)), mdp.evaluate(model, [0, 1, 0]))
    [4. 2. 0.] [inf inf  0.]

    ```
    """
    return _evaluate(model, _as_policy("mdp.evaluate", model, policy))


@eqx.filter_jit
def _evaluate(model: MDP, policy: Float[Array, "states actions"]) -> Float[Array, " states"]:
    values, endless, _ = _chain_values(model, policy, model.expected_costs())
    return jnp.where(endless, jnp.inf, values)


def frequencies(model: MDP, policy: Any) -> Float[Array, "states actions"]:
    """Expected discounted number of times a policy takes every action, from the start on.

    With the expected costs c of actions, sum(frequencies * c) is the mean of `evaluate` over the
    start distribution, and frequencies are its gradient in c.

    **Arguments:** as for `evaluate`.

    **Returns:** the frequencies; nothing is done where all ends. They are inf for all other states
    if from some start the policy does not end and there is no discount.

    **Example:**

    ```python
    >>> import jax.numpy as jnp
    >>> from mepjax import mdp
    >>> kernel = mdp.Deterministic([[1, 0], [2, 1], [2, 2]])
    >>> model = mdp.MDP(
    ...     kernel, jnp.ones((3, 2)), discount=1.0, terminal=[2], start=jnp.array([1.0, 0, 0])
    ... )
    >>> print(mdp.frequencies(model, jnp.full((3, 2), 0.5)))
    [[1. 1.]
     [1. 1.]
     [0. 0.]]

    ```
    """
    return _frequencies(model, _as_policy("mdp.frequencies", model, policy))


@eqx.filter_jit
def _frequencies(
    model: MDP, policy: Float[Array, "states actions"]
) -> Float[Array, "states actions"]:
    def mean(costs: Float[Array, "states actions"]) -> tuple[Array, tuple[Array, Array]]:
        values, endless, goes_on = _chain_values(model, policy, costs)
        return model.start @ values, (endless, goes_on)

    visits, (endless, goes_on) = jax.grad(mean, has_aux=True)(model.expected_costs())
    lost = jnp.any(endless & (model.start > 0))
    return jnp.where(lost & goes_on[:, None], jnp.inf, visits)


def _chain_values(
    model: MDP, policy: Float[Array, "states actions"], costs: Float[Array, "states actions"]
) -> tuple[Float[Array, " states"], Bool[Array, " states"], Bool[Array, " states"]]:
    """Values where they exist, zero elsewhere; where they do not exist; and what does not end."""
    goes_on = ~model.terminal
    transitions = model.kernel.under(policy)
    # From where the end can be reached, and from where one can get to where it cannot.
    reaching = _closure(transitions, model.terminal, goes_on)
    endless = _closure(transitions, ~reaching, goes_on) & (model.discount == 1)
    live = goes_on & ~endless
    paid = jnp.where(live, jnp.sum(policy * costs, axis=1), 0.0)
    chain = transitions.masked(live.astype(costs.dtype))
    return solve_chain(chain, model.discount, paid, paid), endless, goes_on


def _closure(
    transitions: Any, inside: Bool[Array, " s"], goes_on: Bool[Array, " s"]
) -> Bool[Array, " s"]:
    """States from which the chain can get inside."""
    transitions = trees.stop_gradient(transitions)
    dtype = transitions.p.dtype

    def grown(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        old, _ = carry
        ahead = transitions.mv(old.astype(dtype)) > 0
        new = old | (goes_on & ahead)
        return new, jnp.any(new != old)

    return jax.lax.while_loop(lambda carry: carry[1], grown, (inside, jnp.asarray(True)))[0]


class SampledPaths(NamedTuple):
    """Paths that were drawn.

    **Fields:** `states` (paths, steps + 1); `actions` (paths, steps), -1 after the end; `costs`
    (paths, steps), not discounted, zero after the end.
    """

    states: Int[Array, "paths after"]
    actions: Int[Array, "paths steps"]
    costs: Float[Array, "paths steps"]


def sample_paths(
    model: MDP | Environment, policy: Any, *, key: Any, paths: int, steps: int
) -> SampledPaths:
    """Draw paths from the start distribution on that follow a policy.

    **Arguments:** `model`, an `MDP` with concrete transitions or its `Environment`, whose costs may
    be noisy; `policy` as for `evaluate`; `key`, a JAX random key; counts of `paths` and `steps`.

    **Returns:** `SampledPaths`. A path that has ended stays where it is.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from mepjax import mdp
    >>> kernel = mdp.Deterministic([[1, 0], [2, 1], [2, 2]])
    >>> model = mdp.MDP(
    ...     kernel, jnp.ones((3, 2)), discount=1.0, terminal=[2], start=jnp.array([1.0, 0, 0])
    ... )
    >>> drawn = mdp.sample_paths(model, [0, 0, 0], key=jax.random.key(0), paths=1, steps=3)
    >>> print(drawn.states, drawn.costs)
    [[0 1 2 2]] [[1. 1. 0.]]

    ```
    """
    checks.check_count("mdp.sample_paths", "paths", paths)
    checks.check_count("mdp.sample_paths", "steps", steps)
    env = model if isinstance(model, Environment) else Environment(model)
    shape = env.next.shape[0], env.next.shape[1]
    allowed = None if isinstance(model, Environment) else model.permitted
    chances = _check_policy(
        "mdp.sample_paths", policy, shape, env.costs.dtype, allowed, env.terminal
    )
    return _sample_paths(env, chances, key, int(paths), int(steps))


@eqx.filter_jit
def _sample_paths(
    env: Environment, policy: Float[Array, "states actions"], key: Any, paths: int, steps: int
) -> SampledPaths:
    dtype, cumulated = env.costs.dtype, jnp.cumsum(policy, axis=1)
    first, second, third = jax.random.split(key, 3)
    start = jnp.cumsum(env.start)
    drawn = jax.random.uniform(first, (paths,), dtype) * start[-1]
    states = jnp.minimum(jnp.searchsorted(start, drawn, side="right"), start.shape[0] - 1)
    uniforms = jax.random.uniform(second, (steps, paths, 2), dtype)
    normals = jax.random.normal(third, (steps, paths), dtype)

    def one(state: Any, uniform: Any, normal: Any) -> tuple[Any, Any]:
        ends, rows = env.terminal[state], cumulated[state]
        action = jnp.sum(rows <= uniform[0] * rows[-1])
        after, cost = env.step(uniform[1], state, action)
        after = jnp.where(ends, state, after).astype(jnp.int32)
        cost = jnp.where(jnp.isnan(rows[-1]), jnp.nan, cost)
        seen = jnp.where(ends, 0.0, cost + env.noise_of(state, action) * normal)
        return after, (after, jnp.where(ends, -1, action).astype(jnp.int32), seen)

    _, (after, actions, costs) = jax.lax.scan(
        lambda s, x: jax.vmap(one)(s, *x), states.astype(jnp.int32), (uniforms, normals)
    )
    return SampledPaths(jnp.concatenate([states[None], after]).T, actions.T, costs.T)


def _as_policy(owner: str, model: MDP, policy: Any) -> Float[Array, "states actions"]:
    if not isinstance(model, MDP):
        raise TypeError(f"{owner}: `model` must be an MDP; got {type(model).__name__}.")
    shape = model.n_states, model.n_actions
    dtype = model.costs.dtype
    return _check_policy(owner, policy, shape, dtype, model.permitted, model.terminal)


def _check_policy(
    owner: str, policy: Any, shape: tuple[int, int], dtype: Any, permitted: Any, terminal: Any
) -> Float[Array, "states actions"]:
    """Probabilities of actions, from those, from actions or from a solution."""
    if isinstance(policy, MDPSolution):
        policy = jnp.exp(policy.log_policy)
    given = policy if isinstance(policy, jax.Array) else np.asarray(policy)
    if given.shape == shape[:1] and jnp.issubdtype(given.dtype, jnp.integer):
        checks.enforce(
            [checks.check_range(owner, "policy", given, low=0.0, high=float(shape[1] - 1))]
        )
        given = jnp.asarray(given)[:, None]
        chances = (given == jnp.arange(shape[1])).astype(dtype)
        # Traced ones cannot be refused: no cost that looks like one comes of them.
        return jnp.where((given >= 0) & (given < shape[1]), chances, jnp.nan)
    if given.shape != shape:
        raise ValueError(
            f"{owner}: `policy` must be {shape[0]} actions, probabilities of shape {shape}, or an "
            f"MDPSolution; got {given.dtype} of shape {given.shape}."
        )
    chances = arrays.as_data_like("policy", given, dtype)
    if checks.is_concrete(chances, permitted, terminal):
        found = np.where(np.asarray(terminal)[:, None], 1 / shape[1], np.asarray(chances))
        checks.enforce(
            [
                checks.check_range(owner, "policy", found, low=0.0),
                checks.check_rows_sum_to_one(owner, "policy", found),
            ]
        )
        if permitted is not None and (found[~np.asarray(permitted | terminal[:, None])] > 0).any():
            raise ValueError(f"{owner}: `policy` takes an action that is not permitted.")
    return chances
