"""Episodes run side by side under one table of action values, and what they teach."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._core import gibbs, sampling
from .processes import AbstractProcess


class Tally(eqx.Module):
    """Sums over episodes: cost, its first and second differences in every parameter, and counts."""

    cost: Float[Array, ""]
    slope: Float[Array, " flat"]
    bend: Float[Array, " flat"]
    asked: Float[Array, ""]
    failed: Int[Array, ""]
    cut: Float[Array, ""]


class Table(eqx.Module):
    """Action values under the policy and under the prior, and how many targets each has met.

    Targets of betas before count at a discount.
    """

    values: Float[Array, "states actions"]
    by_chance: Float[Array, "states actions"]
    met: Float[Array, "states actions"]


class _Step(eqx.Module):
    """One step of all actors, for the way back."""

    states: Int[Array, " actors"]
    actions: Int[Array, " actors"]
    error: Float[Array, " actors"]
    error_by_chance: Float[Array, " actors"]
    taught: Bool[Array, " actors"]
    ends: Bool[Array, " actors"]


class Episodes(eqx.Module):
    """How episodes are run.

    **Fields:** `env`; `shaped`, from a flat vector to its parameters; `log_prior`; `discount`;
    `omega`, exponent of the rate; `trace`, how much of what an episode went on to cost enters a
    target; `eps` of differences; `actors` and `max_steps`.
    """

    env: AbstractProcess
    shaped: Any = eqx.field(static=True)
    log_prior: Float[Array, "states actions"]
    discount: Any
    omega: Any
    trace: Any
    eps: Any
    actors: int = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)

    def run(
        self, key: Any, table: Table, flat: Float[Array, " flat"], beta: Any,
        *, by_chance: bool = False, beside: bool = False,
    ) -> tuple[Table, Tally]:  # fmt: skip
        """A round: episodes under the policy of the table, all of which teach it at their end.

        `by_chance`: under the prior instead, which teaches its own values alone. `beside`: whether
        the environment is asked beside every parameter as well.
        """
        begin, key = jax.random.split(key)
        states = jax.vmap(self.env.reset)(jax.random.split(begin, self.actors)).astype(jnp.int32)
        zero, size = jnp.zeros((), flat.dtype), flat.size if beside else 0
        slopes = jnp.zeros((size,), flat.dtype)
        none = Tally(zero, slopes, slopes, zero, jnp.zeros((), jnp.int32), zero)
        start = states, jnp.ones((self.actors,), bool), zero + 1, none
        (last, live, _, tally), steps = jax.lax.scan(
            lambda carry, key: self._step(carry, key, table, flat, beta, by_chance, beside),
            start, jax.random.split(key, self.max_steps),
        )  # fmt: skip
        tally = eqx.tree_at(lambda t: t.cut, tally, jnp.sum(live.astype(flat.dtype)))
        return self._taught(table, steps, last, beta, by_chance), tally

    def _step(
        self, carry: Any, key: Any, table: Table, flat: Array, beta: Any, by_chance: bool,
        beside: bool,
    ) -> tuple[Any, _Step]:  # fmt: skip
        states, live, factor, tally = carry
        n, dtype, values = self.env.n_states, flat.dtype, table.values
        choose, ask = jax.random.split(key)
        log_policy = self.log_prior[states]
        if not by_chance:
            _, log_policy = gibbs.relative(values[states], log_policy, beta)
        drawn = jax.random.uniform(choose, (self.actors,), dtype)
        actions = sampling.by_inverse(drawn, jnp.exp(log_policy))
        after, ends, costs = jax.vmap(lambda k, s, u: self._asked(k, s, u, flat, beside))(
            jax.random.split(ask, self.actors), states, actions
        )
        good = jnp.all(jnp.isfinite(costs), axis=1) & (after >= 0) & (after < n)
        inside = jnp.clip(after, 0, n - 1).astype(jnp.int32)
        costs = jnp.where(good[:, None], costs, 0.0)
        size = costs.shape[1] // 2
        here, above, below = costs[:, 0], costs[:, 1 : size + 1], costs[:, size + 1 :]
        taught, at = live & good, (states, actions)
        worth, mean = self._worth(table, inside, beta)
        ahead = self.discount * jnp.where(ends, 0.0, jnp.stack([worth, mean]))
        error = here + ahead - jnp.stack([values[at], table.by_chance[at]])
        weight = taught.astype(dtype) * factor
        tally = Tally(
            tally.cost + jnp.sum(weight * here),
            tally.slope + weight @ (above - below) / (2 * self.eps),
            tally.bend + weight @ (above - 2 * here[:, None] + below) / self.eps**2,
            tally.asked + costs.shape[1] * jnp.sum(live),
            tally.failed + jnp.sum(live & ~good).astype(jnp.int32),
            tally.cut,
        )
        step = _Step(states, actions, error[0], error[1], taught, ends)
        return (inside, taught & ~ends, factor * self.discount, tally), step

    def _asked(self, key: Any, state: Any, action: Any, flat: Array, beside: bool) -> Any:
        """Where it leads, whether it ends, and cost here and beside in every parameter."""
        moves = jnp.zeros((1, flat.size), flat.dtype)
        if beside:
            unit = self.eps * jnp.eye(flat.size, dtype=flat.dtype)
            moves = jnp.concatenate([moves, unit, -unit])
        after, costs, ends = jax.vmap(
            lambda move: self.env.step(key, state, action, self.shaped(flat + move))
        )(moves)
        return after[0], ends[0], costs.astype(flat.dtype)

    def _worth(self, table: Table, states: Array, beta: Any) -> tuple[Array, Array]:
        """Free energies of states, and what they cost under the prior."""
        log_prior = self.log_prior[states]
        worth, _ = gibbs.relative(table.values[states], log_prior, beta)
        return worth, jnp.sum(jnp.exp(log_prior) * table.by_chance[states], axis=1)

    def _taught(self, table: Table, steps: _Step, last: Array, beta: Any, by_chance: bool) -> Table:
        """The table after the mean target of every state and action that was met.

        Targets by the free energy of the next state alone would let states that lead to one another
        for nothing hold each other below what they cost. What an episode went on to cost brings
        them up, and what one that was cut would cost under the prior.
        """
        worth, mean = self._worth(table, last, beta)
        errors = self._back(steps, steps.error, mean - worth)
        chances = steps.error_by_chance
        if by_chance:
            chances = self._back(steps, chances, jnp.zeros_like(mean))
        weight = steps.taught.astype(errors.dtype)
        empty, at = jnp.zeros_like(table.values), (steps.states, steps.actions)
        seen = empty.at[at].add(weight)
        met, number = table.met + seen, jnp.maximum(seen, 1.0)
        rate = (seen > 0) * (number / jnp.maximum(met, 1.0)) ** self.omega / number
        prior = table.by_chance + rate * empty.at[at].add(weight * chances)
        # No choice has brought values under the prior below what they cost.
        values = table.values + rate * empty.at[at].add(weight * errors)
        return Table(prior if by_chance else values, prior, met)

    def _back(self, steps: _Step, errors: Array, last: Array) -> Array:
        """Errors with those of the steps that followed."""

        def back(ahead: Any, step: Any) -> tuple[Any, Array]:
            error, taught, ends = step
            onward, followed = ahead
            onward = jnp.where(followed & ~ends, self.trace * onward, 0.0)
            error = error + self.discount * onward
            return (error, taught), error

        start = last, jnp.ones_like(steps.taught[0])
        return jax.lax.scan(back, start, (errors, steps.taught, steps.ends), reverse=True)[1]
