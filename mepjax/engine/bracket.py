"""Search in beta for where a curvature changes sign."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Growth of the bracket in the search for a sign change of the curvature.
_BRACKET_GROWTH = 1.25


class Bracket(eqx.Module):
    """Search in beta for a sign change of a curvature: positive below, non-positive above.

    Bracketing and narrowing are one step, `narrowed`, because the evaluation between steps is
    what takes long to compile. `stable` and `unstable` are betas of known sign, NaN while unknown,
    with the curvatures `above` and `below` zero there; `trial` is where to look next, `low` and
    `high` bound the search. A closed bracket narrows by the Illinois rule,
    since curvatures are costly and close to linear near the root, and is bisected after three steps
    (`slow`) that have not halved it.
    """

    stable: Float[Array, ""]
    unstable: Float[Array, ""]
    above: Float[Array, ""]
    below: Float[Array, ""]
    was_stable: Bool[Array, ""]
    slow: Int[Array, ""]
    trial: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    failed: Bool[Array, ""]
    rtol: float = eqx.field(static=True)

    @staticmethod
    def around(beta: Float[Array, ""], *, limit: float, rtol: float) -> "Bracket":
        """Nothing known yet; look at `beta` first and within a factor `limit` of it."""
        unknown = jnp.full_like(beta, jnp.nan)
        no = jnp.asarray(False)
        return Bracket(
            stable=unknown, unstable=unknown, above=unknown, below=unknown, was_stable=no,
            slow=jnp.zeros((), jnp.int32), trial=beta, low=beta / limit, high=beta * limit,
            failed=no, rtol=rtol,
        )  # fmt: skip

    @property
    def _closed(self) -> Bool[Array, ""]:
        return jnp.isfinite(self.stable) & jnp.isfinite(self.unstable)

    @property
    def _middle(self) -> Float[Array, ""]:
        return jnp.sqrt(self.stable) * jnp.sqrt(self.unstable)

    @property
    def searching(self) -> Bool[Array, ""]:
        """Whether `trial` still has to be looked at."""
        gap = jnp.abs(jnp.log(self.unstable / self.stable))
        exhausted = (self.stable >= self.high) | (self.unstable <= self.low)
        open_ended = jnp.where(self._closed, gap > self.rtol, ~exhausted)
        return ~self.failed & jnp.isfinite(self.trial) & open_ended

    def narrowed(self, curvature: Float[Array, ""]) -> "Bracket":
        """The bracket after the curvature at `trial` has been seen."""
        positive = curvature > 0
        stable = jnp.where(positive, self.trial, self.stable)
        unstable = jnp.where(curvature <= 0, self.trial, self.unstable)
        # An end that stays twice counts half, so that the next trial falls beyond the root.
        kept = jnp.where(positive == self.was_stable, 0.5, 1.0).astype(self.trial.dtype)
        above = jnp.where(positive, curvature, kept * self.above)
        below = jnp.where(curvature <= 0, curvature, kept * self.below)
        outward = jnp.where(
            jnp.isfinite(stable),
            jnp.minimum(stable * _BRACKET_GROWTH, self.high),
            jnp.maximum(unstable / _BRACKET_GROWTH, self.low),
        )
        # NaN while open, which is not slow.
        hardly = jnp.abs(unstable - stable) > 0.5 * jnp.abs(self.unstable - self.stable)
        slow = jnp.where(hardly & (self.slow < 3), self.slow + 1, 0)
        new = Bracket(
            stable=stable, unstable=unstable, above=above, below=below, was_stable=positive,
            slow=slow, trial=outward, low=self.low, high=self.high,
            failed=jnp.isnan(curvature), rtol=self.rtol,
        )  # fmt: skip
        trial = jnp.where(new._closed, new._inside, outward).astype(self.trial.dtype)
        return eqx.tree_at(lambda bracket: bracket.trial, new, trial)

    @property
    def _inside(self) -> Float[Array, ""]:
        """Where a closed bracket is looked at next: never so near an end that it hardly shrinks."""
        span = jnp.log(self.unstable / self.stable)
        share = self.above / (self.above - self.below)
        margin = jnp.minimum(0.4 * self.rtol / jnp.maximum(jnp.abs(span), self.rtol), 0.4)
        share = jnp.clip(jnp.where(jnp.isnan(share), 0.5, share), margin, 1 - margin)
        secant = self.stable + share * (self.unstable - self.stable)
        return jnp.where(self.slow == 3, self._middle, secant)

    @property
    def root(self) -> Float[Array, ""]:
        """Where the sign changes, inf if it was not found."""
        found = self._closed & ~self.failed
        return jnp.where(found, self._middle, jnp.inf).astype(self.trial.dtype)


def critical_bracket(beta: Float[Array, ""]) -> Bracket:
    """The search of `find_critical_beta`, for loops that have their own evaluation."""
    return Bracket.around(beta, limit=1e6, rtol=1e-12 if beta.dtype == jnp.float64 else 1e-6)
