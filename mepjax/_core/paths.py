"""The free energy of all paths through a sequence of stages, without listing any of them.

A path starts at a node, visits between one and `n_stages` states, one per stage, and ends at a
destination, which it cannot leave. Backward recursion of the soft cost-to-go

    V_0[a] = softmin_l last[a, l]
    V_r[a] = softmin( last[a, :], links[a, :] + V_{r-1} )        at most r further states
    F_i    = softmin( first[i, :] + V_{K-1}, direct[i, :] )

costs N M + K M^2. Everything is kept in units of cost, where the limit beta -> infinity is the
same recursion with minima, and what is forbidden costs +inf.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from . import gibbs
from .types import Scalar


class StageCosts(eqx.Module):
    """Costs of the legs of a path, shaped and checked; +inf where a leg is forbidden.

    With `links` of shape (K-1, M, M) or `last` of shape (K, M, L) the costs differ by stage.
    """

    first: Float[Array, "n m"]
    links: Float[Array, "*link_stages m m"]
    last: Float[Array, "*last_stages m l"]
    direct: Float[Array, "n l"] | None
    n_stages: int = eqx.field(static=True)

    @property
    def staged(self) -> bool:
        """Whether costs differ by stage."""
        return self.links.ndim == 3 or self.last.ndim == 3


class Policies(eqx.Module):
    """Log Gibbs policies of every choice along a path.

    Choices are the M states in order, then the L destinations.

    **Fields:**

    - `first`: shape (N, M), or (N, M + L) with direct legs: the choice of each node.
    - `onward`: shape (K, M, M + L): `onward[r, a]` is the choice in state a while at most r
        further states may be visited. Without hop limits, stage k (from 1) has r = K - k.
        A state from which no destination can be reached has -inf throughout.
    """

    first: Float[Array, "n choices"]
    onward: Float[Array, "stages m all_choices"]


class Routes(eqx.Module):
    """One cheapest path per node.

    `states` has the states visited in order and -1 after the last of them; `destinations` where
    the path ends; `costs` what it costs, +inf where no path is permitted (all states -1).
    """

    states: Int[Array, "n stages"]
    destinations: Int[Array, " n"]
    costs: Float[Array, " n"]


def _by_remaining(costs: StageCosts) -> tuple[Array, Array]:
    """(links, last) with a leading axis r, the number of further states allowed; r = 0 first."""
    k, m = costs.n_stages, costs.first.shape[1]
    links = jnp.broadcast_to(costs.links, (k - 1, m, m))
    last = jnp.broadcast_to(costs.last, (k, *costs.last.shape[-2:]))
    return (links[::-1], last[::-1]) if costs.staged else (links, last)


def _cost_to_go(
    costs: StageCosts, minimum: Callable[[Array], Array]
) -> tuple[Float[Array, "stages m"], Array, Array]:
    """V_r for r = 0..K-1, and the links and last legs by r."""
    links, last = _by_remaining(costs)
    start = minimum(last[0])

    def extend(value: Array, legs: tuple[Array, Array]) -> tuple[Array, Array]:
        link, end = legs
        new = minimum(jnp.concatenate([link + value, end], axis=-1))
        return new, new

    _, rest = jax.lax.scan(extend, start, (links, last[1:]))
    return jnp.concatenate([start[None], rest]), links, last


def _entry(
    first: Float[Array, "n m"],
    direct: Float[Array, "n l"] | None,
    table: Float[Array, "stages m"],
    limits: Int[Array, " n"] | None,
) -> Float[Array, "n choices"]:
    """Cost of each first choice and the best after it: M states, then L destinations."""
    if limits is None:
        entry = first + table[-1]
    else:
        entry = first + table[jnp.maximum(limits - 1, 0)]
        entry = jnp.where(limits[:, None] > 0, entry, jnp.inf)
    return entry if direct is None else jnp.concatenate([entry, direct], axis=-1)


def values(
    costs: StageCosts, beta: Scalar, limits: Int[Array, " n"] | None = None
) -> Float[Array, " n"]:
    """Free energy of the paths of each node, -(1/beta) log sum over paths of exp(-beta cost)."""
    return values_before(costs.first, costs.direct, cost_to_go(costs, beta), beta, limits)


def cost_to_go(costs: StageCosts, beta: Scalar) -> Float[Array, "stages m"]:
    """V_r for r = 0..K-1 further states, which does not depend on the nodes."""
    return _cost_to_go(costs, lambda a: gibbs.softmin(a, beta))[0]


def values_before(
    first: Float[Array, "n m"],
    direct: Float[Array, "n l"] | None,
    table: Float[Array, "stages m"],
    beta: Scalar,
    limits: Int[Array, " n"] | None = None,
) -> Float[Array, " n"]:
    """`values` where the cost-to-go after the first choice is known."""
    return gibbs.softmin(_entry(first, direct, table, limits), beta)


def log_policies(
    costs: StageCosts, beta: Scalar, limits: Int[Array, " n"] | None = None
) -> tuple[Float[Array, "n choices"], Float[Array, "stages m all_choices"]]:
    """Log Gibbs policies: of the first choice, and of the next one with r further states allowed.

    Choices are the M states, then the L destinations. A state from which nothing is permitted
    has -inf throughout.
    """
    table, links, last = _cost_to_go(costs, lambda a: gibbs.softmin(a, beta))
    entry = gibbs.masked_log_policy(_entry(costs.first, costs.direct, table, limits), beta)
    nothing = jnp.full((1, *costs.links.shape[-2:]), jnp.inf, table.dtype)
    onward = jnp.concatenate([nothing, links + table[:-1, None, :]])
    return entry, gibbs.masked_log_policy(jnp.concatenate([onward, last], axis=-1), beta)


def shortest(costs: StageCosts, limits: Int[Array, " n"] | None = None) -> Routes:
    """One cheapest path per node; among equals the one that ends sooner."""
    k, m = costs.n_stages, costs.first.shape[1]
    table, links, last = _cost_to_go(costs, lambda a: jnp.min(a, axis=-1))
    end_at = jnp.argmin(last, axis=-1).astype(jnp.int32)
    onward = links + table[:-1, None, :]
    go_to = jnp.argmin(onward, axis=-1).astype(jnp.int32)
    goes_on = jnp.min(onward, axis=-1) < jnp.min(last[1:], axis=-1)
    # Row r: the next state, or -1 to end here.
    end = jnp.full((1, m), -1, jnp.int32)
    following = jnp.concatenate([end, jnp.where(goes_on, go_to, -1)])

    entry = _entry(costs.first, costs.direct, table, limits)
    best = jnp.min(entry, axis=-1)
    state = jnp.argmin(entry[:, :m], axis=-1).astype(jnp.int32)
    destination = jnp.zeros_like(state)
    leaves = jnp.isposinf(best)
    if costs.direct is not None:
        straight = jnp.min(costs.direct, axis=-1) <= jnp.min(entry[:, :m], axis=-1)
        destination = jnp.argmin(costs.direct, axis=-1).astype(jnp.int32)
        leaves = leaves | straight
    state = jnp.where(leaves, -1, state)
    remaining = jnp.full_like(state, k - 1) if limits is None else limits - 1

    def advance(carry: Any, _: None) -> tuple[Any, Array]:
        state, destination, remaining = carry
        here, r = jnp.maximum(state, 0), jnp.clip(remaining, 0, k - 1)
        travelling = state >= 0
        following_state = jnp.where(travelling, following[r, here], -1)
        arrived = travelling & (following_state < 0)
        destination = jnp.where(arrived, end_at[r, here], destination)
        return (following_state, destination, remaining - 1), state

    start = (state, destination, remaining.astype(jnp.int32))
    (_, destination, _), states = jax.lax.scan(advance, start, None, length=k)
    destination = jnp.where(jnp.isposinf(best), -1, destination)
    return Routes(states.T, destination, best)


def without_cycles(states: Int[Array, "n stages"]) -> Int[Array, "n stages"]:
    """Paths with everything between two visits of a state left out, -1 after the last state.

    Where a leg costs the same at every stage and never less than nothing, this costs no more.
    """
    stages = states.shape[1]
    order = jnp.arange(stages)

    def advance(position: Array, _: None) -> tuple[Array, Array]:
        inside = jnp.minimum(position, stages - 1)
        state = jnp.take_along_axis(states, inside[:, None], axis=1)[:, 0]
        state = jnp.where(position < stages, state, -1)
        again = jnp.max(jnp.where(states == state[:, None], order, -1), axis=1)
        return jnp.where(state >= 0, again + 1, stages), state

    _, kept = jax.lax.scan(advance, jnp.zeros(states.shape[0], order.dtype), None, length=stages)
    return kept.T


def once_through(costs: StageCosts, state: Int[Array, ""]) -> StageCosts:
    """The same paths less those that visit `state` twice.

    Every state becomes two: one before `state` has been visited, one after.
    """
    here = jnp.arange(costs.first.shape[1]) == state

    def layers(legs: Array) -> tuple[Array, Array]:
        return jnp.where(here, jnp.inf, legs), jnp.where(here, legs, jnp.inf)

    away, there = layers(costs.links)
    before = jnp.concatenate([away, there], axis=-1)
    after = jnp.concatenate([jnp.full_like(away, jnp.inf), away], axis=-1)
    return StageCosts(
        first=jnp.concatenate(layers(costs.first), axis=-1),
        links=jnp.concatenate([before, after], axis=-2),
        last=jnp.concatenate([costs.last, costs.last], axis=-2),
        direct=costs.direct,
        n_stages=costs.n_stages,
    )
