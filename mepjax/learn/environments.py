"""What can be asked where an entity goes: a model, a function, a real system, a log."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._core import arrays, sampling
from ..problems.autonomy.base import AbstractAutonomy, NoAutonomy
from ..problems.autonomy.function import as_autonomy
from ..problems.clustering import Clustering
from .learner import override_rows


class Observation(eqx.Module):
    """What was seen of entities that were told clusters; one entry for each.

    **Fields:** `realised`, where they went, and `cost`, what they paid, either `None` where an
    environment hides it; `known`, whether there was an answer, `None`: always; `failed`, whether
    the environment broke down, `None`: no.
    """

    realised: Int[Array, "..."] | None
    cost: Float[Array, "..."] | None = None
    known: Bool[Array, "..."] | None = None
    failed: Bool[Array, ""] | None = None


class AbstractEnvironment(eqx.Module):
    """Answers where entities go and what they pay."""

    @property
    def failure(self) -> str | None:
        """In words, why it broke down."""
        return None

    @abc.abstractmethod
    def observe(
        self,
        key: Any,
        problem: Clustering,
        entity: Int[Array, "..."],
        prescribed: Int[Array, "..."],
        centres: Float[Array, "... k d"],
    ) -> Observation:
        """What happens when entities are told clusters.

        **Arguments:** `entity` and `prescribed`, of one shape; `centres`, (K, d) or with any
        leading axes, which are then the first axes of `entity` too: other centres for each.

        **Returns:** an `Observation` of the shape of `entity`.
        """


def of_batches(function: Any, key: Any, entity: Array, prescribed: Array, centres: Array) -> Any:
    """function(key, entity (m,), prescribed (m,), centres (K, d)) over all leading axes."""
    batch, shape = centres.shape[:-2], entity.shape
    if shape != prescribed.shape or shape[: len(batch)] != batch:
        raise ValueError(
            "observe: `entity` and `prescribed` must have one shape that begins with the leading "
            f"axes {batch} of `centres`; got {shape} and {prescribed.shape}."
        )
    if not batch:
        found = function(key, entity.reshape(-1), prescribed.reshape(-1), centres)
    else:
        count = 1
        for size in batch:
            count *= size
        found = jax.vmap(function)(
            jax.random.split(key, count),
            entity.reshape(count, -1),
            prescribed.reshape(count, -1),
            centres.reshape(count, *centres.shape[-2:]),
        )
    return jax.tree.map(lambda leaf: leaf.reshape(shape), found)


class Simulated(AbstractEnvironment):
    """Entities that follow a known autonomy model.

    **Arguments:** `autonomy`, a model from `mepjax.autonomy`, a function of (x_i, Y), or `None`.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> always = mj.learn.Simulated(mj.autonomy.Uniform(1.0))
    >>> told = jnp.array([0, 1])
    >>> print(always.observe(jax.random.key(0), problem, told, told, problem.x).realised)
    [1 0]

    ```
    """

    autonomy: AbstractAutonomy

    def __init__(self, autonomy: Any) -> None:
        self.autonomy = as_autonomy(autonomy) or NoAutonomy()

    def observe(
        self, key: Any, problem: Clustering, entity: Any, prescribed: Any, centres: Any
    ) -> Observation:
        """One draw from p(. | j, i) for each, by one uniform number."""
        model = arrays.cast_floats(self.autonomy, problem.x.dtype)

        def drawn(key: Any, entity: Array, prescribed: Array, centres: Array) -> Array:
            rows = override_rows(model, problem, entity, prescribed, centres)
            uniform = jax.random.uniform(key, entity.shape, rows.dtype)
            return sampling.by_inverse(uniform, rows)

        arguments = (jnp.asarray(entity), jnp.asarray(prescribed), jnp.asarray(centres))
        return Observation(of_batches(drawn, key, *arguments))
