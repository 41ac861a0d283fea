"""Log weights of overrides by a network, and their likelihood."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ...problems.clustering import Clustering
from ..interactions import Interactions
from .aden import PairHead, check_inputs, check_options, squared_distances
from .learnt_costs import Frozen

_OWNER = "Choice"
# Adam moves all parameters alike, and overrides to the nearest have slopes of tens per squared
# spacing: the slope is this many times its parameter.
_STEEP = 10.0


class LogitNetwork(nnx.Module):
    """Log weights for pairs of points: a multiple of their squared distance and a head, both 0."""

    def __init__(
        self, features: int, *, width: int = 32, dtype: Any = jnp.float32, rngs: nnx.Rngs
    ) -> None:
        check_options("Choice", features=features, width=width)
        self.features = features
        self.head = PairHead(
            features, (width, width), dropout=0.0, dtype=dtype, precision=None, rngs=rngs
        )
        self.slope = nnx.Param(jnp.zeros((), dtype))

    def __call__(
        self,
        of: Float[Array, "... m d"],
        to: Float[Array, "... k d"],
        *,
        key: Any = None,
        clipped: bool = True,
    ) -> Float[Array, "... m k"]:
        """One row for each point of the first kind."""
        del clipped
        check_inputs(_OWNER, self.features, of, to)
        more = self.head(of[..., :, None, :], to[..., None, :, :], key=key)
        return more - _STEEP * self.slope[...] * squared_distances(of, to)


class LearntLogits(eqx.Module):
    """Log weights as a network has learnt them, of points in the units of the data."""

    network: Any
    params: Any
    origin: Float[Array, " d"]
    spacing: Float[Array, ""]

    def __call__(self, of: Float[Array, "m d"], to: Float[Array, "k d"]) -> Float[Array, "m k"]:
        """Row by row relative to a constant."""
        at = lambda a: (a - self.origin) / self.spacing  # noqa: E731
        return self.network(self.params, at(of), at(to), None, True)


class Choices(eqx.Module):
    """Interactions: who was told what, where they went, and the centres in force, row by row."""

    entity: Int[Array, " m"]
    prescribed: Int[Array, " m"]
    realised: Int[Array, " m"]
    times: Float[Array, " m"]
    centres: Float[Array, "m k d"]

    @property
    def strayed(self) -> Bool[Array, " m"]:
        """Which of them were overrides."""
        return self.realised != self.prescribed


def as_choices(problem: Clustering, log: Interactions) -> Choices:
    """Interactions that `Interactions.for_problem` has prepared, each with its centres."""
    assert log.realised is not None and log.centres is not None and log.round is not None
    return Choices(
        entity=jnp.asarray(log.entity),
        prescribed=jnp.asarray(log.prescribed),
        realised=jnp.asarray(log.realised),
        times=jnp.asarray(log.counted, problem.x.dtype),
        centres=jnp.asarray(log.centres)[jnp.asarray(log.round)],
    )


def log_choices(
    params: Any,
    network: Frozen,
    choices: Choices,
    x: Float[Array, "n d"],
    origin: Float[Array, " d"],
    spacing: Float[Array, ""],
) -> Float[Array, " m"]:
    """Log probability of each override, given that it was one; 0 for what was none."""
    at = lambda a: (a - origin) / spacing  # noqa: E731
    rows = jnp.arange(choices.entity.shape[0])
    centres = at(choices.centres)
    told = centres[rows, choices.prescribed][:, None]
    entities = at(x[choices.entity])[:, None]
    pull = network(params["pull"], told, centres, None, True)[:, 0]
    reach = network(params["reach"], entities, centres, None, True)[:, 0]
    k = centres.shape[1]
    own = jnp.arange(k) == choices.prescribed[:, None]
    logs = jax.nn.log_softmax(jnp.where(own, -jnp.inf, pull + reach), axis=1)
    # Where it was none another is looked at, as derivatives of infinity are no numbers.
    went = jnp.where(choices.strayed, choices.realised, (choices.prescribed + 1) % k)
    return jnp.where(choices.strayed, logs[rows, went], 0.0)


def unlikelihood(
    params: Any,
    network: Frozen,
    choices: Choices,
    x: Float[Array, "n d"],
    origin: Float[Array, " d"],
    spacing: Float[Array, ""],
) -> Float[Array, ""]:
    """Mean negative log probability of overrides that were drawn by how often they count."""
    return -jnp.mean(log_choices(params, network, choices, x, origin, spacing))
