"""Bellman backups of a factored MDP whose agents share signals by cluster.

A half of the agents has, per state and joint signal, one row over its joint next states: the
Kronecker product of its agents' rows. With V as a matrix (high half, low half) the expected value
under all joint signals is K_high V K_low^T, two matrix products, and the joint kernel is never
formed.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..solvers.implicit import LinearSolve, solve_transposable
from .arrangement import Arrangement, Half
from .behaviours import Place
from .factored import FactoredMDP

# Numbers held at once by one block of states, and by rows kept between sweeps (128 MB each).
_HELD = 2**24


class Rows(NamedTuple):
    """Rows of both halves for every joint signal of each, and rewards that belong to them."""

    high: Float[Array, "states joint size"]
    low: Float[Array, "states joint size"]
    reward_high: Float[Array, "states joint"] | None
    reward_low: Float[Array, "states joint"] | None


class PolicyRows(NamedTuple):
    """Rows of both halves under a policy, and what it earns."""

    high: Float[Array, "states size"]
    low: Float[Array, "states size"]
    earned: Float[Array, " states"]


class ClusteredMDP(eqx.Module):
    """The operators T (all clusters at once), T_c (one cluster) and T_policy on rewards.

    **Fields:** `model`; `arrangement` of its clusters; `block`, states held at a time (`None`: as
    many as 128 MB hold); `kept`, rows computed once for all sweeps, where they fit.
    """

    model: FactoredMDP
    arrangement: Arrangement
    block: int | None = eqx.field(static=True, default=None)
    kept: Rows | None = None

    # --- All clusters at once. ----------------------------------------------------------------

    def with_rows(self) -> "ClusteredMDP":
        """Self with the rows of all states kept, where they fit one block."""
        if self._exact_block() < self.model.n_states:
            return self
        rows = self._rows(self.place(jnp.arange(self.model.n_states)), is_whole=True)
        return eqx.tree_at(lambda op: op.kept, self, rows, is_leaf=lambda x: x is None)

    def backup(
        self,
        values: Float[Array, " states"],
        policy: Int[Array, "states clusters"] | None = None,
        slack: Any = 0.0,
    ) -> tuple[Float[Array, " states"], Int[Array, "states clusters"]]:
        """T values and a policy that attains it.

        The first joint signal among the best, or the one of `policy` where that is within `slack`.
        """
        matrix = self._matrix(values)
        current = None if policy is None else self.arrangement.encode(policy)

        def block(index: Array) -> tuple[Array, Array]:
            place = self.place(index)
            rows = self._rows(place) if self.kept is None else self.kept
            expected = self._expected(rows, matrix)
            reward = _sum(rows.reward_high, rows.reward_low, self.arrangement.parts)
            returns = self.model.discount * expected
            if reward is not None:
                returns = returns + reward
            returns = returns.reshape(index.shape[0], -1)
            jointly = self._jointly(place)
            if jointly is not None:
                returns = returns + jointly
            best, chosen = first_best(returns)
            if current is not None:
                held = current[index]
                kept = jnp.take_along_axis(returns, held[:, None], 1)[:, 0] >= best - slack
                chosen = jnp.where(kept, held, chosen)
            return best + self.model.reward.of_states(place), chosen

        updated, chosen = self.by_blocks(block, self._exact_block())
        return updated, self.arrangement.decode(chosen)

    def _rows(self, place: Place, is_whole: bool = False) -> Rows:
        made = []
        for half in (self.arrangement.high, self.arrangement.low):
            heard = self.arrangement.heard(half.clusters)
            signals = jnp.broadcast_to(jnp.asarray(heard), (place.index.shape[0], *heard.shape))
            if is_whole and isinstance(heard, np.ndarray):
                rows = self._product_of(
                    (
                        self.model.behaviours[f].all_rows(
                            place, self.model.factors[f], heard[:, self.model.factors[f][0]]
                        )
                        for f in half.factors
                    ),
                    signals.shape[:2],
                )
            else:
                rows = self.rows_of(place, half.factors, signals)
            made.append((rows, self._earned(place, half, signals)))
        (high, reward_high), (low, reward_low) = made
        return Rows(high, low, reward_high, reward_low)

    def _expected(self, rows: Rows, matrix: Float[Array, "high low"]) -> Array:
        """E V under every joint signal, shape (states, high only, shared, low only)."""
        alone, shared, other = self.arrangement.parts
        states = rows.high.shape[0]
        # What both halves share comes first, as products of batches of matrices want it.
        high = rows.high.reshape(states, alone, shared, -1).swapaxes(1, 2)
        low = rows.low.reshape(states, shared, other, -1)
        sizes = self.arrangement.high.size, self.arrangement.low.size
        high_first = alone * (sizes[0] * sizes[1] + other * sizes[1])
        if not self.arrangement.low.factors:
            expected = jnp.broadcast_to(high @ matrix, (states, shared, alone, other))
        elif high_first <= other * (sizes[0] * sizes[1] + alone * sizes[0]):
            expected = jnp.einsum("btsl,btul->btsu", high @ matrix, low)
        else:
            expected = jnp.einsum("btsh,btuh->btsu", high, low @ matrix.T)
        return expected.swapaxes(1, 2)

    def _jointly(self, place: Place) -> Array | None:
        if not self.model.reward.joint:
            return None
        heard = jnp.asarray(self.arrangement.heard(self.arrangement.order))
        signals = jnp.broadcast_to(heard, (place.index.shape[0], *heard.shape))
        return self.model.reward.jointly(place, signals)

    def exact_numbers(self) -> int:
        """Numbers that a backup over all joint signals holds for one state."""
        alone, shared, other = self.arrangement.parts
        high, low = self.arrangement.high.size, self.arrangement.low.size
        rows = alone * shared * high + shared * other * low
        between = shared * min(alone * low, other * high)
        return rows + between + 2 * self.arrangement.joint

    def _exact_block(self) -> int:
        return self.states_at_once(self.exact_numbers())

    # --- One cluster. -------------------------------------------------------------------------

    def cluster_backup(
        self,
        values: Float[Array, " states"],
        policy: Int[Array, "states clusters"],
        cluster: Int[Array, ""],
        slack: Any = 0.0,
        ties: str = "first",
    ) -> tuple[Float[Array, " states"], Int[Array, "states clusters"]]:
        """T_c values with all other clusters under `policy`, and the policy so improved.

        Among signals within `slack` of the best the first is taken, or with ties "stay" the one
        of `policy`.
        """
        matrix, most = self._matrix(values), max(self.arrangement.choices)
        labels = jnp.asarray(self.arrangement.labels)
        halves = self.arrangement.high, self.arrangement.low
        in_high, in_low = (jnp.any(labels[np.asarray(h.agents, int)] == cluster) for h in halves)
        # 0: agents in the high half only, 1: in the low half only, 2: in both (or in none).
        kind = jnp.where(in_high & ~in_low, 0, jnp.where(in_low & ~in_high, 1, 2))
        allowed = jnp.arange(most) < jnp.asarray(self.arrangement.choices)[cluster]

        def block(index: Array) -> tuple[Array, Array]:
            place, held = self.place(index), policy[index]
            base = self.heard_under(held)[:, None, :]
            variants = jnp.where(labels == cluster, jnp.arange(most)[:, None], base)

            def in_one(half: Half, other: Half, matrix: Array) -> Array:
                under = self.rows_of(place, other.factors, base)[:, 0]
                towards = under @ matrix.T
                return jnp.einsum(
                    "bmh,bh->bm", self.rows_of(place, half.factors, variants), towards
                )

            def in_both() -> Array:
                high, low = (self.rows_of(place, half.factors, variants) for half in halves)
                return jnp.sum((high @ matrix) * low, -1)

            expected = jax.lax.switch(
                kind,
                (
                    lambda: in_one(halves[0], halves[1], matrix),
                    lambda: in_one(halves[1], halves[0], matrix.T),
                    in_both,
                ),
            )
            returns = self.model.discount * expected + self.reward(place, variants)
            returns = jnp.where(allowed, returns, -jnp.inf)
            best = jnp.max(returns, 1)
            near = returns >= best[:, None] - slack
            chosen = jnp.argmax(near, 1).astype(jnp.int32)
            if ties == "stay":
                own = held[:, cluster]
                stays = jnp.take_along_axis(near, own[:, None], 1)[:, 0]
                chosen = jnp.where(stays, own, chosen)
            # The value of what is chosen, which within `slack` need not be the best.
            attained = jnp.take_along_axis(returns, chosen[:, None], 1)[:, 0]
            return attained, held.at[:, cluster].set(chosen)

        return self.by_blocks(block, self._cluster_block(most))

    def _cluster_block(self, variants: int) -> int:
        return self.states_at_once(
            2 * variants * (self.arrangement.high.size + self.arrangement.low.size)
        )

    def variants(
        self, policy: Int[Array, "states clusters"], cluster: Int[Array, ""]
    ) -> Int[Array, "states signals agents"]:
        """Signals of all agents for every signal of one cluster, all others as in `policy`."""
        labels = jnp.asarray(self.arrangement.labels)
        every = jnp.arange(max(self.arrangement.choices))[:, None]
        return jnp.where(labels == cluster, every, self.heard_under(policy)[:, None, :])

    def expected_under(
        self,
        place: Place,
        signals: Int[Array, "states variants agents"],
        values: Float[Array, " all_states"],
    ) -> Float[Array, "states variants"]:
        """E V one step after some states, under signals of all agents."""
        return self._expected_under(place, signals, self._matrix(values))

    # --- A fixed policy. ----------------------------------------------------------------------

    def apply(
        self, values: Float[Array, " states"], policy: Int[Array, "states clusters"]
    ) -> Float[Array, " states"]:
        """T_policy values: one step under the policy, then `values`."""
        matrix = self._matrix(values)

        def block(index: Array) -> Array:
            place = self.place(index)
            signals = self.heard_under(policy[index])[:, None, :]
            expected = self._expected_under(place, signals, matrix)[:, 0]
            return self.model.discount * expected + self.reward(place, signals)[:, 0]

        return self.by_blocks(block, self._cluster_block(1))

    def rows_under(self, policy: Int[Array, "states clusters"]) -> PolicyRows | None:
        """Rows for many sweeps under one policy, where those of all states fit one block."""
        halves = self.arrangement.high, self.arrangement.low
        if self.states_at_once(sum(half.size for half in halves)) < self.model.n_states:
            return None
        place = self.place(jnp.arange(self.model.n_states))
        signals = self.heard_under(policy)[:, None, :]
        high, low = (self.rows_of(place, half.factors, signals)[:, 0] for half in halves)
        return PolicyRows(high, low, self.reward(place, signals)[:, 0])

    def apply_rows(self, values: Float[Array, " states"], rows: PolicyRows) -> Array:
        """T_policy values, as `apply` has them."""
        towards = rows.high @ self._matrix(values)
        expected = (
            jnp.sum(towards * rows.low, -1) if self.arrangement.low.factors else towards[:, 0]
        )
        return self.model.discount * expected + rows.earned

    def rewards(self, policy: Int[Array, "states clusters"]) -> Float[Array, " states"]:
        """r(x, policy(x))."""

        def block(index: Array) -> Array:
            signals = self.heard_under(policy[index])[:, None, :]
            return self.reward(self.place(index), signals)[:, 0]

        return self.by_blocks(block, self.states_at_once(2 * self.model.n_agents))

    def evaluate(
        self, policy: Int[Array, "states clusters"], options: LinearSolve
    ) -> Float[Array, " states"]:
        """Values of a policy: V = T_policy V, solved as a linear system."""
        earned = self.rewards(policy)
        _, linear = jax.linearize(lambda v: v - self.apply(v, policy), earned)
        return solve_transposable(
            linear, earned, options=options, symmetric=False, precondition=lambda v: v
        )

    # --- Parts. -------------------------------------------------------------------------------

    def place(self, index: Int[Array, " states"]) -> Place:
        """A block of states."""
        return Place.of(index, self.model.sizes)

    def heard_under(self, policy: Int[Array, "states clusters"]) -> Int[Array, "states agents"]:
        """Signals of all agents from those of clusters."""
        labels = jnp.asarray(self.arrangement.labels)
        return jnp.where(labels >= 0, policy[:, jnp.maximum(labels, 0)], 0)

    def _matrix(self, values: Float[Array, " states"]) -> Float[Array, "high low"]:
        """Values as a matrix over the next states of the two halves."""
        high, low = self.arrangement.high, self.arrangement.low
        table = values.reshape(self.model.sizes).transpose((*high.agents, *low.agents))
        return table.reshape(high.size, low.size)

    def rows_of(
        self, place: Place, factors: Sequence[int], signals: Int[Array, "states variants agents"]
    ) -> Float[Array, "states variants size"]:
        """Kronecker rows over the joint next states of some factors."""
        made = []
        for factor in factors:
            agents = self.model.factors[factor]
            made.append(self.model.behaviours[factor].rows(place, agents, signals[..., agents[0]]))
        return self._product_of(made, signals.shape[:2])

    def _product_of(
        self, rows: Iterable[Float[Array, "states variants own"]], shape: tuple[int, ...]
    ) -> Float[Array, "states variants size"]:
        """Kronecker products of rows, one if there are none."""
        product = None
        for own in rows:
            own = own.astype(self.model.dtype)
            if product is not None:
                own = (product[..., :, None] * own[..., None, :]).reshape(*shape, -1)
            product = own
        return jnp.ones((*shape, 1), self.model.dtype) if product is None else product

    def _expected_under(
        self,
        place: Place,
        signals: Int[Array, "states variants agents"],
        matrix: Float[Array, "high low"],
    ) -> Float[Array, "states variants"]:
        """E V under signals of all agents."""
        high, low = self.arrangement.high, self.arrangement.low
        towards = self.rows_of(place, high.factors, signals) @ matrix
        if not low.factors:
            return towards[..., 0]
        return jnp.sum(towards * self.rows_of(place, low.factors, signals), -1)

    def _earned(self, place: Place, half: Half, signals: Array) -> Array | None:
        """Rewards that belong to the agents of a half."""
        return self.model.reward.of_agents(
            place, half.agents, signals[..., np.asarray(half.agents, int)]
        )

    def reward(self, place: Place, signals: Int[Array, "states variants agents"]) -> Array:
        """The whole reward under signals of all agents."""
        total = jnp.broadcast_to(self.model.reward.of_states(place)[:, None], signals.shape[:2])
        for half in (self.arrangement.high, self.arrangement.low):
            earned = self._earned(place, half, signals)
            total = total if earned is None else total + earned
        jointly = self.model.reward.jointly(place, signals)
        return total if jointly is None else total + jointly

    def states_at_once(self, each: int) -> int:
        """How many states a block holds if each holds this many numbers."""
        fit = self.block or max(1, _HELD // each)
        return min(fit, self.model.n_states)

    def by_blocks(self, function: Callable[[Array], Any], block: int) -> Any:
        """The function of all states, a block of them at a time."""
        states = self.model.n_states
        if block >= states:
            return function(jnp.arange(states))
        blocks = -(-states // block)
        index = jnp.minimum(jnp.arange(blocks * block), states - 1).reshape(blocks, block)
        made = jax.lax.map(function, index)
        return jax.tree.map(lambda x: x.reshape(blocks * block, *x.shape[2:])[:states], made)


def first_best(
    returns: Float[Array, "states variants"],
) -> tuple[Float[Array, " states"], Int[Array, " states"]]:
    """The maximum of every row and the first place that has it, seven times as fast as `argmax`.

    XLA's `argmax` on a CPU carries value and place through one scalar loop.
    """
    best, last = jnp.max(returns, 1), returns.shape[1] - 1
    places = jnp.arange(last + 1, dtype=jnp.int32)
    return best, jnp.min(jnp.where(returns >= best[:, None], places, last), 1)


def _sum(
    high: Float[Array, "states high"] | None,
    low: Float[Array, "states low"] | None,
    parts: tuple[int, int, int],
) -> Float[Array, "states alone shared other"] | None:
    if high is None or low is None:
        return None
    alone, shared, other = parts
    return high.reshape(-1, alone, shared, 1) + low.reshape(-1, 1, shared, other)
