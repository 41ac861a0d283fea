"""The path of best supports: few columns of a design that explain a response, of every number."""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import arrays, checks
from .._core.failures import raise_failed
from .._core.lanes import lane_by_lane
from .._core.programs import program
from .sparse_search import Data, Support, searched

# Of its squared length a column must have so many eps that the others do not explain to be kept;
# more to be taken.
_OWN = 1e2
# Numbers of the design times sizes up to which compiling takes longer than is saved.
_QUICK_NUMBERS = 1 << 19


class SparsePath(eqx.Module):
    """Supports of 1, 2, ..., `n_sizes` columns.

    **Fields:** row s - 1 is that of size s; leading axes are lanes of a `vmap`.

    - `supports`: indices of columns, ascending, padded with -1, shape (sizes, sizes).
    - `coefficients`: least squares on them, 0 where padded, shape (sizes, sizes); differentiable in
        design and response, given the support.
    - `residual_sums`: what is left of |response|^2, shape (sizes,).
    - `n_sizes`: sizes with as many independent columns; rows after them repeat the last. A column
        is independent of others that explain all but 1e3 eps of its squared length: in float32
        all but a hundredth of its length.
    - `total`: |response|^2, what is left with no column.
    - `alike`: the first column that column i equals, but for its length; itself if it is the first;
        shape (n,). Which of them a support names is arbitrary: `union` has all.
    - `input_report`: which check a traced input failed; then there are no sizes.
    """

    supports: Int[Array, "*lanes sizes sizes"]
    coefficients: Float[Array, "*lanes sizes sizes"]
    residual_sums: Float[Array, "*lanes sizes"]
    n_sizes: Int[Array, "*lanes"]
    total: Float[Array, "*lanes"]
    alike: Int[Array, "*lanes n"]
    input_report: checks.InputReport

    @property
    def code(self) -> Int[Array, "*lanes"]:
        """What a traced input was refused for; `OK`."""
        return self.input_report.code

    def raise_if_failed(self) -> "SparsePath":
        """Raise for what `code` says, else return the path.

        **Raises:** `ValueError`, with the sentence that values which are not traced would have met;
        `TypeError` inside `jit`.
        """
        raise_failed(self.code, self.input_report)
        return self

    @property
    def duplicates(self) -> Bool[Array, "*lanes n"]:
        """Whether column i equals, but for its length, another one."""
        n = self.alike.shape[-1]
        count = jnp.sum(jax.nn.one_hot(self.alike, n, dtype=jnp.int32), axis=-2)
        return jnp.take_along_axis(count, self.alike, axis=-1) > 1

    def union(self, size: Any) -> Bool[Array, " n"]:
        """The columns that the support of a size stands for: its members and what is like them."""
        support = self.supports[size - 1]
        member = jnp.where(support < 0, -1, self.alike[support])
        return jnp.any(self.alike[:, None] == member, axis=1)

    def dense(self, size: Any) -> Float[Array, " n"]:
        """The coefficients of all columns at one size, zero outside the support."""
        support, found = self.supports[size - 1], self.coefficients[size - 1]
        zeros = jnp.zeros((self.alike.shape[-1] + 1,), found.dtype)
        # Padding goes to a place of its own.
        place = jnp.where(support < 0, zeros.size - 1, support)
        return zeros.at[place].add(found)[:-1]


def sparse_path(design: Any, response: Any, max_size: int) -> SparsePath:
    """Of every size the columns that explain a response best, as far as swaps can tell.

    Forward, one column at a time by largest correlation with what is left; after each, swaps: for
    every member j the residual without it, the best replacement, and what lowers the residual is
    kept. Then backward, dropping what is missed least, with the same swaps; once more backward from
    the columns that are correlated most with the response, each alone; the best at each size. A
    direct method: it does not anneal, and finds what `SparseRegression` does not.

    **Arguments:**

    - `design`: columns, shape (R, n); none is centred or scaled.
    - `response`: shape (R,).
    - `max_size`: the largest size, at most min(R, n). Above about R / 3 residuals shrink by chance.

    **Returns:** a `SparsePath`. Legal under `jit`, `vmap` (batches of designs) and `grad`.

    **Raises:** `ValueError` for shapes that do not fit, data that are not finite, or a column of
    zeros; where values are traced, NaN and no sizes instead. Warns for `max_size` > R / 3.

    Source: parameterized sequential decision making, chapter 7, solved directly; swaps as in
    Fraenti (2018) and the splicing of abess.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from mepjax.select import sparse_path
    >>> design = jax.random.normal(jax.random.key(0), (30, 50))
    >>> path = sparse_path(design, 3 * design[:, 7] - 2 * design[:, 20], 4)
    >>> print(path.supports[1, :2], [f"{value:.3f}" for value in path.coefficients[1, :2]])
    [ 7 20] ['3.000', '-2.000']

    ```
    """
    owner = "sparse_path"
    design, response = checked_regression(owner, design, response, max_size)
    told = checks.report(_data_checks(owner, design, response))
    return _solved(design, response, int(max_size), told)


def checked_regression(
    owner: str, design: Any, response: Any, max_size: int
) -> tuple[Float[Array, "r n"], Float[Array, " r"]]:
    """Arrays of fitting shapes; concrete bad values raise."""
    design = arrays.as_float_array("design", design)
    if design.ndim != 2 or design.size == 0:
        raise ValueError(
            f"{owner}: `design` must be 2-D, (responses, columns), and not empty; "
            f"got shape {design.shape}."
        )
    response = arrays.as_data_like("response", response, design.dtype)
    r, n = design.shape
    if response.shape != (r,):
        raise ValueError(f"{owner}: `response` must have shape ({r},); got {response.shape}.")
    checks.check_count(owner, "max_size", max_size)
    if max_size > min(r, n):
        raise ValueError(
            f"{owner}: `max_size` must be at most min(responses, columns), {min(r, n)}; "
            f"got {max_size}."
        )
    if max_size > 1 and 3 * max_size > r:
        warnings.warn(
            f"{owner}: `max_size` {max_size} is more than a third of {r} responses; residuals of "
            "the largest sizes shrink by chance.",
            stacklevel=3,
        )
    checks.enforce(_data_checks(owner, design, response))
    return design, response


def _data_checks(owner: str, design: Array, response: Array) -> tuple[checks.Check, ...]:
    xp, host = checks.on_host(design)
    squares = xp.sum(host * host, axis=0)
    least = xp.argmin(squares)
    ok = squares[least] > 0
    # Sentences are static in programs: those of data that are right must not differ.
    place = f"column {int(least)}" if xp is np and not ok else "a column"
    return (
        checks.check_finite(owner, "design", design),
        checks.check_finite(owner, "response", response),
        checks.Check(
            ok,
            squares[least],
            f"{owner}: columns of `design` must not be zero; {place} has the sum of squares "
            "{got}.",
        ),
    )


# Sweeps of swaps go over all columns: quick code of a large design takes twice as long.
def _is_long(design: Array, response: Array, m: int, told: Any) -> bool:
    return design.size * m > _QUICK_NUMBERS


def _path(design: Array, response: Array, m: int, told: checks.InputReport) -> SparsePath:
    still, y = jax.lax.stop_gradient((design, response))
    data = Data(still, jnp.sum(still**2, axis=0), y)
    # In one loop lanes would all take the sweeps of the slowest at every size.
    best = Support(*lane_by_lane(lambda a, b: searched(a, b, m))(still, y))
    coefficients, sums = jax.vmap(lambda s: _refit(design, response, s))(best)
    # Traced values cannot raise, and columns that are none would be passed over without a word.
    usable = jnp.all(jnp.isfinite(data.squares) & (data.squares > 0)) & jnp.all(jnp.isfinite(y))
    coefficients, sums = (jnp.where(usable, leaf, jnp.nan) for leaf in (coefficients, sums))
    # As many independent columns as the size asks for.
    independent = jax.vmap(lambda s: _is_independent(data, s))(best)
    n_sizes = jnp.where(usable, jnp.sum(jnp.cumprod(independent.astype(jnp.int32))), 0)
    row = jnp.minimum(jnp.arange(m), jnp.maximum(n_sizes - 1, 0))
    supports = jnp.where(best.held, best.members, -1)
    return SparsePath(
        supports=supports[row],
        coefficients=coefficients[row],
        residual_sums=sums[row],
        n_sizes=n_sizes.astype(jnp.int32),
        total=jnp.where(usable, response @ response, jnp.nan),
        alike=_alike(data),
        input_report=told,
    )


_solved = program(_path, is_long=_is_long)


def _refit(design: Array, response: Array, support: Support) -> tuple[Array, Array]:
    """Least squares on a support, differentiable in both."""
    squares = jnp.sum(design**2, axis=0)
    x, left, _ = Data(design, squares, response).fit(support)
    x = jnp.where(support.held, x / jnp.sqrt(squares[support.members]), 0.0)
    return x, left @ left


def _is_independent(data: Data, support: Support) -> Bool[Array, ""]:
    """Whether each member has something of its own, whatever the largest size asked for."""
    own = 1 / jnp.diag(data.fit(support)[2])
    return jnp.all(jnp.where(support.held, own > _OWN * jnp.finfo(own.dtype).eps, True))


def _alike(data: Data) -> Int[Array, " n"]:
    """The first column along the line of each, by two projections: no n x n matrix is formed."""
    unit = data.design / jnp.sqrt(data.squares)
    # Columns that point opposite ways are alike too.
    lead = jnp.take_along_axis(unit, jnp.argmax(jnp.abs(unit), axis=0)[None], axis=0)
    unit = unit * jnp.sign(lead)
    mixed = jax.random.normal(jax.random.key(0), (2, unit.shape[0]), unit.dtype) @ unit
    order = jnp.argsort(mixed[0])
    sorted_mix = mixed[:, order]
    near = jnp.all(jnp.abs(jnp.diff(sorted_mix, axis=1)) < 1e2 * jnp.finfo(unit.dtype).eps, axis=0)
    # Neighbours that only look alike are told apart by their product.
    first, second = order[:-1], order[1:]
    same = near & (jnp.sum((unit[:, first] - unit[:, second]) ** 2, axis=0) < 1e-8)
    n = unit.shape[1]
    group = jnp.concatenate([jnp.zeros((1,), jnp.int32), jnp.cumsum(~same).astype(jnp.int32)])
    leader = jax.ops.segment_min(order.astype(jnp.int32), group, n)
    return jnp.zeros((n,), jnp.int32).at[order].set(leader[group])
