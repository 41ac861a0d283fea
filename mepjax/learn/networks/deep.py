"""Deep soft Q-learning of a process with vectors as states, while its parameters move."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..._core import arrays, checks, gibbs, sampling, trees
from ..._core.codes import Code, as_code
from ..._core.failures import raise_failed, with_report
from ..._core.params import primal_of
from ..processes import check_answers
from ..vectors import AbstractVectorProcess
from .deep_values import DeepValues, pass_through, uniform_prior
from .settings import Recipe
from .shapes import perceptron
from .steps import lowered, optimiser, perturbed, rate_of, stepped

_OWNER = "learn.deep_soft_q"
# The least perturbation of parameters, as a share of the largest.
_LEAST = 0.3


class LearnedDeep(eqx.Module):
    """What was learned.

    **Fields:** `params`, the mean over the last rounds at the last beta; `action_values`, a
    `DeepValues`; by stage `beta`, `history` of the params, `loss`, the mean squared error (3.28)
    in squared units of cost, and `value`, the mean free energy of first states as learnt;
    `interactions`, how often the environment was asked; `failed`, how many answers were of no use;
    `code`: NON_FINITE where answers, network or params were not numbers; `input_report`, of bad
    input that was traced, whose code comes first.
    """

    params: Any
    action_values: DeepValues
    beta: Float[Array, " stages"]
    history: Any
    loss: Float[Array, " stages"]
    value: Float[Array, " stages"]
    interactions: Float[Array, ""]
    failed: Int[Array, ""]
    code: Int[Array, ""]
    input_report: checks.InputReport | None = None

    def raise_if_failed(self) -> "LearnedDeep":
        """Return self, or raise on the host if learning failed.

        **Raises:** `ValueError` for bad input, `SolveError` otherwise.
        """
        raise_failed(self.code, self.input_report)
        return self


class _Asked(eqx.Module):
    """Transitions at parameters of their own; `weight` is zero for answers of no use."""

    state: Float[Array, "*n d"]
    params: Float[Array, "*n p"]
    action: Int[Array, "*n"]
    cost: Float[Array, "*n"]
    after: Float[Array, "*n d"]
    goes_on: Float[Array, "*n"]
    weight: Float[Array, "*n"]


class _Actors(eqx.Module):
    """Where the actors are, at which parameters, and for how many steps of an episode."""

    state: Float[Array, "actors d"]
    offset: Float[Array, "actors p"]
    age: Int[Array, " actors"]


class _Held(eqx.Module):
    """What is carried from round to round."""

    layers: Any
    mean: Any
    moments: Any
    step: Int[Array, ""]
    replay: _Asked
    rounds: Int[Array, ""]
    actors: _Actors
    flat: Float[Array, " p"]
    good: Any


class _Settings(eqx.Module):
    """Numbers of `deep_soft_q`; `rate_of` reads some."""

    discount: Any
    learning_rate: Any
    radius: Any
    kick: Any
    average: Any
    rounds: int = eqx.field(static=True)
    actors: int = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    network_steps: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    replay: int = eqx.field(static=True)
    place_steps: int = eqx.field(static=True)
    hidden: tuple[int, ...] = eqx.field(static=True)
    cycles: int = eqx.field(static=True)
    prefit: int = eqx.field(static=True, default=0)
    warm_up: int = eqx.field(static=True, default=50)
    recipe: Recipe = eqx.field(static=True, default=Recipe())


def deep_soft_q(
    env: AbstractVectorProcess,
    init: Any = None,
    *,
    key: Any,
    beta: Any,
    discount: Any = 1.0,
    rounds: int = 40,
    actors: int = 64,
    steps: int = 8,
    max_steps: int = 30,
    hidden: tuple[int, ...] = (64, 64),
    network_steps: int = 10,
    batch: int = 256,
    replay: int = 40,
    learning_rate: Any = 2e-3,
    average: Any = 0.95,
    radius: Any = 0.1,
    place_steps: int = 5,
    kick: Any = 1e-2,
) -> LearnedDeep:
    """Learn action values by a network over states and parameters; parameters move down them.

    In every round `actors` go on by `steps`, each at parameters that are perturbed about the
    present ones, with actions by the policy relative to uniform choice. What they see is kept for
    `replay` rounds. Then the network takes `network_steps` on batches of it towards cost and
    discounted free energy of the next state, (3.28), by the running mean of its layers; and
    parameters take `place_steps` down the mean free energy of first states that the network says,
    no further from where they were than the perturbations that taught it. Without parameters this
    is deep soft Q-learning.

    **Arguments:**

    - `env`: an `AbstractVectorProcess`; `Indicators(env)` makes one of an `AbstractProcess`.
    - `init`: params to start from, in the environment's shape; `None`: there are none.
    - `key`: a JAX random key.
    - `beta`: rising inverse temperatures, shape (stages,).
    - `discount`: in (0, 1].
    - `rounds` at every beta, `actors`, `steps` of each in a round, `max_steps` of an episode,
        `network_steps`, `batch`, `replay`, `place_steps`: counts.
    - `hidden`: widths of hidden layers.
    - `learning_rate` of AdamW, which falls as a cosine until the end.
    - `average`: factor of the running mean of layers, which gives targets and the answer.
    - `radius`: largest standard deviation of perturbations, in units of the parameters.
    - `kick`: standard deviation of what moves parameters at random before every beta but the last.

    **Returns:** `LearnedDeep`; vmaps over keys, `init`, `beta` and environments. Where the
    environment fails the last good parameters stay.

    **Raises:** `TypeError` or `ValueError` naming the argument.

    Source: parameterized sequential decision making, Algorithm 5 and (3.28), with entropy relative
    to uniform choice.

    **Example:** shapes alone, as learning takes its time.

    ```python
    >>> import equinox as eqx, jax, jax.numpy as jnp
    >>> from mepjax import learn
    >>> from mepjax.datasets import small_cells
    >>> env = learn.Indicators(learn.SimulatedProcess(small_cells(6, 2).problem()))
    >>> run = lambda key: learn.deep_soft_q(env, jnp.zeros((2, 2)), key=key, beta=[1.0, 2.0])
    >>> print(eqx.filter_eval_shape(run, jax.random.key(0)).history.shape)
    (2, 2, 2)

    ```
    """
    if not isinstance(env, AbstractVectorProcess):
        raise TypeError(
            f"{_OWNER}: `env` must be an AbstractVectorProcess such as Indicators(env); got "
            f"{type(env).__name__}."
        )
    counts = {
        "rounds": rounds, "actors": actors, "steps": steps, "max_steps": max_steps,
        "network_steps": network_steps, "batch": batch, "replay": replay,
        "place_steps": place_steps,
    }  # fmt: skip
    for name, count in counts.items():
        checks.check_count(_OWNER, name, count)
    for width in hidden:
        checks.check_count(_OWNER, "hidden", width)
    init = jax.tree.map(lambda leaf: arrays.as_float_array("init", leaf), primal_of(init))
    leaves = jax.tree.leaves(init)
    beta = arrays.as_float_array("beta", beta) if not leaves else beta
    dtype = leaves[0].dtype if leaves else beta.dtype
    beta = arrays.as_data_like("beta", beta, dtype)
    if beta.ndim != 1 or beta.shape[0] == 0:
        raise ValueError(f"{_OWNER}: `beta` must have shape (stages,); got {beta.shape}.")
    given = {
        "discount": discount, "learning_rate": learning_rate, "radius": radius, "kick": kick,
        "average": average,
    }  # fmt: skip
    given = {name: arrays.as_data_like(name, value, dtype) for name, value in given.items()}
    limits = {"discount": 1.0, "learning_rate": 1.0, "radius": jnp.inf}
    found = [
        checks.check_range(_OWNER, "beta", beta, low=0.0, open_low=True),
        *(
            checks.check_range(_OWNER, name, given[name], low=0.0, high=high, open_low=True)
            for name, high in limits.items()
        ),
        checks.check_range(_OWNER, "kick", given["kick"], low=0.0),
        checks.check_range(_OWNER, "average", given["average"], low=0.0, high=1.0),
        *(checks.check_finite(_OWNER, "init", leaf) for leaf in leaves),
    ]
    checks.enforce(found)
    check_answers(_OWNER, env, init)
    all_: dict[str, Any] = given | counts
    settings = _Settings(**all_, hidden=tuple(hidden), cycles=rounds * beta.shape[0])
    return with_report(_learn(env, init, key, beta, settings), checks.report(found))


@eqx.filter_jit
def _learn(
    env: AbstractVectorProcess, init: Any, key: Any, betas: Float[Array, " stages"], s: _Settings
) -> LearnedDeep:
    dtype = betas.dtype
    flat, shaped = ravel_pytree(init)
    flat = flat.astype(dtype)
    size, rows = flat.size, s.actors * s.steps
    making, beginning, key = jax.random.split(key, 3)
    look = lambda state, flat: env.observe(state, shaped(flat)).astype(dtype)  # noqa: E731
    first = jax.vmap(env.reset)(jax.random.split(beginning, s.actors)).astype(dtype)
    features = jax.eval_shape(look, first[0], flat).shape[0]
    widths = (features, *s.hidden, env.n_actions)
    network, descent = pass_through(widths, dtype), optimiser(1.0, 0.0)
    layers = nnx.split(perceptron(widths, dtype, nnx.Rngs(params=making)))[1]

    def free(layers: Any, states: Array, flats: Array, beta: Any) -> tuple[Array, Array]:
        """Free energies, in units of cost, and log policies of states at parameters."""
        seen = jax.vmap(look)(states, flats)
        prior = uniform_prior(jax.vmap(env.permitted)(states), dtype)
        return gibbs.relative(network(layers, seen), prior, beta)

    def moved(actors: _Actors, key: Any, layers: Any, flat: Array, beta: Any) -> Any:
        """One step of all actors."""
        choose, ask, again, noise = jax.random.split(key, 4)
        flats = flat + actors.offset
        _, log_policy = free(layers, actors.state, flats, beta)
        drawn = jax.random.uniform(choose, (s.actors,), dtype)
        action = sampling.by_inverse(drawn, jnp.exp(log_policy))
        after, cost, ended = jax.vmap(lambda k, x, u, p: env.step(k, x, u, shaped(p)))(
            jax.random.split(ask, s.actors), actors.state, action, flats
        )
        good = jnp.isfinite(cost) & jnp.all(jnp.isfinite(after), axis=1)
        inside = jnp.where(good[:, None], after, actors.state).astype(dtype)
        seen = _Asked(
            actors.state, flats, action, jnp.where(good, cost, 0.0).astype(dtype), inside,
            (~ended).astype(dtype), good.astype(dtype),
        )  # fmt: skip
        age = actors.age + 1
        over = ended | ~good | (age >= s.max_steps)
        fresh = jax.vmap(env.reset)(jax.random.split(again, s.actors)).astype(dtype)
        state = jnp.where(over[:, None], fresh, inside)
        offset = jnp.where(over[:, None], offsets(noise), actors.offset)
        return _Actors(state, offset, jnp.where(over, 0, age)), seen

    def offsets(key: Any) -> Float[Array, "actors p"]:
        sizes = _LEAST * s.radius, s.radius
        return perturbed(jnp.zeros((1, size), dtype), sizes, jnp.ones((), dtype), s.actors, key)[
            :, 0
        ]

    def asked(held: _Held, key: Any, scale: Any, beta: Any) -> tuple[_Held, Any]:
        """A round of steps, into the replay in place of the oldest round."""
        step = lambda a, k: moved(a, k, held.mean, held.flat, beta * scale)  # noqa: E731
        actors, seen = jax.lax.scan(step, held.actors, jax.random.split(key, s.steps))
        at = (held.rounds % s.replay) * rows

        def put(kept: Array, new: Array) -> Array:
            new = new.reshape(rows, *new.shape[2:])
            return jax.lax.dynamic_update_slice_in_dim(kept, new, at, 0)

        replay = jax.tree.map(put, held.replay, seen)
        failed = jnp.sum(seen.weight == 0).astype(jnp.int32)
        new = replay, held.rounds + 1, actors
        return eqx.tree_at(lambda h: (h.replay, h.rounds, h.actors), held, new), (failed, seen)

    def taught(held: _Held, key: Any, scale: Any, beta: Any) -> tuple[_Held, Array]:
        """One step of the network on a batch of what was kept."""
        filled = jnp.minimum(held.rounds, s.replay) * rows
        chosen = jax.random.randint(key, (s.batch,), 0, filled)
        batch: _Asked = jax.tree.map(lambda kept: kept[chosen], held.replay)
        ahead, _ = free(held.mean, batch.after, batch.params, beta * scale)
        target = batch.cost / scale + s.discount * jnp.where(batch.goes_on > 0, ahead, 0.0)

        def loss(layers: Any) -> Array:
            said = network(layers, jax.vmap(look)(batch.state, batch.params))
            own = jnp.take_along_axis(said, batch.action[:, None], axis=1)[:, 0]
            total = jnp.maximum(jnp.sum(batch.weight), 1.0)
            return jnp.sum(batch.weight * (target - own) ** 2) / total

        error, slope = jax.value_and_grad(loss)(held.layers)
        change, moments = descent.update(slope, held.moments, held.layers)
        rate = rate_of(s, held.step)
        layers, mean = stepped(held.layers, change, rate, held.mean, s.average)
        new = layers, mean, moments, held.step + 1
        where = lambda h: (h.layers, h.mean, h.moments, h.step)  # noqa: E731
        return eqx.tree_at(where, held, new), error

    def a_round(held: _Held, given: tuple[Any, Any], scale: Any, beta: Any) -> tuple[_Held, Any]:
        key, index = given
        ask, learn, begin, go = jax.random.split(key, 4)
        held, (failed, _) = asked(held, ask, scale, beta)
        keys = jax.random.split(learn, s.network_steps)
        held, errors = jax.lax.scan(lambda h, k: taught(h, k, scale, beta), held, keys)
        states = jax.vmap(env.reset)(jax.random.split(begin, s.batch)).astype(dtype)

        def energy(flat: Array, key: Any) -> Array:
            del key
            flats = jnp.broadcast_to(flat, (s.batch, size))
            return jnp.mean(free(held.mean, states, flats, beta * scale)[0])

        rate = s.radius * rate_of(s, held.step) / (s.learning_rate * s.place_steps)
        flat = lowered(energy, held.flat, rate, jax.random.split(go, s.place_steps))
        flat = jnp.clip(flat, held.flat - s.radius, held.flat + s.radius)
        usable = jnp.all(jnp.isfinite(flat)) & (failed == 0) & trees.all_finite(held.mean)
        # What was learnt at the beta before says little yet.
        flat = jnp.where(usable & (index >= s.rounds // 4), flat, held.flat)
        held = eqx.tree_at(lambda h: (h.flat, h.good), held, (flat, held.good & usable))
        told = jnp.mean(errors) * scale**2, scale * energy(flat, None), failed, flat
        return held, told

    def stage(held: _Held, given: tuple[Any, Any, Any], scale: Any) -> tuple[_Held, Any]:
        beta, key, last = given
        kicking, rest = jax.random.split(key)
        noise = s.kick * jax.random.normal(kicking, (size,), dtype)
        held = eqx.tree_at(lambda h: h.flat, held, held.flat + jnp.where(last, 0.0, noise))
        keys = jax.random.split(rest, s.rounds), jnp.arange(s.rounds)
        held, told = jax.lax.scan(lambda h, g: a_round(h, g, scale, beta), held, keys)
        errors, values, failed, flats = told
        half = flats[s.rounds // 2 :]
        return held, (jnp.mean(errors), values[-1], jnp.sum(failed), jnp.mean(half, axis=0))

    zeros = lambda *tail: jnp.zeros((s.replay * rows, *tail), dtype)  # noqa: E731
    width = first.shape[1]
    empty = _Asked(
        zeros(width), zeros(size), zeros().astype(jnp.int32), zeros(), zeros(width), zeros(),
        zeros(),
    )  # fmt: skip
    looking, spreading, key = jax.random.split(key, 3)
    none = jnp.zeros((), jnp.int32)
    actors = _Actors(first, offsets(spreading), jnp.zeros((s.actors,), jnp.int32))
    held = _Held(
        layers, layers, descent.init(layers), none, empty, none, actors, flat, jnp.asarray(True)
    )
    # Before all else a round by chance, which also tells the size of costs.
    tiny = jnp.asarray(1e-6, dtype)
    held, (failed, seen) = asked(held, looking, jnp.ones((), dtype), tiny)
    size_of = jnp.sum(seen.weight * jnp.abs(seen.cost)) / jnp.maximum(jnp.sum(seen.weight), 1.0)
    scale = jnp.where(size_of > 0, size_of, 1.0)
    stages = betas.shape[0]
    given = betas, jax.random.split(key, stages), jnp.arange(stages) == stages - 1
    held, (losses, values, failures, history) = jax.lax.scan(
        lambda h, g: stage(h, g, scale), held, given
    )
    good = held.good & (failed == 0) & jnp.all(jnp.isfinite(losses))
    count = (1 + s.rounds * stages) * rows
    return LearnedDeep(
        shaped(history[-1]), DeepValues(env, held.mean, scale, widths), betas,
        jax.vmap(shaped)(history), losses, values, jnp.asarray(count, dtype),
        failed + jnp.sum(failures), jnp.where(good, as_code(Code.OK), as_code(Code.NON_FINITE)),
    )  # fmt: skip
