"""Training a network for average costs while centres move: Algorithm 2."""

import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ..._core import checks, trees
from ..._core.codes import Code, as_code
from ..._core.types import Scalar
from ...engine.schedules import AbstractSchedule, Geometric
from ...problems.averaged_clustering import AveragedClustering
from ...problems.clustering import Clustering
from ...problems.costs import SquaredEuclidean
from ..interactions import Interactions
from ..learner import AbstractLearner, Needs
from ..rounds import Explore, ExploreByLog
from .aden import ADEN, ADEN_PAPER, ADEN_RELEASED
from .beginning import ignoring_and_others, rising_then_held
from .learnt_costs import Build, Frozen, LearntCosts, units
from .settings import (
    AWAY,
    PAPER,
    RELEASED,
    Recipe,
    TrainingState,
    breakdown,
    check_numbers,
    network_named,
    parameters_of,
)
from .steps import Batch, batches_of_rows, batches_of_sets, descended, optimiser, perturbed
from .teaching import taught

_OWNER = "Training"


class Training(AbstractLearner):
    """A network that learns what centres anywhere near cost, and centres that descend through it.

    In each cycle, one level of beta of `learn.interact`, `network_steps` steps are taken on as many
    batches of interactions, at centres that are perturbed anew for each; then `centre_steps` steps
    of the centres on the free energy of the network's costs, through all its arguments: the
    response of costs to the other centres is what carries the autonomy. Targets are the costs that
    were paid, without smoothing, which would shrink that response. All starts share one network.

    Lengths are in spacings, s = total standard deviation / K^(1/d), so that settings carry over to
    other data and other K. It needs costs only, not where entities go, of squared distances, or of
    anything with `options={"base": None}`.

    **Arguments:**

    - `network`: `"aden"`, `"mlp"`, or a constructor like theirs; `options`: what it is given.
        Default blocks: one among centres, one of entities to centres.
    - `batch`, `entities`, `draws`: sets of perturbed centres of each start in a step, entities in
        each, and how often each is asked.
    - `perturbation`: least and largest standard deviation of the noise on centres, in spacings,
        drawn anew for each set.
    - `learning_rate`, `warm_up`, `clip`, `weight_decay`: of AdamW, whose rate rises for `warm_up`
        steps and falls as a cosine until the last cycle.
    - `average`: factor of the running average of parameters, which is what all but the steps use.
    - `prefit`: steps before centres move.
    - `centre_steps`, `network_steps`, `cycles`: see above; beta rises for three quarters of the
        cycles, then is held.
    - `centre_rate`: of Adam on centres, which starts afresh in each cycle, in spacings.
    - `centre_entities`: entities that a step of the centres looks at.
    - `smoothing`: factor of running means of targets for each pair; 0.95 in the paper.
    - `recipe`: where the published algorithm goes another way, see `paper`.
    - `init`: a `Learned` of another `Training` of the same network, whose parameters are the start.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was expected.

    Source: autonomy-aware clustering, Algorithm 2; with the other centres among a network's inputs,
    noise relative to the data, and targets that are not smoothed.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> problem = mj.Clustering(mj.datasets.four_square(40)[0], 4)
    >>> training = mj.learn.Training(
    ...     options={"width": 8, "heads": 2}, batch=1, entities=8, draws=1, cycles=2, prefit=2,
    ...     network_steps=2, centre_steps=1,
    ... )
    >>> environment = mj.learn.Simulated(mj.autonomy.Uniform(0.2))
    >>> learned = mj.learn.interact(
    ...     problem, environment, training, starts=2, fresh=50, key=jax.random.key(0)
    ... ).raise_if_failed()
    >>> print(learned.n_interactions, learned.costs(problem).shape)
    196 (40, 4)

    ```
    """

    network: Any = eqx.field(static=True)
    options: tuple[tuple[str, Any], ...] = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    entities: int = eqx.field(static=True)
    draws_each: int = eqx.field(static=True)
    perturbation: tuple[Any, Any]
    learning_rate: Any
    warm_up: int = eqx.field(static=True)
    clip: Any
    weight_decay: Any
    average: Any
    prefit: int = eqx.field(static=True)
    centre_steps: int = eqx.field(static=True)
    network_steps: int = eqx.field(static=True)
    cycles: int = eqx.field(static=True)
    centre_rate: Any
    centre_entities: int = eqx.field(static=True)
    smoothing: float = eqx.field(static=True)
    recipe: Recipe = eqx.field(static=True)
    parameters: Any
    # Whether interactions come in sets of `entities` times `draws` rows, as from the loop.
    in_sets: bool = eqx.field(static=True)

    def __init__(
        self,
        network: Any = "aden",
        *,
        options: Mapping[str, Any] | None = None,
        batch: int = 2,
        entities: int = 64,
        draws: int = 4,
        perturbation: tuple[Any, Any] = (0.1, 0.3),
        learning_rate: Any = 1e-3,
        warm_up: int = 200,
        clip: Any = 1.0,
        weight_decay: Any = 1e-5,
        average: Any = 0.98,
        prefit: int = 400,
        centre_steps: int = 5,
        network_steps: int = 30,
        cycles: int = 100,
        centre_rate: Any = 3e-3,
        centre_entities: int = 512,
        smoothing: float = 0.0,
        init: Any = None,
        recipe: Recipe = Recipe(),
    ) -> None:
        self.recipe = recipe
        self.network = network_named(network)
        default = {"blocks": 1, "centre_blocks": 1} if self.network is ADEN else {}
        given = default | dict(options or {})
        fixed = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}
        self.options = tuple(sorted(fixed.items()))
        counts = {
            "batch": batch, "entities": entities, "draws": draws, "centre_steps": centre_steps,
            "network_steps": network_steps, "cycles": cycles, "centre_entities": centre_entities,
        }  # fmt: skip
        for name, value in counts.items():
            checks.check_count(_OWNER, name, value)
        for name, value in (("warm_up", warm_up), ("prefit", prefit)):
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{_OWNER}: `{name}` must be an int >= 0; got {value!r}.")
        self.batch, self.entities, self.draws_each = batch, entities, draws
        self.warm_up, self.prefit, self.cycles = warm_up, prefit, cycles
        self.centre_steps, self.network_steps = centre_steps, network_steps
        self.centre_entities, self.smoothing = centre_entities, float(smoothing)
        self.learning_rate, self.clip, self.weight_decay = learning_rate, clip, weight_decay
        self.average, self.centre_rate = average, centre_rate
        if len(perturbation) != 2:
            raise ValueError(f"{_OWNER}: `perturbation` must be (low, high); got {perturbation!r}.")
        self.perturbation = (perturbation[0], perturbation[1])
        self.parameters = None if init is None else parameters_of(init)
        self.in_sets = False
        check_numbers(self)

    @classmethod
    def small(cls, **options: Any) -> "Training":
        """Some 20 seconds of two cores for each scenario of four clusters."""
        return cls(**options)

    @classmethod
    def medium(cls, **options: Any) -> "Training":
        """Twice the cycles."""
        settings: dict[str, Any] = {"cycles": 200} | options
        return cls(**settings)

    @classmethod
    def paper(cls, **options: Any) -> "Training":
        """Table 2 and its pseudocode, for data in the unit square; `DIFFERENCES` says what is not.

        A level is 65 million interactions: for a GPU, or with fewer `network_steps`.
        """
        settings: dict[str, Any] = {"options": ADEN_PAPER} | PAPER | options
        return cls(**settings)

    @classmethod
    def released(cls, **options: Any) -> "Training":
        """Network and steps of the authors' code; `DIFFERENCES` says what is not theirs."""
        settings: dict[str, Any] = {"options": ADEN_RELEASED} | RELEASED | options
        return cls(**settings)

    # What the loop asks.

    @property
    def needs(self) -> Needs:
        """What was paid, and at which centres."""
        return Needs(cost=True, centres=True)

    @property
    def shares_starts(self) -> bool:
        """One network for all."""
        return True

    @property
    def pace(self) -> tuple[int, int | None]:
        """All interactions of a cycle in one round."""
        return 1, self.network_steps * self.batch * self.entities * self.draws_each

    @property
    def draws(self) -> int:
        """As given."""
        return self.draws_each

    @property
    def explore(self) -> Explore | None:
        """As published, for the greedy recipe."""
        return ExploreByLog() if self.recipe.greedy else None

    def prescribed(self, costs: Float[Array, "m k"], beta: Scalar) -> Float[Array, "m k"]:
        """By the Gibbs policy, or greedily by the recipe."""
        if self.recipe.greedy:
            return jax.nn.one_hot(jnp.argmin(costs, axis=-1), costs.shape[-1], dtype=costs.dtype)
        return super().prescribed(costs, beta)

    @property
    def levels(self) -> int:
        """Twelve."""
        return 12

    def in_motion(self) -> "Training":
        """Where interactions come in sets."""
        return trees.replaced(self, in_sets=True)

    def at_rest(self) -> "Training":
        """Where they may come in any order."""
        return trees.replaced(self, in_sets=False)

    def schedule(self, scale: Float[Array, ""], problem: Clustering) -> AbstractSchedule:
        """Constant for `prefit`, rising for three quarters of the cycles, then constant."""
        if self.recipe.betas is not None:
            return Geometric(*self.recipe.betas)
        before = math.ceil(self.prefit / self.network_steps)
        return rising_then_held(scale, problem, before, self.cycles)

    def starts(self, problem: Clustering, starts: int, key: Any) -> Float[Array, "starts k d"]:
        """Half ignore autonomy; the others are at the mean, or for many clusters scattered."""
        if self.recipe.from_mean:
            return super().starts(problem, starts, key)
        return ignoring_and_others(problem, starts, key)

    def asked_at(
        self, state: Any, problem: Clustering, centres: Float[Array, "k d"], key: Any
    ) -> Float[Array, "sets k d"]:
        """Perturbed centres, `batch` sets for each step of the network."""
        del state
        sets = self.network_steps * self.batch
        return perturbed(centres, self.perturbation, units(problem)[1], sets, key)

    # What is learnt.

    def _frozen(self, problem: Clustering) -> Frozen:
        return Frozen(Build(self.network, self.options, problem.x.shape[1], problem.x.dtype.type))

    def init(self, key: Any, problem: Clustering) -> TrainingState:
        """A network that begins at the base cost, or the one given."""
        build = self._frozen(problem).build
        network: Any = build(key)  # type: ignore
        if getattr(network, "base", None) == "sqeuclidean" and not isinstance(
            problem.cost, SquaredEuclidean
        ):
            raise ValueError(
                f"{_OWNER}: the base of the network is the squared distance; got a problem of "
                f"{type(problem.cost).__name__}. Use options={{'base': None}}."
            )
        params = nnx.split(network)[1]
        if self.parameters is not None:
            shapes = [
                jax.tree.map(jnp.shape, jax.tree.leaves(p)) for p in (params, self.parameters)
            ]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"{_OWNER}: `init` must be of the same network and number of features "
                    f"({problem.x.shape[1]}); got parameters of other shapes."
                )
            given = jax.tree.leaves(self.parameters)
            params = jax.tree.unflatten(jax.tree.structure(params), given)
        table = None
        if self.smoothing:
            table = jnp.zeros((problem.x.shape[0], problem.k), problem.x.dtype)
        step = jnp.zeros((), jnp.int32)
        moments = optimiser(self.clip, self.weight_decay).init(params)
        return TrainingState(params, params, moments, step, table)

    def resize(self, state: TrainingState, problem: Clustering) -> TrainingState:
        """A network holds for any entities."""
        if state.table is None:
            return state
        more = problem.x.shape[0] - state.table.shape[0]
        table = jnp.pad(state.table, ((0, more), (0, 0)))
        return eqx.tree_at(lambda s: s.table, state, table)

    def learnt_costs(self, state: TrainingState, problem: Clustering) -> LearntCosts:
        """Average costs as a function, for `AveragedClustering` and for other entities."""
        return LearntCosts(self._frozen(problem), state.average, *units(problem))

    def problem(self, state: TrainingState, problem: Clustering) -> AveragedClustering:
        """The clustering whose average costs are those learnt: no true costs, but what it says."""
        costs = self.learnt_costs(state, problem)
        return AveragedClustering(problem.x, problem.k, costs, problem.weights)

    def costs(
        self, state: TrainingState, problem: Clustering, rows: Int[Array, " m"], centres: Array
    ) -> Float[Array, "m k"]:
        """What the averaged network says."""
        return self.learnt_costs(state, problem)(problem.x[rows], centres)

    def state_code(self, state: TrainingState) -> Int[Array, ""]:
        """NON_FINITE for parameters that are not."""
        finite = trees.all_finite((state.params, state.average))
        return jnp.where(finite, as_code(Code.OK), as_code(Code.NON_FINITE))

    def breakdown(self, loss: float) -> Mapping[Code, str]:
        """Whether the network broke down, or its centres went where it has learnt nothing."""
        return {Code.NON_FINITE: breakdown(self, loss)}

    def batches(self, log: Interactions, paid: Float[Array, " m"], key: Any) -> Batch:
        """Of interactions that cost `paid`, one batch for each step."""
        if self.in_sets:
            return batches_of_sets(log, paid, self.network_steps, self.batch, self.draws_each)
        size = min(self.batch * self.entities, log.entity.shape[0])
        return batches_of_rows(log, paid, self.network_steps, size, key)

    def update(
        self, state: TrainingState, problem: Clustering, interactions: Interactions, key: Any
    ) -> tuple[TrainingState, dict[str, Any]]:
        """Steps on batches of the interactions; `loss` is their mean, in squared units of cost."""
        assert interactions.centres is not None
        origin, spacing = units(problem)
        choose, drop = jax.random.split(key)
        batches = self.batches(interactions, interactions.costs(problem), choose)
        network, descent = self._frozen(problem), optimiser(self.clip, self.weight_decay)
        if self.recipe.restarts:
            table = None if state.table is None else jnp.zeros_like(state.table)
            fresh = descent.init(state.params), table
            state = eqx.tree_at(
                lambda s: (s.optimiser, s.table), state, fresh, is_leaf=lambda leaf: leaf is None
            )

        keys = jax.random.split(drop, batches.target.shape[0])
        state, loss = taught(self, network, descent, state, batches, keys, problem.x, origin,
                             spacing)  # fmt: skip
        return state, {"loss": loss * spacing**4}

    def move(
        self,
        state: TrainingState,
        problem: Clustering,
        centres: Float[Array, "k d"],
        beta: Scalar,
        interactions: Interactions,
        explored: Array,
        key: Any,
    ) -> Float[Array, "k d"]:
        """Steps of Adam on the free energy of what the network says, through all its arguments.

        Centres that have left the data by ten times their box are not a number, which ends
        learning with a code.
        """
        del interactions, explored
        moved = descended(
            self.learnt_costs(state, problem), problem, centres, beta, self.centre_rate,
            self.centre_steps, self.centre_entities, key, self.recipe.plain_descent,
            tolerance=None if self.recipe.tolerances is None else self.recipe.tolerances[1],
        )  # fmt: skip
        if self.recipe.noise:
            kick = jax.random.normal(jax.random.fold_in(key, 1), moved.shape, moved.dtype)
            moved = moved + self.recipe.noise * units(problem)[1] * kick
        low, high = jnp.min(problem.x, axis=0), jnp.max(problem.x, axis=0)
        room = AWAY * jnp.max(high - low)
        inside = (moved >= low - room) & (moved <= high + room)
        return jnp.where(state.step > self.prefit, jnp.where(inside, moved, jnp.nan), centres)
