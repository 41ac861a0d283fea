"""Transitions of a Markov chain as matrices, rows of outcomes, or edges: products and solves."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Int

# Up to so many states a chain is solved by factorisation.
DENSE_LIMIT = 2_000


class Matrix(eqx.Module):
    """A chain's transition matrix, dense."""

    p: Float[Array, "rows columns"]

    def mv(self, values: Float[Array, " columns"]) -> Float[Array, " rows"]:
        """Expected value after one step."""
        return jnp.matmul(self.p, values, precision="highest")

    def matrix(self) -> Float[Array, "rows columns"]:
        """The transition matrix, dense; rows are where steps start."""
        return self.p

    def masked(self, keep: Float[Array, " rows"]) -> "Matrix":
        """Rows times a factor."""
        return Matrix(self.p * keep[:, None])


class Rows(eqx.Module):
    """As many outcomes for every state: where they lead and how likely they are."""

    next: Int[Array, "rows outcomes"]
    p: Float[Array, "rows outcomes"]
    columns: int = eqx.field(static=True)

    def mv(self, values: Float[Array, " columns"]) -> Float[Array, " rows"]:
        """Expected value after one step."""
        ahead = jnp.take(values, self.next, mode="fill", fill_value=0.0)
        return jnp.sum(self.p.astype(values.dtype) * ahead, axis=1)

    def matrix(self) -> Float[Array, "rows columns"]:
        """The transition matrix, dense; rows are where steps start."""
        rows = jnp.arange(self.next.shape[0])[:, None]
        empty = jnp.zeros((self.next.shape[0], self.columns), self.p.dtype)
        return empty.at[rows, self.next].add(self.p, mode="drop")

    def masked(self, keep: Float[Array, " rows"]) -> "Rows":
        """Rows times a factor."""
        return Rows(self.next, self.p * keep[:, None], self.columns)


class Edges(eqx.Module):
    """A list of transitions in the order of their rows."""

    row: Int[Array, " edges"]
    column: Int[Array, " edges"]
    p: Float[Array, " edges"]
    rows: int = eqx.field(static=True)
    columns: int = eqx.field(static=True)

    def mv(self, values: Float[Array, " columns"]) -> Float[Array, " rows"]:
        """Expected value after one step."""
        ahead = jnp.take(values, self.column, mode="fill", fill_value=0.0)
        return jax.ops.segment_sum(self.p * ahead, self.row, self.rows, indices_are_sorted=True)

    def matrix(self) -> Float[Array, "rows columns"]:
        """The transition matrix, dense; rows are where steps start."""
        empty = jnp.zeros((self.rows, self.columns), self.p.dtype)
        return empty.at[self.row, self.column].add(self.p, mode="drop")

    def masked(self, keep: Float[Array, " rows"]) -> "Edges":
        """Rows times a factor."""
        return Edges(self.row, self.column, self.p * keep[self.row], self.rows, self.columns)


def chain_operator(
    transitions: Any, discount: Float[Array, ""], like: Float[Array, " rows"]
) -> lx.AbstractLinearOperator:
    """I - discount P of a chain among its own states: a matrix up to `DENSE_LIMIT` of them."""
    discount = jnp.asarray(discount, like.dtype)
    if like.size <= DENSE_LIMIT:
        p = transitions.matrix().astype(like.dtype)
        return lx.MatrixLinearOperator(jnp.eye(like.size, dtype=like.dtype) - discount * p)
    return lx.FunctionLinearOperator(
        lambda v: v - discount * transitions.mv(v), jax.ShapeDtypeStruct(like.shape, like.dtype)
    )


def chain_solver(size: int, dtype: Any) -> lx.AbstractLinearSolver:
    """LU up to `DENSE_LIMIT` states, else GMRES."""
    if size <= DENSE_LIMIT:
        return lx.LU()
    rtol = 1e-12 if dtype == jnp.float64 else 1e-6
    return lx.GMRES(rtol=rtol, atol=0.0, restart=40, max_steps=2_000)


def solve_chain(
    transitions: Any,
    discount: Float[Array, ""],
    cost: Float[Array, " rows"],
    guess: Float[Array, " rows"],
) -> Float[Array, " rows"]:
    """Values v = cost + discount P v of a chain; not finite where there are none."""
    operator = chain_operator(transitions, discount, cost)
    if isinstance(operator, lx.MatrixLinearOperator):
        # lineax raises in transposed solves, even where it is told not to.
        return jnp.linalg.solve(operator.matrix, cost)
    method = chain_solver(cost.size, cost.dtype)

    def solve(mv: Any, rhs: Array) -> Array:
        structure = jax.ShapeDtypeStruct(rhs.shape, rhs.dtype)
        system = lx.FunctionLinearOperator(mv, structure)
        options = {"y0": jax.lax.stop_gradient(guess)}
        return lx.linear_solve(system, rhs, method, options=options, throw=False).value

    return jax.lax.custom_linear_solve(operator.mv, cost, solve, transpose_solve=solve)
