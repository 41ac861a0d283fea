"""How far values of a clustering can be from the optimal ones."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .bellman import rounding
from .clustered import ClusteredMDP
from .steered import Policy

# Multiply-adds for which a certificate may sweep all joint signals.
_EXACT_BUDGET = 4e9

CERTIFICATES = ("auto", "exact", "relaxed", "none")


def choose(operator: ClusteredMDP, certificate: str) -> str:
    """The certificate that "auto" stands for: exact where it is cheap, else relaxed if there is."""
    if certificate not in CERTIFICATES:
        raise ValueError(
            f"steer: `certificate` must be one of {CERTIFICATES}; got {certificate!r}."
        )
    relaxable = can_relax(operator)
    if certificate == "relaxed" and not relaxable:
        raise ValueError(
            "steer: the relaxed certificate needs concrete `labels` and a reward of states or of "
            'agents; a function of all signals has none. Use "exact" or "none".'
        )
    if certificate != "auto":
        return certificate
    if operator.model.local_separable and relaxable:
        return "relaxed"  # The same bound as the exact one there, in one small sweep.
    if exact_work(operator) <= _EXACT_BUDGET:
        return "exact"
    return "relaxed" if relaxable else "none"


def exact_work(operator: ClusteredMDP) -> float:
    """Multiply-adds of one sweep over all joint signals."""
    alone, shared, other = (float(part) for part in operator.arrangement.parts)
    high, low = operator.arrangement.high.size, operator.arrangement.low.size
    high_first = alone * shared * (high * low + other * low)
    low_first = shared * other * (high * low + alone * high)
    return operator.model.n_states * min(high_first, low_first)


def can_relax(operator: ClusteredMDP) -> bool:
    """Whether the relaxed backup is defined: rewards belong to agents or states."""
    return not operator.model.reward.joint and operator.arrangement.known is not None


def relaxed_backup(
    operator: ClusteredMDP, values: Float[Array, " states"]
) -> Float[Array, " states"]:
    """An upper bound of T values, cluster by cluster with the maximum inside.

    E V is contracted one cluster after the other, each maximised as if its signal could depend on
    where the clusters before it have gone. That is more than signals can do, hence a bound, at
    a cost of about |X|^2 M in place of |X| M^C; for clusters that do not interact it is equal.
    """
    model, arrangement = operator.model, operator.arrangement
    of_factor = [int(arrangement.labels[agents[0]]) for agents in model.factors]
    groups = [
        [f for f, label in enumerate(of_factor) if label == cluster]
        for cluster in range(arrangement.clusters)
    ]
    # Last to be contracted, so outermost: what no signal changes.
    groups = [[f for f, label in enumerate(of_factor) if label < 0], *groups]
    agents = [[a for f in group for a in model.factors[f]] for group in groups]
    axes = [a for group in agents for a in group]
    sizes = [int(np.prod([model.sizes[a] for a in group], dtype=np.int64)) for group in agents]
    table = values.reshape(model.sizes).transpose(axes).reshape(-1)

    def block(index: Array) -> Array:
        place = operator.place(index)
        states = index.shape[0]
        left = jnp.broadcast_to(table, (1, table.shape[0]))
        scale = model.discount
        for cluster in reversed(range(-1, arrangement.clusters)):
            group, own = groups[cluster + 1], agents[cluster + 1]
            if not group:
                continue
            count = 1 if cluster < 0 else arrangement.choices[cluster]
            heard = jnp.broadcast_to(
                jnp.arange(count)[:, None], (states, count, model.n_agents)
            ).astype(jnp.int32)
            rows = operator.rows_of(place, group, heard)
            left = left.reshape(left.shape[0], -1, sizes[cluster + 1])
            # The first contraction also discounts: every later reward is of today.
            every = jnp.broadcast_to(left, (states, *left.shape[1:]))
            expected = jnp.einsum("brk,bmk->brm", every, rows)
            expected = expected * scale
            scale = 1.0
            earned = model.reward.of_agents(place, own, heard[..., np.asarray(own, int)])
            if earned is not None:
                expected = expected + earned[:, None, :]
            left = jnp.max(expected, -1)
        return left[:, 0] + model.reward.of_states(place)

    return operator.by_blocks(block, operator.states_at_once(4 * model.n_states * 2))


def gap_bounds(
    discount: Array, values: Array, upper_sweep: Array, lower_sweep: Array
) -> tuple[Array, Array]:
    """(lower, upper) of the optimal values, from sweeps that bound T values from both sides.

    With U >= T V: V* <= U + d / (1 - d) max(U - V); with L <= T V the other way round (MacQueen).
    Both leave room for rounding.
    """
    wider = rounding(values, discount)
    ahead = discount / (1 - discount)
    lower = lower_sweep + ahead * jnp.min(lower_sweep - values) - wider
    upper = upper_sweep + ahead * jnp.max(upper_sweep - values) + wider
    return lower, upper


def bounds(
    operator: ClusteredMDP, values: Array, policy: Policy, certificate: str
) -> tuple[Array, Array, Array]:
    """(residual, lower, upper) by the certificate asked; NaN and infinite where there is none."""
    discount = operator.model.discount
    if certificate == "exact":
        updated, _ = operator.backup(values)
        lower, upper = gap_bounds(discount, values, updated, updated)
        return jnp.max(jnp.abs(updated - values)), lower, upper
    below = operator.apply(values, policy)
    if certificate == "relaxed":
        above = relaxed_backup(operator, values)
        lower, upper = gap_bounds(discount, values, above, below)
        return jnp.maximum(jnp.max(above - values), jnp.max(jnp.abs(below - values))), lower, upper
    lower, _ = gap_bounds(discount, values, below, below)
    return jnp.asarray(jnp.nan, values.dtype), lower, jnp.full_like(values, jnp.inf)
