"""Params of a problem in which some variables are eliminated."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


class Params(eqx.Module):
    """Params of a problem with eliminated variables; any other pytree is all primal.

    F is minimised over the primal and stationary in the dual at fixed primal, for which the
    problem has a solve of its own. Prices of capacities are one kind; values and occupancies of
    a decision process are another.

    **Fields:** `primal`, such as centres (K, d) or locations (n_facilities, d) in the units of
    the data; `dual`, such as prices in units of cost.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[0.0], [1.0]]), 2, capacity=jnp.array([0.5, 0.6]))
    >>> params = problem.init(jax.random.key(0))
    >>> print(params.primal.shape, params.dual.shape)
    (2, 1) (2,)

    ```
    """

    primal: Any
    dual: Any


def split_params(params: Any) -> tuple[Any, Any]:
    """(primal, dual) of params, or of a change of them; the dual is `None` where there is none."""
    return (params.primal, params.dual) if isinstance(params, Params) else (params, None)


def join_params(primal: Any, dual: Any) -> Any:
    """The inverse of `split_params`."""
    return primal if dual is None else Params(primal, dual)


def primal_of(params: Any) -> Any:
    """The variables over which F is minimised."""
    return split_params(params)[0]


def dual_of(params: Any) -> Any:
    """The eliminated variables, or `None`."""
    return split_params(params)[1]


def along_primal(change: Any) -> Any:
    """A change of params with that of eliminated variables set to zero."""
    primal, dual = split_params(change)
    return join_params(primal, None if dual is None else jax.tree.map(jnp.zeros_like, dual))
