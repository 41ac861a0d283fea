"""Whether a log looks like the autonomy that was fitted to it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._core import sampling
from .evidence import Evidence, ModelLearner

# p-values below this reject.
_LEVEL = 0.05


class TestOfFit(eqx.Module):
    """Two numbers that say whether interactions look like the fitted autonomy, with p-values.

    Both are compared with `bootstrap` logs drawn from the fitted autonomy for the same entities
    and prescriptions, to which it is fitted again. A row that counts several times is as many
    draws; where `times` are traced, or no integers, it is one.

    **Fields:**

    - `pearson`: sum of (observed - expected)^2 / expected over the cells (round, told, went). A
        small `pearson_p` says that the family is wrong. NaN for tables and a single round, which
        they meet exactly.
    - `spread`: the same of overrides by entity, over the `repeated` entities that were seen more
        than once. A small `spread_p` says that entities differ in how often they override, to
        which the first number is blind. NaN where no entity was seen twice.
    """

    # Not a test, whatever its name begins with.
    __test__ = False

    pearson: Float[Array, ""]
    pearson_p: Float[Array, ""]
    spread: Float[Array, ""]
    spread_p: Float[Array, ""]
    repeated: Int[Array, ""]

    @property
    def rejects(self) -> Array:
        """Whether either p-value is below 0.05."""
        return (self.pearson_p < _LEVEL) | (self.spread_p < _LEVEL)

    def __str__(self) -> str:
        parts = []
        if self.pearson_p < _LEVEL:
            parts.append(
                "The interactions do not look like this family of autonomy models "
                f"(p = {float(self.pearson_p):.3f}): see what else could drive where entities go."
            )
        if self.spread_p < _LEVEL:
            parts.append(
                "Entities differ in how often they override, more than chance allows "
                f"(p = {float(self.spread_p):.3f}): learn by group, or a table for each."
            )
        return " ".join(parts) or "Nothing in the interactions speaks against the fitted autonomy."


def examined(
    learner: ModelLearner,
    parameters: Float[Array, "blocks size"],
    evidence: Evidence,
    n_entities: int,
    n_rounds: int,
    key: Any,
    bootstrap: int,
) -> TestOfFit:
    """The test of `parameters`, which were fitted to `evidence`."""
    fitted = learner.probabilities(parameters, evidence)
    dtype, k = fitted.dtype, fitted.shape[1]
    times, told = evidence.times, evidence.prescribed
    row = evidence.round * k + told
    visits = jnp.zeros((n_entities,), dtype).at[evidence.entity].add(times > 0)

    def ratio(apart: Array, expected: Array) -> Array:
        known = expected > 0
        found = apart**2 / jnp.where(known, expected, 1.0)
        return jnp.where(known, found, jnp.where(apart != 0, jnp.inf, 0.0))

    def statistics(chances: Array, realised: Array) -> tuple[Array, Array]:
        went = (realised[:, None] == jnp.arange(k)).astype(dtype)
        apart, expected = (
            jnp.zeros((n_rounds * k, k), dtype).at[row].add(times[:, None] * rows)
            for rows in (went - chances, chances)
        )
        strays = 1 - jnp.take_along_axis(chances, told[:, None], axis=1)[:, 0]
        strayed = (realised != told).astype(dtype)
        by_entity, variance = (
            jnp.zeros((n_entities,), dtype).at[evidence.entity].add(times * number)
            for number in (strayed - strays, strays * (1 - strays))
        )
        spread = jnp.where(visits > 1, ratio(by_entity, variance), 0.0)
        return jnp.sum(ratio(apart, expected)), jnp.sum(spread)

    def drawn(key: Any) -> tuple[Array, Array]:
        realised = sampling.by_inverse(jax.random.uniform(key, told.shape, dtype), fitted)
        other = eqx.tree_at(lambda e: e.realised, evidence, realised)
        return statistics(
            learner.probabilities(learner.refitted(parameters, other), other), realised
        )

    pearson, spread = statistics(fitted, evidence.realised)
    others = jax.lax.map(drawn, jax.random.split(key, bootstrap))

    def p_value(found: Array, drawn: Array) -> Array:
        return (1 + jnp.sum(drawn >= found)) / (1 + bootstrap)

    nothing = jnp.asarray(jnp.nan, dtype)
    repeated = jnp.sum(visits > 1, dtype=jnp.int32)
    saturated = learner.saturated and n_rounds == 1
    return TestOfFit(
        pearson=nothing if saturated else pearson,
        pearson_p=nothing if saturated else p_value(pearson, others[0]).astype(dtype),
        spread=jnp.where(repeated > 0, spread, nothing),
        spread_p=jnp.where(repeated > 0, p_value(spread, others[1]), nothing).astype(dtype),
        repeated=repeated,
    )
