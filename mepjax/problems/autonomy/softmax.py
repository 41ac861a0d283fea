"""Distance-driven autonomy, in factorised form."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core import checks
from ..._core.arrays import as_parameter
from ..costs import AbstractCost
from .base import check_kappa
from .factorised import DIRECT_LIMIT, AbstractFactorised, FactorisedKernel

_HIGHEST = jax.lax.Precision.HIGHEST


class Softmax(AbstractFactorised):
    """Overrides go to clusters near the prescribed one and near the entity.

    With probability 1 - kappa the entity stays; otherwise it picks another cluster k != j with
    probability softmax_{k != j}(-[zeta d(y_j, y_k) + gamma d(x_i, y_k)] / temperature).

    The weights factorise over (j, k) and (i, k), so averages are two matrix products and nothing
    of size N x K x K is formed (but for problems of at most `direct_limit` such triples). Where
    float range is too short for the factors, which a trust test detects, an exact loop over
    clusters takes over.

    **Arguments:**

    - `kappa`: override probability in [0, 1], scalar or shape (N,).
    - `zeta`: weight of the distance from the prescribed centre, scalar.
    - `gamma`: weight of the distance from the entity (gamma-bar in the paper), scalar.
    - `temperature`: > 0, scalar, in the units of the cost: scale the data with it.
    - `direct_limit`: up to this many N x K x K entries are formed; 0 always factorises.

    **Raises:** `ValueError` for kappa outside [0, 1] or temperature <= 0.

    Source: autonomy-aware clustering, equation (72), with the case k = j added.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> model = mj.autonomy.Softmax(kappa=0.3, gamma=0.5, temperature=1.0)
    >>> problem = mj.Clustering(jnp.array([[0.0, 0.0], [1.0, 0.3]]), 3, autonomy=model)
    >>> y = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> print([f"{d:.4f}" for d in problem.average_distances(y)[1]])
    ['0.7984', '0.3938', '2.9367']

    ```
    """

    stages: ClassVar[int] = 48

    kappa: Float[Array, "*n"]
    zeta: Float[Array, ""]
    gamma: Float[Array, ""]
    temperature: Float[Array, ""]
    reaches_entity: bool = eqx.field(static=True)
    direct_limit: int = eqx.field(static=True)

    def __init__(
        self,
        kappa: Any,
        zeta: Any = 1.0,
        gamma: Any = 0.0,
        temperature: Any = 1.0,
        *,
        direct_limit: int = DIRECT_LIMIT,
    ) -> None:
        self.direct_limit = direct_limit
        self.kappa = as_parameter("kappa", kappa)
        self.zeta = as_parameter("zeta", zeta)
        self.gamma = as_parameter("gamma", gamma)
        self.temperature = as_parameter("temperature", temperature)
        for name in ("zeta", "gamma", "temperature"):
            shape = getattr(self, name).shape
            if shape != ():
                raise ValueError(f"Softmax: `{name}` must be a scalar; got shape {shape}.")
        checks.enforce(self._checks(None))
        concrete = checks.is_concrete(self.gamma)
        # Without pull towards the entity p is one K x K table and the start is convex.
        self.reaches_entity = not (concrete and float(self.gamma) == 0.0)

    def _checks(self, n: int | None) -> tuple[checks.Check, ...]:
        owner = "Softmax"
        return (
            *check_kappa(owner, self.kappa, n),
            checks.check_finite(owner, "zeta", self.zeta),
            checks.check_finite(owner, "gamma", self.gamma),
            checks.check_finite(owner, "temperature", self.temperature),
            checks.check_range(owner, "temperature", self.temperature, low=0.0, open_low=True),
        )

    def _check_gamma(self) -> tuple[checks.Check, ...]:
        """A model built at gamma = 0 has left out what another gamma would need."""
        if self.reaches_entity:
            return ()
        return (
            checks.Check(
                self.gamma == 0,
                self.gamma,
                "Softmax: this model was built with `gamma` = 0, and gamma was later replaced by "
                "{got}; build a new Softmax instead.",
            ),
        )

    def check(self, n: int, k: int) -> tuple[checks.Check, ...]:
        """kappa a probability, temperature positive, gamma as built."""
        return (*self._checks(n), *self._check_gamma())

    def kernel(
        self,
        x: Float[Array, "n d"],
        y: Float[Array, "k d"],
        origin: Any,
        distances: Float[Array, "n k"],
        cost: AbstractCost,
    ) -> FactorisedKernel:
        """Log weights of the two factors."""
        own = jnp.eye(y.shape[0], dtype=bool)
        between = cost.pairwise(y, y)
        log_pull = jnp.where(own, -jnp.inf, -self.zeta * between / self.temperature)
        return FactorisedKernel(log_pull, -self.gamma * distances / self.temperature, self.kappa)

    def relaxed(
        self,
        s: Float[Array, ""],
        x: Float[Array, "n d"],
        weights: Float[Array, " n"],
        k: int,
        cost: AbstractCost,
    ) -> "Softmax":
        """Temperature lowered geometrically from well above its own critical value.

        At coincident centres and beta -> 0 the curvature is
        1 - (4 gamma / T) K (K - 2) / (K - 1)^2 lambda_max(sum_i weights_i kappa_i z_i z_i^T).
        """
        if k == 1:
            return self
        z = cost.embed(x, weights)
        kappa = jnp.broadcast_to(self.kappa, (x.shape[0],))
        z = z - jnp.sum(weights[:, None] * z, axis=0)
        spread = jnp.matmul((weights * kappa)[:, None].T * z.T, z, precision=_HIGHEST)
        largest = jnp.maximum(jnp.linalg.eigvalsh(spread)[-1], 0.0)
        critical = 4 * jnp.maximum(self.gamma, 0.0) * largest * k * (k - 2) / (k - 1) ** 2
        # Four times: at the first beta entropy has already used up to half of the curvature.
        start = jnp.maximum(4 * critical, self.temperature)
        temperature = start ** (1 - s) * self.temperature**s
        return eqx.tree_at(lambda model: model.temperature, self, temperature)
