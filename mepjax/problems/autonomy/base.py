"""What an autonomy model supplies."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._core import checks
from ..costs import AbstractCost


class AbstractAutonomy(eqx.Module):
    """p(k | j, i) in two steps, so that its structure is never expanded to N x K x K.

    `kernel` evaluates what p depends on (data, centres, distances); `average` then applies p to a
    matrix of distances, linearly: d_avg(i, j) = sum_k p(k | j, i) D_ik. Effective weights are the
    transpose of `average`, and freezing p is stopping derivatives through the kernel.
    """

    @property
    def depends_on_centres(self) -> bool:
        """Whether p changes with the centres."""
        return False

    @property
    def exchangeable(self) -> bool:
        """Whether relabelling clusters leaves p unchanged."""
        return False

    @property
    def convex_at_zero(self) -> bool:
        """Whether F is convex near its start as beta -> 0."""
        return True

    @abc.abstractmethod
    def kernel(
        self,
        x: Float[Array, "n d"],
        y: Float[Array, "k d"],
        origin: Float[Array, " d"],
        distances: Float[Array, "n k"],
        cost: AbstractCost,
    ) -> Any:
        """A structured representation of p; `x` and `y` are relative to `origin`."""

    @abc.abstractmethod
    def average(self, kernel: Any, distances: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """sum_k p(k | j, i) D_ik, linear in `distances`."""

    def probabilities(self, kernel: Any, n: int, k: int, *, dtype: Any) -> Float[Array, "n k k"]:
        """p(k | j, i) as an array [i, j, k]; for small problems and tests."""
        columns = jnp.eye(k, dtype=dtype)
        average = lambda column: self.average(kernel, jnp.broadcast_to(column, (n, k)))  # noqa: E731
        return jnp.moveaxis(jax.vmap(average)(columns), 0, -1)

    def rows(
        self, kernel: Any, distances: Float[Array, "n k"], prescribed: Int[Array, " n"]
    ) -> Float[Array, "n k"]:
        """p(. | j_i, i) for one prescription j_i of each entity, in O(N K) memory.

        `average` is linear in the distances, so this is the gradient of what it says of the
        prescribed clusters, whatever the model.
        """

        def prescribed_averages(distances: Array) -> Array:
            averages = self.average(kernel, distances)
            return jnp.sum(jnp.take_along_axis(averages, prescribed[:, None], axis=1))

        return jax.grad(prescribed_averages)(distances)

    def check(self, n: int, k: int) -> tuple[checks.Check, ...]:
        """Conditions on the model's own arrays for `n` entities and `k` clusters."""
        return ()

    def of_entities(self, places: Int[Array, " m"]) -> "AbstractAutonomy":
        """The model of the entities at `places`; models with numbers for each select theirs."""
        return self

    @property
    def without_overrides(self) -> "AbstractAutonomy | None":
        """The same model at kappa = 0, for which the same programs serve; `None` without kappa."""
        return None

    @property
    def relaxation_stages(self) -> int:
        """Stages of the continuation `relaxed`."""
        return 0

    def relaxed(
        self,
        s: Float[Array, ""],
        x: Float[Array, "n d"],
        weights: Float[Array, " n"],
        k: int,
        cost: AbstractCost,
    ) -> "AbstractAutonomy":
        """An easier model; s = 1 is the model itself."""
        return self


class NoAutonomy(AbstractAutonomy):
    """Entities do as prescribed: p(k | j, i) = 1 for k = j.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> mj.autonomy.NoAutonomy().exchangeable
    True

    ```
    """

    @property
    def exchangeable(self) -> bool:
        """True: overrides treat all clusters alike."""
        return True

    def kernel(self, x: Any, y: Any, origin: Any, distances: Any, cost: AbstractCost) -> None:
        """`None`, as there are no overrides to represent."""
        return None

    def average(self, kernel: Any, distances: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """The distances themselves, since nobody overrides."""
        return distances


def row_kappa(kappa: Array) -> Array:
    """kappa as something that multiplies an (N, K) matrix row by row."""
    return kappa[:, None] if kappa.ndim == 1 else kappa


def at_kappa_zero(model: Any) -> Any:
    """The model with a kappa of zero."""
    return eqx.tree_at(lambda m: m.kappa, model, model.kappa * 0)


def kappa_of(kappa: Float[Array, "*n"], places: Int[Array, " m"]) -> Float[Array, "*m"]:
    """kappa of the entities at `places`."""
    return kappa[places] if kappa.ndim == 1 else kappa


def check_kappa(owner: str, kappa: Array, n: int | None = None) -> tuple[checks.Check, ...]:
    """A probability, scalar or one per entity."""
    if kappa.ndim > 1:
        raise ValueError(
            f"{owner}: `kappa` must be a scalar or one number per entity; got shape {kappa.shape}."
        )
    if n is not None and kappa.ndim == 1 and kappa.shape[0] != n:
        raise ValueError(
            f"{owner}: `kappa` must be a scalar or have shape ({n},) for {n} entities; "
            f"got shape {kappa.shape}."
        )
    return (
        checks.check_finite(owner, "kappa", kappa),
        checks.check_range(owner, "kappa", kappa, low=0.0, high=1.0),
    )
