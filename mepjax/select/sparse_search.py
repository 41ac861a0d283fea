"""Search for few columns that explain a response: forward, swaps, and backward twice."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Sweeps of swaps over the members of a support.
_SWEEPS = 4
# Of its squared length a column must have so many eps that the others do not explain to be taken.
_OWN_TO_ENTER = 1e3
# A swap must lower the residual sum by this share of it, or it is rounding.
_WORTH = 1e-5
_HIGHEST = jax.lax.Precision.HIGHEST


class Support(eqx.Module):
    """Up to m columns, padded: `members` (m,), `held` says which places count.

    `through` (m, n), products of members of unit length with all columns, of which a step changes
    one row; zeros where padded.
    """

    members: Int[Array, " m"]
    held: Bool[Array, " m"]
    through: Any = None

    def put(self, data: "Data", place: Array, column: Array) -> "Support":
        """With a column in a place."""
        through = self.through
        if through is not None:
            unit = data.design[:, column] / jnp.sqrt(data.squares[column])
            through = through.at[place].set(_product(unit, data.design))
        return Support(self.members.at[place].set(column), self.held.at[place].set(True), through)

    def without(self, place: Array) -> "Support":
        """With a place made empty."""
        through = None if self.through is None else self.through.at[place].set(0.0)
        return Support(self.members, self.held.at[place].set(False), through)


class Data(eqx.Module):
    """A design, squared lengths of its columns, and a response."""

    design: Float[Array, "r n"]
    squares: Float[Array, " n"]
    response: Float[Array, " r"]

    def columns(self, support: Support) -> Float[Array, "r m"]:
        """Members of unit length; zeros where padded."""
        unit = self.design[:, support.members] / jnp.sqrt(self.squares[support.members])
        return jnp.where(support.held, unit, 0.0)

    def fit(self, support: Support) -> tuple[Array, Array, Array]:
        """Least squares: coefficients of unit columns, residual, and the inverse Gram matrix."""
        a = self.columns(support)
        gram = a.T @ a
        # A ridge far below what an independent column has of its own keeps others finite.
        ridge = jnp.where(support.held, 10 * jnp.finfo(gram.dtype).eps, 1.0)
        inverse = jnp.linalg.inv(gram + jnp.diag(ridge.astype(gram.dtype)))
        x = inverse @ (a.T @ self.response)
        left = self.response - a @ x
        # Once more: the normal equations lose half of the digits.
        more = inverse @ (a.T @ left)
        return x + more, left - a @ more, inverse

    def taken(self, support: Support) -> Bool[Array, " n"]:
        """Which columns are members."""
        n = self.design.shape[1]
        place = jnp.where(support.held, support.members, n)
        return jnp.zeros((n + 1,), bool).at[place].set(True)[:n]


class Fit(eqx.Module):
    """A support and least squares on it, which is solved once and handed on."""

    support: Support
    x: Float[Array, " m"]
    left: Float[Array, " r"]
    inverse: Float[Array, "m m"]

    @staticmethod
    def of(data: Data, support: Support) -> "Fit":
        """By solving."""
        return Fit(support, *data.fit(support))

    @property
    def sum(self) -> Float[Array, ""]:
        """What is left of |response|^2."""
        return jnp.sum(self.left**2)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=_HIGHEST)


def _added(data: Data, fit: Fit, place: Array) -> Support:
    """With the column that takes most off the residual, in the place given."""
    through = fit.support.through
    # What members explain of a column adds nothing; what lies in their span has nothing of its own.
    own = data.squares - jnp.sum(through * _product(fit.inverse, through), axis=0)
    alive = own > _OWN_TO_ENTER * jnp.finfo(own.dtype).eps * data.squares
    score = _product(fit.left, data.design) ** 2 / jnp.where(alive, own, 1.0)
    score = jnp.where(alive, score, 0.0)
    best = jnp.argmax(jnp.where(data.taken(fit.support), -1.0, score)).astype(jnp.int32)
    return fit.support.put(data, place, best)


def _swapped(data: Data, fit: Fit) -> Fit:
    """Members replaced while that lowers the residual."""

    def sweep(state: tuple[Fit, Array, Array]) -> tuple[Fit, Array, Array]:
        fit, _, count = state
        support, inverse = fit.support, fit.inverse
        # Without member j, left + q_j x_j / inverse_jj is left: q_j = a inverse_j is its own part.
        own = jnp.where(support.held, jnp.diag(inverse), 1.0)
        apart = _product(data.columns(support), inverse)
        without = fit.left[:, None] + apart * (fit.x / own)
        # Products of all columns with q_j; what they explain of a candidate is put back for j.
        mixed = _product(inverse, support.through)
        explained = jnp.sum(support.through * mixed, axis=0)
        inner = _product(fit.left, data.design) + mixed * (fit.x / own)[:, None]
        norms = data.squares - explained + mixed**2 / own[:, None]
        alive = norms > _OWN_TO_ENTER * jnp.finfo(norms.dtype).eps * data.squares
        score = jnp.where(alive, inner**2 / jnp.where(alive, norms, 1.0), 0.0)
        score = jnp.where(data.taken(support), -1.0, score)
        after = jnp.sum(without**2, axis=0) - jnp.max(score, axis=1)
        place = jnp.argmin(jnp.where(support.held, after, jnp.inf))
        best = jnp.argmax(score[place]).astype(jnp.int32)
        trial = Fit.of(data, support.put(data, place, best))
        better = trial.sum < fit.sum * (1 - _WORTH)
        return jax.tree.map(lambda a, b: jnp.where(better, a, b), trial, fit), better, count + 1

    limit = _SWEEPS * fit.support.members.size

    def proceed(state: tuple[Fit, Array, Array]) -> Array:
        return state[1] & (state[2] < limit)

    start = (fit, jnp.sum(fit.support.held) > 0, jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(proceed, sweep, start)[0]


def _dropped(fit: Fit) -> Support:
    """Without the member that is missed least."""
    loss = jnp.where(fit.support.held, fit.x**2 / jnp.diag(fit.inverse), jnp.inf)
    return fit.support.without(jnp.argmin(loss))


def _ordered(support: Support, n: int) -> Support:
    """Ascending, padding last."""
    order = jnp.argsort(jnp.where(support.held, support.members, n))
    return Support(support.members[order], support.held[order])


def _screened(data: Data, m: int) -> Support:
    """The m columns that are correlated most with the response, each on its own."""
    score = _product(data.response, data.design) ** 2 / data.squares
    members = jax.lax.top_k(score, m)[1].astype(jnp.int32)
    unit = data.design[:, members] / jnp.sqrt(data.squares[members])
    return Support(members, jnp.ones((m,), bool), _product(unit.T, data.design))


class _Steps(eqx.Module):
    """Supports of several sizes: members and held (sizes, m), residual sums, `usable` or not."""

    support: Support
    sums: Float[Array, " sizes"]
    usable: Bool[Array, " sizes"]

    @staticmethod
    def of(fit: Fit) -> "_Steps":
        """Of one fit. A support with columns in the span of its others is of no use."""
        own = 1 / jnp.diag(fit.inverse)
        alive = own > _OWN_TO_ENTER * jnp.finfo(own.dtype).eps
        support = Support(fit.support.members, fit.support.held)
        return _Steps(support, fit.sum, jnp.all(alive | ~support.held))

    def or_better(self, other: "_Steps") -> "_Steps":
        """At each size the other where it leaves less, by more than rounding."""
        better = other.usable & (other.sums < self.sums * (1 - _WORTH))

        def choose(new: Array, old: Array) -> Array:
            return jnp.where(better.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        return jax.tree.map(choose, other, self)


def searched(design: Array, response: Array, m: int) -> tuple[Array, Array]:
    """The best supports found of sizes 1 to m: members and which places are held, (m, m) each."""
    data = Data(design, jnp.sum(design**2, axis=0), response)
    n = design.shape[1]
    through = jnp.zeros((m, n), design.dtype)
    empty = Support(jnp.zeros((m,), jnp.int32), jnp.zeros((m,), bool), through)

    def improved(support: Support) -> tuple[Fit, _Steps]:
        fit = _swapped(data, Fit.of(data, support))
        return fit, _Steps.of(fit)

    last, up = jax.lax.scan(
        lambda fit, place: improved(_added(data, fit, place)),
        Fit.of(data, empty), jnp.arange(m),
    )  # fmt: skip
    # Backward from there, and from all that look alone as if they mattered: where many columns
    # matter the first ones that are taken may be wrong, and swaps of one do not mend them all.
    starts = jax.tree.map(lambda *leaves: jnp.stack(leaves), last, Fit.of(data, _screened(data, m)))

    def backward(start: Fit) -> _Steps:
        """Of sizes 1 to m."""

        def step(fit: Fit, is_first: Array) -> tuple[Fit, _Steps]:
            less = _dropped(fit)
            now = jax.tree.map(lambda a, b: jnp.where(is_first, a, b), fit.support, less)
            return improved(now)

        steps = jax.lax.scan(step, start, jnp.arange(m) == 0)[1]
        return jax.tree.map(lambda leaf: leaf[::-1], steps)

    # One after the other, by one program.
    both = jax.lax.map(backward, starts)
    down, across = (jax.tree.map(lambda leaf, at=at: leaf[at], both) for at in (0, 1))
    found = up.or_better(down).or_better(across)
    best = jax.vmap(lambda s: _ordered(s, n))(found.support)
    return best.members, best.held
