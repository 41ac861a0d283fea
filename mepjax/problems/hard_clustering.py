"""Hard decisions of problems that tell entities a cluster."""

import equinox as eqx
from jaxtyping import Array, Float, Int


class HardClustering(eqx.Module):
    """Hard decisions: the prescribed cluster of each entity, and the hard cost D.

    **Fields:** `assignments` (N,), `None` for points on disk; `cost`; with a capacity `excess`
    (K,), the share of the weight told to join each cluster beyond its bound, or less what `Equal`
    asks for, else `None`.
    """

    assignments: Int[Array, " n"]
    cost: Float[Array, ""]
    excess: Float[Array, " k"] | None = None
