"""Autonomy whose log weights are any functions of two centres, and of an entity and a centre."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core import checks
from ..._core.arrays import as_parameter
from ..costs import AbstractCost
from .base import check_kappa
from .factorised import DIRECT_LIMIT, AbstractFactorised, FactorisedKernel

_OWNER = "Pairwise"

Logits = Callable[[Array, Array], Any]


class Pairwise(AbstractFactorised):
    """Overrides by what draws from centre to centre and from entity to centre.

    With probability 1 - kappa the entity stays; otherwise it picks another cluster k != j with
    probability softmax_{k != j}(pull(y_j, y_k) + reach(x_i, y_k)).

    `Softmax` is the family in which both are multiples of the cost. Averages are two matrix
    products here too, and nothing of size N x K x K is formed.

    **Arguments:**

    - `kappa`: override probability in [0, 1], scalar or shape (N,).
    - `pull`: function of centres (m, d) and centres (K, d), in the units of the data, that returns
        log weights (m, K): row j is where those told j are drawn.
    - `reach`: function of entities (n, d) and centres (K, d) that returns log weights (n, K);
        default none.
    - `direct_limit`: up to this many N x K x K entries are formed; 0 always factorises.

    To differentiate parameters of the functions make these an `equinox.Module` with a
    `__call__(self, of, to)`; what a closure captures is a constant.

    **Raises:** `ValueError` for kappa outside [0, 1] and log weights of another shape; `TypeError`
    for what is no function, or captures traced values.

    **Example:** overrides go north.

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> def north(of, to):
    ...     return to[None, :, 1] - of[:, None, 1]
    >>> model = mj.autonomy.Pairwise(0.3, north)
    >>> problem = mj.Clustering(jnp.array([[0.0, 0.0], [1.0, 0.3]]), 3, autonomy=model)
    >>> y = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> print([f"{d:.4f}" for d in problem.average_distances(y)[1]])
    ['1.7941', '1.1299', '2.9000']

    ```
    """

    kappa: Float[Array, "*n"]
    pull: Logits
    reach: Logits | None
    # How much of `reach` there is; below 1 on the way from an easier model.
    share: Float[Array, ""]
    reaches_entity: bool = eqx.field(static=True)
    direct_limit: int = eqx.field(static=True)

    def __init__(
        self,
        kappa: Any,
        pull: Logits,
        reach: Logits | None = None,
        *,
        direct_limit: int = DIRECT_LIMIT,
    ) -> None:
        self.kappa = as_parameter("kappa", kappa)
        checks.enforce(check_kappa(_OWNER, self.kappa))
        checks.check_function(_OWNER, "pull", pull, "(self, of, to)")
        if reach is not None:
            checks.check_function(_OWNER, "reach", reach, "(self, of, to)")
        self.pull, self.reach, self.direct_limit = pull, reach, direct_limit
        self.reaches_entity = reach is not None
        self.share = as_parameter("share", 1.0)

    def check(self, n: int, k: int) -> tuple[checks.Check, ...]:
        """That kappa is a probability, and one number or one an entity."""
        return check_kappa(_OWNER, self.kappa, n)

    def kernel(
        self,
        x: Float[Array, "n d"],
        y: Float[Array, "k d"],
        origin: Float[Array, " d"],
        distances: Float[Array, "n k"],
        cost: AbstractCost,
    ) -> FactorisedKernel:
        """What the functions say, each relative to a constant of its row."""
        n, k = distances.shape
        pull = _asked("pull", self.pull, y + origin, y + origin, (k, k))
        log_pull = jnp.where(jnp.eye(k, dtype=bool), -jnp.inf, pull)
        if self.reach is None:
            return FactorisedKernel(log_pull, jnp.zeros_like(distances), self.kappa)
        reach = _asked("reach", self.reach, x + origin, y + origin, (n, k))
        return FactorisedKernel(log_pull, self.share * reach, self.kappa)

    def relaxed(
        self,
        s: Float[Array, ""],
        x: Float[Array, "n d"],
        weights: Float[Array, " n"],
        k: int,
        cost: AbstractCost,
    ) -> "Pairwise":
        """With a share `s` of `reach`, without which the start is convex."""
        if self.reach is None:
            return self
        return eqx.tree_at(lambda model: model.share, self, s.astype(self.share.dtype))


def _asked(name: str, function: Logits, of: Array, to: Array, shape: tuple[int, int]) -> Array:
    found = function(of, to)
    if jnp.shape(found) != shape:
        raise ValueError(
            f"{_OWNER}: `{name}` must return shape {shape} for arguments of shapes {of.shape} and "
            f"{to.shape}; got {jnp.shape(found)}."
        )
    return jnp.asarray(found, of.dtype)
