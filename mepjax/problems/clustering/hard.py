"""Hard decisions of a clustering, and what given centres cost."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._core import arrays
from ..._core.params import primal_of
from ..hard_clustering import HardClustering

if TYPE_CHECKING:
    from .problem import Clustering

__all__ = ["Evaluation", "HardClustering", "evaluate"]


class Evaluation(eqx.Module):
    """What given centres cost under a given autonomy.

    **Fields:** `cost`, the hard D at the best assignment; `assignments`; `n_used`, the number of
    clusters anybody is prescribed to; `distortion` and `entropy` of the Gibbs policy at `beta`
    (`None` without one).
    """

    cost: Float[Array, ""]
    assignments: Int[Array, " n"]
    n_used: Int[Array, ""]
    distortion: Float[Array, ""] | None
    entropy: Float[Array, ""] | None


def evaluate(problem: "Clustering", params: Any, beta: Any, autonomy: Any) -> Evaluation:
    """`Clustering.evaluate`."""
    if autonomy is not None:
        problem = problem.replace(autonomy=autonomy)
    params = arrays.as_float_array("params", primal_of(params), problem.x.dtype)
    if params.shape != (problem.k, problem.x.shape[1]):
        raise ValueError(
            f"Clustering: `params` must have shape ({problem.k}, {problem.x.shape[1]}); "
            f"got {params.shape}."
        )
    hard = problem.harden(params)
    used = jnp.zeros((problem.k,), jnp.int32).at[hard.assignments].set(1)
    distortion = entropy = None
    if beta is not None:
        terms = problem.terms(params, jnp.asarray(beta, problem.x.dtype))
        distortion, entropy = terms.distortion, terms.entropy
    return Evaluation(hard.cost, hard.assignments, jnp.sum(used), distortion, entropy)
