"""How many: the size of a solution that lasts longest as the temperature falls."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core.checks import Check, InputReport, is_concrete, report
from .._core.codes import Code
from .._core.failures import raise_failed

# The smaller excess over the references that makes an answer clear. Fixed on 36 public sets and 3
# without structure, of which 13 were clear and 12 of these right. That every other size has to stay
# behind by as much was added later, when sets of clusters of clusters were told as clear.
CLEAR_EXCESS = 0.3

NAMES = {
    "scatter": "persistence (scatter)",
    "covariance": "persistence (covariance)",
    "kernel": "persistence (scatter in the kernel's space)",
    "annealing": "persistence (annealing)",
    "markov": "marginal return of aggregation",
    "sparse": "marginal return of sparsity (spare atom)",
    "sparse, literal": "marginal return of sparsity (literal)",
}


class ModelOrder(eqx.Module):
    """T_k, the largest critical temperature in the solution of size k, and v(k), its fall.

    v(k) = log T_{k-1} - log T_k is how long, in log temperature, a solution of size k needs no
    more than its k members. The best size has the largest v. v of the first size is undefined, so
    that only `clear` can say that one is enough. All sizes are looked at: v may have several peaks.

    **Fields:** (leading axes are lanes of a `vmap`)

    - `sizes`: successive integers, shape (n,).
    - `critical`: T_k, shape (n,), in the units of the index that `kind` names.
    - `returns`: v(k), NaN at the first size and after the size that is `resolved`.
    - `culprit`: the group that attains T_k, -1 where it is not known.
    - `excess`: v less its mean over two null references, shape (2, n): draws uniform in the box of
        the principal components, and normal draws of the same covariance; NaN without references.
    - `kind`: which index it is; they are different numbers and may disagree.
    - `input_report`: which check a traced input failed.

    Source: parameterized sequential decision making, chapters 5 to 7 (5.10), (6.12), (7.15).

    **Example:** three pairs.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from mepjax.select import persistence
    >>> x = jnp.array([[0.0], [1.0], [20.0], [21.0], [40.0], [41.0]])
    >>> labels = {1: [0] * 6, 2: [0, 0, 1, 1, 1, 1], 3: [0, 0, 1, 1, 2, 2], 4: [0, 3, 1, 1, 2, 2]}
    >>> print(persistence(x, labels, references=0, key=jax.random.key(0)).best)
    3

    ```
    """

    sizes: Int[Array | np.ndarray, "*lanes n"]
    critical: Float[Array | np.ndarray, "*lanes n"]
    returns: Float[Array | np.ndarray, "*lanes n"]
    culprit: Int[Array | np.ndarray, "*lanes n"]
    excess: Float[Array | np.ndarray, "*lanes 2 n"]
    kind: str = eqx.field(static=True)
    input_report: InputReport

    @property
    def code(self) -> Int[Array | np.ndarray, "*lanes"]:
        """What a traced input was refused for; `NON_FINITE` where some T is NaN; `OK`."""
        xp = self._xp
        lost = xp.any(xp.isnan(xp.asarray(self.critical)), axis=-1)
        found = xp.where(lost, int(Code.NON_FINITE), int(Code.OK))
        return xp.maximum(found, xp.asarray(self.input_report.code)).astype(np.int32)

    def raise_if_failed(self) -> "ModelOrder":
        """Raise for what `code` says, else return the report.

        **Raises:** `ValueError` for bad input, with the sentence that values which are not traced
        would have met; `SolveError` for temperatures that are not finite; `TypeError` inside `jit`.
        """
        raise_failed(self.code, self.input_report)
        return self

    @property
    def _xp(self) -> Any:
        return np if is_concrete(self) else jnp

    @property
    def _ranked(self) -> Any:
        """v with nothing in place of what is undefined."""
        xp = self._xp
        returns = xp.asarray(self.returns)
        return xp.where(xp.isnan(returns), -xp.inf, returns)

    @property
    def _place(self) -> Any:
        return self._xp.argmax(self._ranked, axis=-1)

    def _at(self, values: Any, place: Any) -> Any:
        xp = self._xp
        return xp.take_along_axis(xp.asarray(values), place[..., None], axis=-1)[..., 0]

    @property
    def best(self) -> Any:
        """The size with the largest v, or the one that is `resolved`; 0 where `code` fails."""
        return self._xp.where(self.code > 0, 0, self._at(self.sizes, self._place))

    @property
    def runner_up(self) -> Any:
        """The size with the second largest v; the best where there is no other, 0 if it fails."""
        xp, ranked = self._xp, self._ranked
        others = xp.where(xp.arange(ranked.shape[-1]) == self._place[..., None], -xp.inf, ranked)
        second = xp.argmax(others, axis=-1)
        known = xp.max(others, axis=-1) > -xp.inf
        found = self._at(self.sizes, xp.where(known, second, self._place))
        return xp.where(self.code > 0, 0, found)

    @property
    def margin(self) -> Any:
        """v of the best size less that of the runner-up; inf where there is no other."""
        xp, ranked = self._xp, self._ranked
        others = xp.where(xp.arange(ranked.shape[-1]) == self._place[..., None], -xp.inf, ranked)
        return xp.max(ranked, axis=-1) - xp.max(others, axis=-1)

    @property
    def resolved(self) -> Any:
        """The first size whose groups cannot be told from points, T_k <= eps T_1; 0: none."""
        xp = self._xp
        flat = xp.asarray(self.critical)[..., :1] <= 0
        found = xp.isposinf(xp.asarray(self.returns))
        found = xp.concatenate([flat | found[..., :1], found[..., 1:]], axis=-1)
        first = self._at(self.sizes, xp.argmax(found, axis=-1))
        return xp.where(xp.any(found, axis=-1), first, 0)

    @property
    def clear(self) -> Any:
        """Whether the answer stands out of data without groups.

        v, v less its mean over uniform draws and v less its mean over normal ones agree on the
        best size, and the smaller excess there is at least 0.3 and by as much ahead of that of
        every other size (`rival`). Never without references.
        """
        return self._stands_out & (self.rival == 0)

    @property
    def _smaller(self) -> Any:
        """The smaller excess over the references, with nothing in place of what is undefined."""
        xp = self._xp
        excess = xp.asarray(self.excess)
        return xp.min(xp.where(xp.isnan(excess), -xp.inf, excess), axis=-2)

    @property
    def _stands_out(self) -> Any:
        xp = self._xp
        excess = xp.asarray(self.excess)
        ranked = xp.where(xp.isnan(excess), -xp.inf, excess)
        place = self._place
        agree = xp.all(xp.argmax(ranked, axis=-1) == place[..., None], axis=-1)
        return agree & (self._at(self._smaller, place) >= CLEAR_EXCESS) & (self.code == 0)

    @property
    def rival(self) -> Any:
        """The size whose smaller excess comes within 0.3 of that of the best; 0: none does.

        Two that stand out alike are mostly clusters, and clusters of these.
        """
        xp, smaller, place = self._xp, self._smaller, self._place
        is_best = xp.arange(smaller.shape[-1]) == place[..., None]
        others = xp.where(is_best, -xp.inf, smaller)
        second = xp.argmax(others, axis=-1)
        near = self._at(others, second) > self._at(smaller, place) - CLEAR_EXCESS
        return xp.where(near, self._at(self.sizes, second), 0)

    @property
    def negative(self) -> tuple[int, ...]:
        """Sizes with v < 0: the solution one smaller is a poor one, and v there is inflated.

        Solve these again with more starts before reporting.
        """
        sizes, returns = np.asarray(self.sizes), np.asarray(self.returns)
        return tuple(int(size) for size in sizes[returns < 0])

    def in_words(self) -> str:
        """The answer in one sentence."""
        if int(self.code):
            return "undefined; `raise_if_failed()` says why."
        if self.resolved:
            return f"{int(self.best)}: from there on no group can be told from a single point."
        if self.clear:
            return f"{int(self.best)}, clearly: it stands out of data without groups."
        if self._stands_out:
            return (
                f"{int(self.best)} at best, and not clearly: {int(self.rival)} stands out of data "
                "without groups nearly as much. There may be clusters of clusters."
            )
        if np.all(np.isnan(np.asarray(self.excess))):
            return (
                f"{int(self.best)}, ahead of {int(self.runner_up)} by {float(self.margin):.2f}; "
                "nothing without structure was compared, so there may be no groups at all."
            )
        return (
            f"{int(self.best)} at best, and not clearly: data without groups look much the same, "
            "so there may be none."
        )

    def __str__(self) -> str:
        if not is_concrete(self) or np.ndim(self.sizes) != 1:
            return repr(self)
        compared = not np.all(np.isnan(np.asarray(self.excess)))
        head = f"{'size':>5} {'T':>12} {'v':>8} {'culprit':>8}"
        head += f" {'- uniform':>10} {'- normal':>10}" if compared else ""
        lines = [f"Model order by {NAMES.get(self.kind, self.kind)}: {self.in_words()}", head]
        for i, size in enumerate(np.asarray(self.sizes)):
            culprit = int(self.culprit[i])
            line = f"{int(size):>5} {float(self.critical[i]):>12.5g} {_shown(self.returns[i]):>8}"
            line += f" {culprit if culprit >= 0 else '-':>8}"
            if compared:
                line += "".join(f" {_shown(row[i]):>10}" for row in np.asarray(self.excess))
            lines.append(line + ("  <- best" if int(size) == int(self.best) else ""))
        if self.negative:
            sizes = ", ".join(map(str, self.negative))
            lines.append(
                f"v < 0 at {sizes}: a poor solution one size smaller; solve with more starts."
            )
        return "\n".join(lines)


def _shown(value: Any) -> str:
    value = float(value)
    return "-" if math.isnan(value) else f"{value:.3f}"


def returns_of(critical: Float[Array, "*lanes n"]) -> Float[Array, "*lanes n"]:
    """v(k) = log T_{k-1} - log T_k; +inf at the first T_k <= eps T_1, NaN after it and at first."""
    critical = jnp.asarray(critical)
    none = critical <= jnp.finfo(critical.dtype).eps * critical[..., :1]
    before = jnp.concatenate([jnp.zeros_like(none[..., :1]), none[..., :-1]], axis=-1)
    logs = jnp.log(jnp.where(none, 1.0, critical))
    falls = jnp.where(none, jnp.inf, -jnp.diff(logs, axis=-1, prepend=logs[..., :1]))
    falls = jnp.where(before, jnp.nan, falls)
    return falls.at[..., 0].set(jnp.nan)


def model_order(
    kind: str,
    sizes: Any,
    critical: Any,
    *,
    culprit: Any = None,
    references: Any = None,
    checks: Sequence[Check] = (),
) -> ModelOrder:
    """The report of critical temperatures T_k of successive sizes.

    **Arguments:** `kind`, the name of the index; `sizes` (n,); `critical` (n,); `culprit` (n,), the
    groups that attain it; `references`, mean v over draws of the two null models, shape (2, n);
    `checks` of the input, for what is traced.
    """
    critical = jnp.asarray(critical)
    returns = returns_of(critical)
    if culprit is None:
        culprit = jnp.full(critical.shape, -1, jnp.int32)
    if references is None:
        excess = jnp.full((*critical.shape[:-1], 2, critical.shape[-1]), jnp.nan, critical.dtype)
    else:
        excess = returns[..., None, :] - jnp.asarray(references, critical.dtype)
    sizes = jnp.broadcast_to(jnp.asarray(sizes, jnp.int32), critical.shape)
    culprit = jnp.asarray(culprit, jnp.int32)
    return ModelOrder(sizes, critical, returns, culprit, excess, kind, report(checks))


def check_sizes(owner: str, sizes: Any) -> tuple[int, ...]:
    """Sizes 1, 2, 3, ... as ints, at least two of them; v compares neighbours.

    **Raises:** `ValueError`.
    """
    given = tuple(sizes)
    whole = all(isinstance(size, int | np.integer) for size in given)
    if not whole or given != tuple(range(1, len(given) + 1)) or len(given) < 2:
        raise ValueError(
            f"{owner}: `sizes` must be 1, 2, 3, ... without a gap and at least two, since v(k) "
            f"compares k with k - 1; got {list(given)!r:.80}."
        )
    return tuple(int(size) for size in given)


def check_partitions(
    owner: str, partitions: Any, sizes: Any, n: int
) -> tuple[tuple[int, ...], np.ndarray]:
    """Sizes, and labels 0 .. k-1 of each as an array (n_sizes, N).

    `partitions` is an array (n_sizes, N) or a mapping from sizes to labels of any kind.

    **Raises:** `ValueError` for labels of the wrong length, sizes with gaps, or a partition that
    has not as many groups as its size says.
    """
    if hasattr(partitions, "items"):
        table = {int(size): labels for size, labels in partitions.items()}
        if sizes is None:
            sizes = sorted(table)
        checked = check_sizes(owner, sizes)
        missing = [size for size in checked if size not in table]
        if missing:
            raise ValueError(f"{owner}: `partitions` must have size {missing[0]}; got none of it.")
        rows = [table[size] for size in checked]
    else:
        rows = list(partitions)
        checked = check_sizes(owner, range(1, len(rows) + 1) if sizes is None else sizes)
        if len(rows) != len(checked):
            raise ValueError(
                f"{owner}: `partitions` must have one row for each of {len(checked)} sizes; "
                f"got {len(rows)}."
            )
    labels = np.empty((len(checked), n), np.int32)
    for place, (size, row) in enumerate(zip(checked, rows, strict=True)):
        row = np.asarray(row)
        if row.shape != (n,):
            raise ValueError(
                f"{owner}: the partition of size {size} must have {n} labels, one an entity; "
                f"got shape {row.shape}."
            )
        names, labels[place] = np.unique(row, return_inverse=True)
        if len(names) != size:
            raise ValueError(
                f"{owner}: the partition of size {size} must have {size} groups without a gap; "
                f"got {len(names)}."
            )
    return checked, labels
