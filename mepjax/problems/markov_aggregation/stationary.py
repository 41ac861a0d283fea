"""The stationary distribution of a chain, to all digits, differentiable in its transitions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float

from ..._core import checks
from ..._core.programs import program
from .rows import AbstractRows

# States named in a message.
_NAMED = 6
# Up to this many states each is eliminated by itself; of more, blocks of so many together, so that
# most of the work is in products of matrices.
_SMALL = 128
_BLOCK = 32
# Up to this many, compiling takes longer than is saved.
_QUICK_STATES = 32
_HIGHEST = jax.lax.Precision.HIGHEST


def stationary_distribution(owner: str, rows: AbstractRows) -> Float[Array, " n"]:
    """rho with rho P = rho and sum one; states that are left for ever weigh nothing.

    By elimination of states without a subtraction (Grassmann, Taksar and Heyman 1985), so that each
    weight is as precise as the transitions, however weakly parts of the chain are coupled; the
    diagonal is not looked at. The derivative is that of the equation.

    NaN for a traced chain with several closed classes, which has as many as one likes.

    **Raises:** `ValueError` for such a concrete chain, naming the states of the classes.
    """
    n, s = rows.shape
    if n != s:
        raise ValueError(
            f"{owner}: `weights` 'stationary' needs a chain, as many rows as states; got shape "
            f"({n}, {s}). Give the weights of the rows."
        )
    matrix = rows.dense()
    if checks.is_concrete(rows):
        classes = closed_classes(np.asarray(matrix) > 0)
        if len(classes) > 1:
            told = "; ".join(_named(states) for states in classes[:3])
            raise ValueError(
                f"{owner}: `transitions` must have one closed class of states for stationary "
                f"weights; got {len(classes)}: {told}{'; ...' if len(classes) > 3 else ''}. Give "
                "`weights`, or aggregate each by itself."
            )
    return _solved(matrix)


def _weights(matrix: Float[Array, "n n"]) -> Float[Array, " n"]:
    return _stationary(matrix)


# As many operations as the cube of the states: compiled quickly, 100 of them take 20 times as long.
_solved = program(_weights, is_long=lambda matrix: len(matrix) > _QUICK_STATES)


@jax.custom_jvp
def _stationary(matrix: Float[Array, "n n"]) -> Float[Array, " n"]:
    """rho; NaN unless there is one closed class."""
    factors, ends = _eliminated(matrix)
    places = jnp.arange(len(matrix))

    def state(rho: Array, args: tuple[Array, Array, Array]) -> tuple[Array, None]:
        k, visits, end = args
        own = jnp.where(end, 1.0, rho @ visits)
        # What is far smaller than the largest underflows, and nothing overflows.
        return jnp.where(places == k, own, rho) / jnp.maximum(own, 1.0), None

    start = jnp.zeros((len(matrix),), matrix.dtype)
    rho, _ = jax.lax.scan(state, start, (places, factors.T, ends), reverse=True)
    return jnp.where(jnp.sum(ends) == 1, rho / jnp.sum(rho), jnp.nan)


@_stationary.defjvp
def _stationary_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """(D - P^T) d rho = (dP^T - dD) rho with D the sums of rows without the diagonal."""
    (matrix,), (change,) = primals, tangents
    rho = _stationary(matrix)
    away = _without_diagonal(change)
    target = rho @ away - rho * jnp.sum(away, axis=1)
    away = _without_diagonal(matrix)
    leaving = jnp.sum(away, axis=1)

    # The last term makes the system regular and changes nothing where x sums to zero.
    def system(x: Array) -> Array:
        return leaving * x - x @ away + rho * jnp.sum(x)

    still, weights = jax.lax.stop_gradient((matrix, rho))
    n = len(matrix)
    # The heaviest state is eliminated last, which keeps the factors small.
    last = jnp.argmax(weights)
    order = jnp.arange(n).at[last].set(n - 1).at[n - 1].set(last)
    factors, _ = _eliminated(still[order][:, order])
    lower = jnp.eye(n, dtype=factors.dtype) - jnp.tril(factors, -1)
    onward = jnp.triu(factors, 1)
    upper = jnp.diag(jnp.sum(onward, axis=1).at[n - 1].set(1.0)) - onward

    def solve(_: Any, b: Array) -> Array:
        total = jnp.sum(b)
        x = solve_triangular(upper, (b - weights * total)[order], trans=1)
        x = solve_triangular(lower, x.at[n - 1].set(0.0), trans=1, lower=True, unit_diagonal=True)
        x = x[order]
        return x + weights * (total - jnp.sum(x))

    def transpose_solve(_: Any, b: Array) -> Array:
        total = weights @ b
        y = solve_triangular(lower, (b - total)[order], lower=True, unit_diagonal=True)
        y = solve_triangular(upper, y.at[n - 1].set(0.0))[order]
        return y + (total - weights @ y)

    return rho, jax.lax.custom_linear_solve(system, target, solve, transpose_solve)


def _without_diagonal(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    return jnp.where(jnp.eye(len(matrix), dtype=bool), 0.0, matrix)


def _eliminated(matrix: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Bool[Array, " n"]]:
    """State after state taken out of the chain, its visits dealt to where they came from.

    Returns factors, below the diagonal of column k how often k is visited for each visit to a later
    state before the next one to a later state, above it in row k how k goes on to later states; and
    which states are the last of a closed class, one for each.
    """
    return _one_by_one(matrix) if len(matrix) <= _SMALL else _by_blocks(matrix)


def _one_by_one(matrix: Float[Array, "n n"]) -> tuple[Array, Array]:
    n = len(matrix)
    places, across = jnp.arange(n), jnp.arange(n + 1)

    def take(chain: Array, k: Array) -> tuple[Array, Array]:
        onward = jnp.where(across > k, chain[k], 0.0)
        total = jnp.sum(onward)
        # No way on: it is the last of a closed class, and from now on what enters it is in the
        # last column, so that states that lead there are not taken for such.
        end = ~(total > 0)
        onward = jnp.where(end & (across == n), 1.0, onward)
        later = places > k
        visits = jnp.where(later, chain[:, k] / jnp.where(end, 1.0, total), 0.0)
        dealt = chain + visits[:, None] * onward
        return jnp.where((across == k) & later[:, None], visits[:, None], dealt), end

    chain, ends = jax.lax.scan(take, jnp.pad(matrix, ((0, 0), (0, 1))), places)
    return chain[:, :n], ends


def _by_blocks(matrix: Float[Array, "n n"]) -> tuple[Array, Array]:
    n = len(matrix)
    size = -(-n // _BLOCK) * _BLOCK
    # Nothing reaches the states that fill up the last block. The last column is as above.
    padded = jnp.pad(matrix, ((0, size - n), (0, size - n + 1)))
    places, across = jnp.arange(size), jnp.arange(size + 1)
    within = jnp.arange(_BLOCK)

    def take_block(chain: Array, first: Array) -> tuple[Array, Array]:
        rows = jax.lax.dynamic_slice_in_dim(chain, first, _BLOCK, 0)
        columns = jax.lax.dynamic_slice_in_dim(chain, first, _BLOCK, 1)

        def take(state: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], Array]:
            rows, columns = state
            onward = jnp.where(across > first + t, rows[t], 0.0)
            total = jnp.sum(onward)
            end = ~(total > 0)
            onward = jnp.where(end & (across == size), 1.0, onward)
            later = places > first + t
            visits = jnp.where(later, columns[:, t] / jnp.where(end, 1.0, total), 0.0)
            own = jax.lax.dynamic_slice_in_dim(visits, first, _BLOCK)
            ours = jax.lax.dynamic_slice_in_dim(onward, first, _BLOCK)
            dealt = columns + visits[:, None] * ours
            columns = jnp.where((within == t) & later[:, None], visits[:, None], dealt)
            return (rows + own[:, None] * onward, columns), end

        (rows, columns), ends = jax.lax.scan(take, (rows, columns), within)
        rest = places >= first + _BLOCK
        dealt = jnp.matmul(
            jnp.where(rest[:, None], columns, 0.0),
            jnp.where(across >= first + _BLOCK, rows, 0.0),
            precision=_HIGHEST,
        )
        chain = jax.lax.dynamic_update_slice_in_dim(chain + dealt, rows, first, 0)
        # Rows above are of states taken out before.
        above = jax.lax.dynamic_slice_in_dim(chain, first, _BLOCK, 1)
        columns = jnp.where((places < first)[:, None], above, columns)
        return jax.lax.dynamic_update_slice_in_dim(chain, columns, first, 1), ends

    chain, ends = jax.lax.scan(take_block, padded, jnp.arange(0, size, _BLOCK))
    return chain[:n, :n], ends.reshape(-1)[:n]


def closed_classes(linked: Any) -> list[np.ndarray]:
    """The sets of states that, once entered, are never left."""
    from scipy.sparse.csgraph import connected_components

    count, label = connected_components(linked, directed=True, connection="strong")
    sources, targets = np.nonzero(linked)
    leaving = np.zeros(count, bool)
    crossing = label[sources] != label[targets]
    leaving[label[sources[crossing]]] = True
    return [np.flatnonzero(label == place) for place in range(count) if not leaving[place]]


def _named(states: np.ndarray) -> str:
    told = ", ".join(map(str, states[:_NAMED]))
    return f"states {told}{', ...' if len(states) > _NAMED else ''}"
