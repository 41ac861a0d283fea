"""Where those go who override, by two small networks and maximum likelihood."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from ..._core import checks, sampling, trees
from ..._core.codes import Code, as_code
from ..._core.failures import raise_failed
from ..._core.keys import check_key
from ...problems.autonomy import Pairwise
from ...problems.clustering import Clustering
from ..interactions import Interactions
from ..learner import (
    AbstractLearner,
    Needs,
    average_costs,
    check_choice,
    check_needs,
    check_unaware,
    kappa_groups,
    updated,
)
from ..logged import appended, override_shares, share_of, with_room
from .learnt_costs import Build, Frozen, units
from .logits import Choices, LearntLogits, LogitNetwork, as_choices, log_choices, unlikelihood
from .steps import perturbed

_OWNER = "Choice"
# Noise on centres at which `interact` asks, in spacings, and how many sets of them in a round.
_AROUND, _SETS = (0.1, 1.0), 4
# Steps over which the rate of learning rises, and after which it falls as one over a square root.
_WARM_UP, _FALL = 50, 500
# A probability that a loss counts at least, so that surprises do not make it infinite.
_LEAST = 1e-6


class ChoiceState(eqx.Module):
    """Parameters of both networks, their running average, moments, and what was seen.

    Of `choices` the first `count` rows are filled in; `lost` is for how many there was no room.
    """

    params: Any
    average: Any
    moments: Any
    step: Int[Array, ""]
    choices: Choices
    count: Int[Array, ""]
    lost: Int[Array, ""]
    overrides: Float[Array, " groups"]
    told: Float[Array, " groups"]
    origin: Float[Array, " d"]
    spacing: Float[Array, ""]


class Choice(AbstractLearner):
    """Overrides by what draws from centre to centre and from entity to centre, whatever that is.

    p(k|j,i) = 1 - kappa for k = j, else kappa softmax_{k != j}(pull(y_j, y_k) + reach(x_i, y_k)),
    with kappa the share of overrides and two small networks of maximum likelihood. The result is
    an `autonomy.Pairwise`, which holds at any centres. For who sees where entities go and can name
    no family: it takes thousands of times fewer interactions than `Training`, and `Structured` a
    few times fewer still where overrides go to what is near.

    Interactions must say which centres were in force, and rounds of many different centres tell
    more than one. Without error bars: those of a network's parameters would say nothing.

    **Arguments:**

    - `kappa`: `"shared"`, or the group of each entity, shape (N,), for one kappa by group.
    - `width`: of the two hidden layers of each network.
    - `steps`, `batch`: steps after each round, and overrides in each of them, drawn from all seen.
    - `learning_rate`, `weight_decay`: of AdamW; the rate rises for 50 steps, then falls slowly.
    - `average`: factor of the running average of parameters, which is what the model uses.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was expected.

    Source: autonomy-aware clustering, section 4; that of a network for the choice is ours.

    **Example:** see `Choice.autonomy_of`, and `learn.interact` with a `Choice()`.
    """

    group: Any
    learning_rate: Any
    weight_decay: Any
    average: Any
    n_groups: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)

    def __init__(
        self,
        kappa: Any = "shared",
        *,
        width: int = 32,
        steps: int = 20,
        batch: int = 256,
        learning_rate: Any = 1e-2,
        weight_decay: Any = 1e-4,
        average: Any = 0.98,
    ) -> None:
        self.group, self.n_groups = kappa_groups(_OWNER, kappa)
        for name, value in (("width", width), ("steps", steps), ("batch", batch)):
            checks.check_count(_OWNER, name, value)
        self.width, self.steps, self.batch = width, steps, batch
        self.learning_rate, self.weight_decay, self.average = learning_rate, weight_decay, average
        numbers = (
            ("learning_rate", learning_rate, np.inf, True),
            ("weight_decay", weight_decay, np.inf, False),
            ("average", average, 1.0, False),
        )
        checks.enforce(
            tuple(
                checks.check_range(
                    _OWNER, name, np.asarray(value), low=0.0, high=most, open_low=is_open
                )
                for name, value, most, is_open in numbers
                if checks.is_concrete(value)
            )
        )

    # What the loop asks.

    @property
    def needs(self) -> Needs:
        """Where entities went, and the centres at the time."""
        return Needs(realised=True, centres=True)

    @property
    def shares_starts(self) -> bool:
        """What is learnt at some centres holds at others."""
        return True

    def asked_at(
        self, state: Any, problem: Clustering, centres: Float[Array, "k d"], key: Any
    ) -> Float[Array, "sets k d"]:
        """Centres around these, near and far."""
        del state
        return perturbed(centres, _AROUND, units(problem)[1], _SETS, key)

    def _network(self, state: ChoiceState) -> Frozen:
        features, dtype = state.origin.shape[0], state.origin.dtype.type
        return self._frozen(features, dtype)

    def _frozen(self, features: int, dtype: Any) -> Frozen:
        return Frozen(Build(LogitNetwork, (("width", self.width),), features, dtype))

    def init(self, key: Any, problem: Clustering) -> ChoiceState:
        """Overrides to all alike, nobody known to override, no room for interactions."""
        check_choice(_OWNER, problem, self.group)
        dtype, (_, d), k = problem.x.dtype, problem.x.shape, problem.k
        build: Any = self._frozen(d, dtype.type).build
        networks: Any = [build(key) for key in jax.random.split(key)]
        params = {n: nnx.split(a)[1] for n, a in zip(("pull", "reach"), networks, strict=True)}
        whole, real = jnp.zeros((0,), jnp.int32), jnp.zeros((0,), dtype)
        groups, none = jnp.zeros((self.n_groups,), dtype), jnp.zeros((), jnp.int32)
        origin, spacing = units(problem)
        return ChoiceState(
            params=params,
            average=params,
            moments=self._optimiser().init(params),
            step=none,
            choices=Choices(whole, whole, whole, real, jnp.zeros((0, k, d), dtype)),
            count=none,
            lost=none,
            overrides=groups,
            told=groups,
            origin=origin,
            spacing=spacing,
        )

    def reserve(self, state: ChoiceState, problem: Clustering, m: int) -> ChoiceState:
        """Room for `m` more interactions; where their number is traced, for `m` more rows."""
        del problem
        return eqx.tree_at(lambda s: s.choices, state, with_room(state.choices, state.count, m))

    def resize(self, state: ChoiceState, problem: Clustering) -> ChoiceState:
        """Nothing in the state is by entity."""
        check_choice(_OWNER, problem, self.group)
        return state

    # What is learnt.

    def autonomy(self, state: ChoiceState) -> Pairwise:
        """The model of the averaged networks."""
        network = self._network(state)
        kappa = share_of(state.overrides, state.told)
        by_entity = kappa[0] if self.group is None else kappa[jnp.asarray(self.group)]
        pull, reach = (
            LearntLogits(network, state.average[name], state.origin, state.spacing)
            for name in ("pull", "reach")
        )
        return Pairwise(by_entity, pull, reach)

    def costs(
        self, state: ChoiceState, problem: Clustering, rows: Int[Array, " m"], centres: Array
    ) -> Float[Array, "m k"]:
        """Averages of the distances under the learnt model, differentiable in the centres."""
        return average_costs(self.autonomy(state), problem, rows, centres)

    def state_code(self, state: ChoiceState) -> Int[Array, ""]:
        """NON_FINITE for parameters that are not, INVALID_INPUT where there was no room."""
        finite = trees.all_finite((state.params, state.average))
        code = jnp.where(finite, as_code(Code.OK), as_code(Code.NON_FINITE))
        return jnp.where(state.lost > 0, as_code(Code.INVALID_INPUT), code)

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(self.weight_decay))

    def _rate(self, step: Int[Array, ""]) -> Float[Array, ""]:
        rise = jnp.minimum((step + 1) / _WARM_UP, 1.0)
        return self.learning_rate * rise / jnp.sqrt(1 + step / _FALL)

    def update(
        self, state: ChoiceState, problem: Clustering, interactions: Interactions, key: Any
    ) -> tuple[ChoiceState, dict[str, Any]]:
        """`steps` steps on overrides drawn from all interactions so far.

        `loss` is the mean negative log-likelihood of the new ones under what was known before.
        """
        new = as_choices(problem, interactions)
        loss = self._surprise(state, problem, new)
        if checks.is_concrete(state.count):
            state = self.reserve(state, problem, new.entity.shape[0])
        choices, count, lost = appended(state.choices, state.count, new)
        _, overrides, told = override_shares(
            self._groups(new), self.n_groups, new.times, new.strayed
        )
        state = eqx.tree_at(
            lambda s: (s.choices, s.count, s.lost, s.overrides, s.told),
            state,
            (choices, count, state.lost + lost, state.overrides + overrides, state.told + told),
        )
        weights = choices.times * choices.strayed
        # Where nobody has strayed any row will do, as none of them counts.
        weights = jnp.where(jnp.sum(weights) > 0, weights, 1.0)
        network, optimiser = self._network(state), self._optimiser()

        def once(held: Any, key: Any) -> tuple[Any, None]:
            params, average, moments, step = held
            rows = sampling.systematic(key, weights, self.batch)
            drawn = jax.tree.map(lambda a: a[rows], choices)
            grad = jax.grad(unlikelihood)(
                params, network, drawn, problem.x, state.origin, state.spacing
            )
            change, moments = optimiser.update(grad, moments, params)
            rate = self._rate(step)
            params = jax.tree.map(lambda p, c: p - (rate * c).astype(p.dtype), params, change)
            average = jax.tree.map(
                lambda a, p: (self.average * a + (1 - self.average) * p).astype(p.dtype),
                average, params,
            )  # fmt: skip
            return (params, average, moments, step + 1), None

        held = state.params, state.average, state.moments, state.step
        held = jax.lax.scan(once, held, jax.random.split(key, self.steps))[0]
        names = lambda s: (s.params, s.average, s.moments, s.step)  # noqa: E731
        return eqx.tree_at(names, state, held), {"loss": loss}

    def _groups(self, choices: Choices) -> Int[Array, " m"]:
        if self.group is None:
            return jnp.zeros_like(choices.entity)
        return jnp.asarray(self.group)[choices.entity]

    def _surprise(self, state: ChoiceState, problem: Clustering, new: Choices) -> Float[Array, ""]:
        network = self._network(state)
        logs = log_choices(state.average, network, new, problem.x, state.origin, state.spacing)
        kappa = share_of(state.overrides, state.told)[self._groups(new)]
        chance = jnp.where(new.strayed, kappa * jnp.exp(logs), 1 - kappa)
        surprise = -jnp.log(jnp.maximum(chance, _LEAST))
        return jnp.sum(new.times * surprise) / jnp.maximum(jnp.sum(new.times), 1e-30)

    def autonomy_of(
        self,
        problem: Clustering,
        interactions: Interactions,
        *,
        steps: int = 2000,
        key: Any = None,
    ) -> Pairwise:
        """The model of a log, without asking: `steps` steps on all of it.

        **Arguments:** `problem`, a `Clustering` without autonomy; `interactions`, with the centres
        in force; `key`, a JAX random key, default a fixed one.

        **Raises:** `TypeError` or `ValueError` naming the argument; `SolveError` where the networks
        broke down.

        **Example:**

        ```python
        >>> import jax, mepjax as mj
        >>> problem = mj.Clustering(mj.datasets.four_square(60)[0], 4)
        >>> asked = mj.learn.Simulated(mj.autonomy.Softmax(kappa=0.3, gamma=0.5))
        >>> log = mj.learn.collect(problem, asked, key=jax.random.key(0), rounds=4, each=100)
        >>> model = mj.learn.Choice(width=8).autonomy_of(problem, log, steps=20)
        >>> print(f"{model.kappa:.1f}", problem.replace(autonomy=model).k)
        0.3 4

        ```
        """
        owner = f"{_OWNER}.autonomy_of"
        check_unaware(owner, problem)
        if not isinstance(interactions, Interactions):
            raise TypeError(
                f"{owner}: `interactions` must be mepjax.learn.Interactions; "
                f"got {type(interactions).__name__}."
            )
        checks.check_count(owner, "steps", steps)
        check_needs(owner, self, interactions)
        checks.enforce(interactions.checks(problem))
        start, learn = jax.random.split(jax.random.key(0) if key is None else check_key(key))
        learner = trees.replaced(self, steps=steps)
        log = interactions.for_problem(problem)
        state, _ = updated(learner, learner.init(start, problem), problem, log, learn)
        code = learner.state_code(state)
        if checks.is_concrete(code):
            raise_failed(code, checks.report(()))
        return learner.autonomy(state)
