"""How many columns: the marginal return of sparsity, and the extended BIC beside it."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._core import checks
from .model_order import ModelOrder, check_sizes, model_order
from .sparse_path import SparsePath, checked_regression, sparse_path


def sparse_marginal_return(
    design: Any, response: Any, solutions: Any = None, *, literal: bool = False
) -> ModelOrder:
    """How many columns: the size after which no further atom condenses for long.

    T_m is the temperature at which a spare atom, not yet placed, would condense on the residual of
    the solution of size m: T_m = 2 Var_i(a_i . r_m) / mean_i |a_i|^2 over columns i outside the
    support. v(m) = log T_{m-1} - log T_m, undefined at m = 1. It follows the smallest coefficient:
    it is right where that stands out of the noise, and else breaks off earlier, like a ratio of
    residual sums, which it often ties with; `ebic` counts better in noise.

    **Arguments:**

    - `design` (R, n), `response` (R,): as in `sparse_path`.
    - `solutions`: of sizes 1, 2, ... from anything: a `SparsePath`, or a mapping from size to the
        indices of columns, or a (sizes, n) array of coefficients; `None`: `sparse_path` up to
        the smaller of R/4 and n/2, above which residuals, or the columns left, are too few.
    - `literal`: the index as printed, at hard assignments. Its limit there depends on the way to
        them; for the uniform one T_m = max_l 2 x_l^2 + Var(g) / 2 terms, which follows the largest
        coefficient and does not move at the right size. For comparison only.

    **Returns:** a `ModelOrder`, whose `culprit` is the column that would condense (literal: the
    member that would split). There are no null references, so it is never `clear`.

    **Raises:** `TypeError` inside `jit` or `vmap`; `ValueError` for sizes with gaps or supports of
    the wrong size.

    Source: parameterized sequential decision making, chapter 7, (7.15), as corrected.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from mepjax.select import sparse_marginal_return
    >>> design = jax.random.normal(jax.random.key(0), (40, 30))
    >>> response = design[:, :3] @ jnp.array([2.0, -1.5, 1.0])
    >>> print(sparse_marginal_return(design, response).best)
    3

    ```
    """
    owner = "sparse_marginal_return"
    if not checks.is_concrete(design, response, solutions):
        raise TypeError(
            f"{owner} looks at supports, so it must be called outside `jit` and `vmap`; "
            "`sparse_path` and `ebic` are legal there."
        )
    design, response = checked_regression(owner, design, response, 1)
    if solutions is None:
        solutions = sparse_path(design, response, sizes_of_return(*design.shape))
    supports = _supports(owner, solutions, design.shape[1])
    dtype, eps = design.dtype, float(jnp.finfo(design.dtype).eps)
    # On the host: every size has shapes of its own, which need not be compiled.
    a, y = np.asarray(design, np.float64), np.asarray(response, np.float64)
    squares = np.sum(a**2, axis=0)
    rows = []
    for support in supports:
        x, left = _least_squares(a, y, support)
        rows.append((_literal if literal else _spare)(a, squares, support, x, left))
    critical = np.array([row[0] for row in rows])
    # A noise-free residual is rounding of the response.
    top = _spare(a, squares, np.empty(0, int), np.zeros(0), y)[0]
    critical = jnp.asarray(np.where(critical > eps * top, critical, 0.0), dtype)
    culprit = jnp.asarray([row[1] for row in rows], jnp.int32)
    kind = "sparse, literal" if literal else "sparse"
    return model_order(kind, range(1, len(rows) + 1), critical, culprit=culprit)


def sizes_of_return(r: int, n: int) -> int:
    """The largest size that `sparse_marginal_return` can be trusted with, at least 2."""
    return max(2, min(r // 4, n // 2))


def _supports(owner: str, solutions: Any, n: int) -> list[np.ndarray]:
    if isinstance(solutions, SparsePath):
        rows = np.asarray(solutions.supports)[: int(solutions.n_sizes)]
        table = {size + 1: row[row >= 0] for size, row in enumerate(rows)}
    elif hasattr(solutions, "items"):
        table = {int(size): np.asarray(row, int).ravel() for size, row in solutions.items()}
    else:
        rows = np.atleast_2d(np.asarray(solutions))
        table = {size + 1: np.flatnonzero(row) for size, row in enumerate(rows)}
    sizes = check_sizes(owner, sorted(table))
    for size in sizes:
        distinct = np.unique(table[size])
        if len(distinct) != size or (size and not 0 <= distinct[0] <= distinct[-1] < n):
            raise ValueError(
                f"{owner}: the solution of size {size} must have {size} different columns of {n}; "
                f"got {table[size].tolist()!r:.60}."
            )
    return [table[size] for size in sizes]


def _least_squares(
    design: np.ndarray, response: np.ndarray, support: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    a = design[:, support]
    x = np.linalg.lstsq(a, response, rcond=None)[0]
    return x, response - a @ x


def _spare(
    design: np.ndarray, squares: np.ndarray, support: np.ndarray, x: np.ndarray, left: np.ndarray
) -> tuple[float, int]:
    """2 Var_i(a_i . r) / mean |a_i|^2 over columns outside, and the one of largest correlation."""
    del x
    outside = np.setdiff1d(np.arange(design.shape[1]), support)
    if not len(outside):
        return 0.0, -1
    inner = design[:, outside].T @ left
    found = 2 * np.var(inner) / np.mean(squares[outside])
    return float(found), int(outside[np.argmax(inner**2 / squares[outside])])


def _literal(
    design: np.ndarray, squares: np.ndarray, support: np.ndarray, x: np.ndarray, left: np.ndarray
) -> tuple[float, int]:
    """max_l of Var(g) + (g_hot - mean g)^2 / 2 with g = A^T w - x_l lam (1 - 2 q), q uniform off l.

    Scaled by the squared length of the column, for which the printed one has unit columns.
    """
    inner = design.T @ left
    values = []
    for place, amount in zip(support, x, strict=True):
        g = inner - amount * squares
        hot = inner[place] + amount * squares[place]
        others = np.delete(g, place)
        found = np.var(others) + (hot - np.mean(others)) ** 2 / 2
        values.append(found / squares[place])
    best = int(np.argmax(values))
    return float(values[best]), int(support[best])


def ebic(path: SparsePath, n_responses: int, n_columns: int) -> Float[Array, "*lanes sizes+1"]:
    """R log(RSS / R) + m (log R + 2 log n) of 0, 1, 2, ... columns; +inf beyond `n_sizes`.

    The extended Bayesian information criterion (Chen and Chen 2008, gamma = 1): the smallest is the
    best. The residual sum is floored at rounding of |response|^2, for noise-free data.
    """
    r, n = n_responses, n_columns
    sums = jnp.concatenate([path.total[..., None], path.residual_sums], axis=-1)
    eps = jnp.finfo(sums.dtype).eps
    floor = jnp.maximum((8 * eps) ** 2 * r, jnp.finfo(sums.dtype).tiny) * path.total[..., None]
    count = jnp.arange(sums.shape[-1])
    # Below the floor every size explains all there is, and the smallest of them is the best.
    found = r * jnp.log(jnp.maximum(sums, floor) / r) + count * (np.log(r) + 2 * np.log(n))
    return jnp.where(count <= path.n_sizes[..., None], found, jnp.inf)
