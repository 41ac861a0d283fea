"""What a learner supplies, and what all of them share."""

import abc
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import arrays, checks, gibbs, trees
from .._core.codes import Code
from .._core.programs import program
from .._core.types import Scalar
from ..engine.schedules import AbstractSchedule, Geometric
from ..problems.autonomy.base import AbstractAutonomy, NoAutonomy
from ..problems.autonomy.grouped import as_groups
from ..problems.clustering import Clustering
from ..problems.costs.entities import WeightedEntities
from .interactions import Interactions

# Steps of a learnt model's centres in each round.
_SWEEPS = 4
# Noise on them before, and on first centres, relative to the size of the data.
_KICK, _SPREAD = 1e-3, 1e-2
# Growth of beta of the default schedule, which the noise of learning would not let be finer.
_FACTOR = 1.1


class Needs(eqx.Module):
    """What a learner must be told of every interaction.

    **Fields:** `realised`, where the entity went; `cost`, what it paid; `centres`, those in force.
    """

    realised: bool = eqx.field(static=True, default=False)
    cost: bool = eqx.field(static=True, default=False)
    centres: bool = eqx.field(static=True, default=False)


class AbstractLearner(eqx.Module):
    """Frozen settings and pure functions; what is learnt is in a `state`, a pytree of arrays.

    All of it may be traced and mapped: over seeds, data and scenarios. Nothing here knows how a
    clustering is annealed; `learn.interact` calls these functions, and so may anybody.
    """

    @property
    @abc.abstractmethod
    def needs(self) -> Needs:
        """What interactions must tell."""

    @property
    def shares_starts(self) -> bool:
        """Whether one state serves centres anywhere, so that several starts may share it."""
        return False

    @property
    def pace(self) -> tuple[int, int | None]:
        """Rounds at each beta and interactions in each round; `None`: as there are entities."""
        return 1, 64

    def in_motion(self) -> "AbstractLearner":
        """The learner for interactions during which centres move, as in `interact`."""
        return self

    def at_rest(self) -> "AbstractLearner":
        """The learner for interactions that come after, as in `update`."""
        return self

    def schedule(self, scale: Float[Array, ""], problem: Clustering) -> AbstractSchedule:
        """Levels of beta where none are given, `scale` being the problem's `beta_scale`."""
        del problem
        return default_schedule(scale)

    def starts(self, problem: Clustering, starts: int, key: Any) -> Float[Array, "starts k d"]:
        """First centres; default: where the problem starts, with noise."""
        place, noise = jax.random.split(key)
        start = problem.centres(problem.init(place))
        kicks = jax.random.normal(noise, (starts, *start.shape), start.dtype)
        return start + _SPREAD * problem.spread * kicks

    @property
    def explore(self) -> Any:
        """How many interactions are prescribed at random where nothing else is said: an `Explore`.

        `None`: its default.
        """
        return None

    def prescribed(self, costs: Float[Array, "m k"], beta: Scalar) -> Float[Array, "m k"]:
        """How entities are told clusters that are not for exploring; default: the Gibbs policy."""
        return gibbs.policy(costs, beta)

    @property
    def draws(self) -> int:
        """How often each entity of a round is asked, rows of one entity being neighbours."""
        return 1

    @property
    def levels(self) -> int:
        """The last levels of beta over which centres are averaged, where no model gives them."""
        return 8

    def asked_at(
        self, state: Any, problem: Clustering, centres: Float[Array, "k d"], key: Any
    ) -> Float[Array, "batch k d"]:
        """Centres at which a round's entities are asked, in equal parts; default: these."""
        del state, problem, key
        return centres[None]

    @abc.abstractmethod
    def init(self, key: Any, problem: Clustering) -> Any:
        """The state before the first interaction."""

    def reserve(self, state: Any, problem: Clustering, m: int) -> Any:
        """The same state with room for `m` more interactions, where shapes may not change later."""
        del problem, m
        return state

    def resize(self, state: Any, problem: Clustering) -> Any:
        """The state for a problem whose `x` has more rows, those known before coming first."""
        del problem
        return state

    @abc.abstractmethod
    def update(
        self, state: Any, problem: Clustering, interactions: Interactions, key: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The state after more interactions, which `Interactions.for_problem` has prepared.

        The second value is what to tell of it: `loss`, how badly the state before foretold them.
        """

    @abc.abstractmethod
    def costs(
        self, state: Any, problem: Clustering, rows: Int[Array, " m"], centres: Float[Array, "k d"]
    ) -> Float[Array, "m k"]:
        """d_avg(i, j) as learnt, for the entities at `rows` and these centres."""

    def autonomy(self, state: Any) -> AbstractAutonomy | None:
        """The autonomy model that has been learnt; `None` where only costs are."""
        del state
        return None

    def problem(self, state: Any, problem: Clustering) -> Any:
        """The problem under learnt costs that hold at any centres; `None` where there are none."""
        del state, problem

    def state_code(self, state: Any) -> Int[Array, ""]:
        """A code for how the state came about."""
        del state
        return jnp.zeros((), jnp.int32)

    def breakdown(self, loss: float) -> Mapping[Code, str]:
        """What codes of a failure mean here, after a last level whose loss was `loss`."""
        del loss
        return {}

    def move(
        self,
        state: Any,
        problem: Clustering,
        centres: Float[Array, "k d"],
        beta: Scalar,
        interactions: Interactions,
        explored: Array,
        key: Any,
    ) -> Float[Array, "k d"]:
        """Centres after one round at `beta`; default: those of the learnt model.

        `explored` tells which of the round's `interactions` were prescribed for the sake of
        learning; all others are draws from the policy itself. A model's centres come from `anneal`
        in the end; here they are where more is to be learnt, and take steps of equations (1)
        and (2), which never leave the data.
        """
        del interactions, explored
        model = self.autonomy(state)
        if model is None:
            raise NotImplementedError(f"{type(self).__name__} has no `move`.")
        learnt = with_autonomy(problem, model)
        origin = jax.lax.stop_gradient(problem.origin)

        def sweep(centres: Array, _: None) -> tuple[Array, None]:
            weights = learnt.association_weights(centres, beta)
            entities = WeightedEntities(weights, problem.x - origin)
            return problem.cost.step(entities, centres - origin) + origin, None

        # Sweeps would never leave a place where centres coincide.
        kick = jax.random.normal(key, centres.shape, centres.dtype)
        return jax.lax.scan(sweep, centres + _KICK * problem.spread * kick, None, length=_SWEEPS)[0]


def default_schedule(scale: Float[Array, ""], last: Float[Array, ""] | None = None) -> Geometric:
    """From half the first transition `scale` to 10^4 times it, in steps that noise allows."""
    stages = Geometric(0.5, 1e4, _FACTOR).max_stages
    last = 1e4 * scale if last is None else last
    return Geometric(jnp.minimum(0.5 * scale, last), last, _FACTOR, max_stages=stages)


def updated(
    learner: AbstractLearner, state: Any, problem: Clustering, interactions: Interactions, key: Any
) -> tuple[Any, dict[str, Any]]:
    """`learner.update` as one program, with room made for the interactions."""
    state = learner.reserve(state, problem, len(interactions))
    return _updated(learner, state, problem, interactions, key)


@program
def _updated(
    learner: AbstractLearner, state: Any, problem: Clustering, interactions: Interactions, key: Any
) -> tuple[Any, dict[str, Any]]:
    return learner.update(state, problem, interactions, key)


def with_autonomy(problem: Clustering, model: Any) -> Clustering:
    """The problem under another autonomy, checked where values are concrete."""
    model = NoAutonomy() if model is None else model
    model = arrays.cast_floats(model, problem.x.dtype)
    checks.enforce(model.check(problem.x.shape[0], problem.k))
    return trees.replaced(problem, autonomy=model)


def average_costs(
    model: AbstractAutonomy,
    problem: Clustering,
    rows: Int[Array, " m"],
    centres: Float[Array, "k d"],
) -> Float[Array, "m k"]:
    """d_avg(i, j) under a model, for the entities at `rows`."""
    kernel, distances, part = _of_rows(model, problem, rows, centres)
    return part.average(kernel, distances)


def override_rows(
    model: AbstractAutonomy,
    problem: Clustering,
    rows: Int[Array, " m"],
    prescribed: Int[Array, " m"],
    centres: Float[Array, "k d"],
) -> Float[Array, "m k"]:
    """p(. | j, i) under a model, for the entities at `rows` told `prescribed`."""
    kernel, distances, part = _of_rows(model, problem, rows, centres)
    return part.rows(kernel, distances, prescribed)


def _of_rows(
    model: AbstractAutonomy, problem: Clustering, rows: Array, centres: Array
) -> tuple[Any, Array, AbstractAutonomy]:
    origin = jax.lax.stop_gradient(problem.origin)
    x, y = problem.x[rows] - origin, centres - origin
    distances = problem.cost.pairwise(x, y)
    part = model.of_entities(rows)
    return part.kernel(x, y, origin, distances, problem.cost), distances, part


def check_needs(owner: str, learner: AbstractLearner, interactions: Interactions) -> None:
    """Raise `ValueError` for what a learner must be told and is not."""
    needs = learner.needs
    reasons = {
        "realised": "it learns from where entities went",
        "cost": "it learns from what they paid",
        "centres": "where entities go may depend on the centres in force at the time",
    }
    for name, reason in reasons.items():
        known = getattr(interactions, name) is not None
        if name == "cost":
            known = known or (
                interactions.realised is not None and interactions.centres is not None
            )
        if getattr(needs, name) and not known:
            raise ValueError(
                f"{owner}: `{name}` of the interactions must be given to "
                f"{type(learner).__name__}, as {reason}; got None."
            )


def check_unaware(owner: str, problem: Any) -> None:
    """Raise unless `problem` is a clustering in memory whose autonomy is still to be learnt."""
    if not isinstance(problem, Clustering):
        raise TypeError(
            f"{owner}: `problem` must be a mepjax.Clustering; got {type(problem).__name__}."
        )
    if not isinstance(problem.autonomy, NoAutonomy):
        raise ValueError(
            f"{owner}: `problem` must have no autonomy, as that is what is learnt; "
            f"got {type(problem.autonomy).__name__}."
        )
    if problem.capacity is not None:
        raise ValueError(f"{owner}: `problem` must have no capacity; learning does not price it.")


def check_learner(owner: str, learner: Any) -> None:
    """Raise `TypeError` for what is no learner."""
    if not isinstance(learner, AbstractLearner):
        raise TypeError(
            f"{owner}: `learner` must be a learner such as mepjax.learn.Structured(); "
            f"got {type(learner).__name__} {learner!r:.60}."
        )


def group_count(owner: str, name: str, group: Any) -> int:
    """Number of groups 0 .. G - 1, which must be known."""
    if not checks.is_concrete(group):
        raise TypeError(f"{owner}: `{name}` must not be traced, as it decides the size of tables.")
    if int(jnp.min(group)) < 0:
        raise ValueError(f"{owner}: `{name}` must be >= 0; got {int(jnp.min(group))}.")
    return int(jnp.max(group)) + 1


def kappa_groups(owner: str, kappa: Any) -> tuple[Any, int]:
    """(the group of each entity or `None`, how many there are) of `kappa="shared"` or groups."""
    if isinstance(kappa, str):
        if kappa != "shared":
            raise ValueError(
                f"{owner}: `kappa` must be 'shared' or the group of each entity; got {kappa!r}."
            )
        return None, 1
    group = as_groups(owner, "kappa", kappa)
    return group, group_count(owner, "kappa", group)


def check_choice(owner: str, problem: Clustering, group: Any) -> None:
    """Raise unless overrides have somewhere to go, and each entity of the problem has its group."""
    n = problem.x.shape[0]
    if problem.k < 2:
        raise ValueError(
            f"{owner}: `problem` must have at least 2 clusters, as one leaves no choice; "
            f"got k={problem.k}."
        )
    if group is not None and group.shape != (n,):
        raise ValueError(
            f"{owner}: `kappa` must have shape ({n},) for {n} entities; got {group.shape}."
        )


def forget_checks(owner: str, forget: Any) -> tuple[checks.Check, ...]:
    """A factor in (0, 1]."""
    if not checks.is_concrete(forget):
        return ()
    return (
        checks.check_range(owner, "forget", np.asarray(forget), low=0.0, high=1.0, open_low=True),
    )
