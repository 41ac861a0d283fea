"""Input checks that raise at once on concrete values and become result codes on traced ones."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .codes import Code
from .types import Tracer


def is_concrete(*values: Any) -> bool:
    """Whether Python may look at the numbers: no leaf is a tracer or held by other processes."""
    leaves = jax.tree.leaves(values)
    return not any(isinstance(leaf, Tracer) or is_elsewhere(leaf) for leaf in leaves)


def is_traced(*values: Any) -> bool:
    """Whether a leaf is a tracer."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def is_elsewhere(leaf: Any) -> bool:
    """Whether it is an array of which other processes hold parts that this one does not."""
    if not isinstance(leaf, jax.Array) or isinstance(leaf, Tracer):
        return False
    return not (leaf.is_fully_addressable or leaf.is_fully_replicated)


def on_host(value: Any) -> tuple[Any, Any]:
    """(namespace, array): NumPy for a concrete array, so nothing is compiled, else `jax.numpy`."""
    if is_concrete(value):
        return np, np.asarray(value)
    return jnp, value


class Check(eqx.Module):
    """One condition on the input: whether it holds, the offending value, and the sentence to say.

    `sentence` contains `{got}`, filled in with the offending value on the host.
    """

    ok: Any
    got: Any
    sentence: str = eqx.field(static=True)
    code: Code = eqx.field(static=True, default=Code.INVALID_INPUT)

    def message(self, got: float) -> str:
        """The full sentence for an offending value."""
        return self.sentence.format(got=f"{got:.7g}")


def check_finite(owner: str, name: str, value: Any) -> Check:
    """Check that an array has no NaN or Inf entry."""
    xp, value = on_host(value)
    bad = value.size - xp.sum(xp.isfinite(value))
    return Check(
        bad == 0,
        bad,
        f"{owner}: `{name}` must be finite; got {{got}} NaN or Inf entries.",
        Code.NON_FINITE_INPUT,
    )


def check_range(
    owner: str,
    name: str,
    value: Any,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    open_low: bool = False,
) -> Check:
    """Check that every entry lies in [low, high] (or (low, high] with `open_low`)."""
    xp, value = on_host(value)
    # No pass over the array for a side on which there is no bound.
    smallest = xp.min(value) if np.isfinite(low) or np.isinf(high) else low
    largest = xp.max(value) if np.isfinite(high) else smallest
    inside_low = smallest > low if open_low else smallest >= low
    # NaN compares false, so it fails and is shown as NaN.
    inside = inside_low & (largest <= high)
    worst = xp.where(inside_low, largest, smallest)
    if np.isinf(high):
        expected = f"{'>' if open_low else '>='} {low:g}"
    elif np.isinf(low):
        expected = f"<= {high:g}"
    else:
        expected = f"in {'(' if open_low else '['}{low:g}, {high:g}]"
    return Check(inside, worst, f"{owner}: `{name}` must be {expected}; got {{got}}.")


def check_weighted_points(owner: str, x: Any, weights: Any) -> tuple[Check, ...]:
    """Check points and weights: finite, no weight negative, not all of them zero."""
    xp, on = on_host(weights)
    total = xp.sum(on)
    return (
        check_finite(owner, "x", x),
        check_finite(owner, "weights", weights),
        check_range(owner, "weights", weights, low=0.0),
        Check(total > 0, total, f"{owner}: `weights` must not all be zero; their sum is {{got}}."),
    )


def square_range(dtype: Any) -> tuple[float, float]:
    """(low, high): largest coordinates in between have sums of squares that `dtype` can hold."""
    limits = jnp.finfo(dtype)
    return 1e3 * float(limits.tiny) ** 0.5, 1e-2 * float(limits.max) ** 0.5


def check_squares(owner: str, name: str, points: Any) -> Check:
    """Check that squares of the points' differences are numbers, and not all zero of rounding."""
    xp, values = on_host(points)
    with np.errstate(over="ignore", invalid="ignore"):
        extent = xp.max(xp.abs(values - values[:1]))
    low, high = square_range(values.dtype)
    return Check(
        (extent == 0) | ((extent > low) & (extent < high)),
        extent,
        f"{owner}: `{name}` must have differences between {low:.3g} and {high:.3g}, whose squares "
        f"{values.dtype} can hold; got {{got}} at most. Scale them.",
    )


def check_rows_sum_to_one(owner: str, name: str, value: Any) -> Check:
    """Check that the last axis of a stochastic array sums to one, to the precision of its dtype."""
    xp, value = on_host(value)
    return _sums_are_one(owner, name, xp, xp.sum(value, axis=-1))


def _sums_are_one(owner: str, name: str, xp: Any, sums: Any) -> Check:
    smallest, largest = xp.min(sums), xp.max(sums)
    worst = xp.where(1 - smallest > largest - 1, smallest, largest)
    tolerance = 1e-5 if sums.dtype == jnp.float32 else 1e-8
    # NaN compares false, so it fails here too.
    return Check(
        (1 - smallest <= tolerance) & (largest - 1 <= tolerance),
        worst,
        f"{owner}: rows of `{name}` must sum to one; got a row that sums to {{got}}.",
    )


def check_stochastic(owner: str, name: str, value: Any) -> tuple[Check, ...]:
    """Check an array that may be large: finite entries >= 0 whose rows sum to one.

    In two passes, one for the sums, which show what is not finite, and one for the sign. Counting
    entries that are not finite takes longer than sums do, and is done only where there are any.
    """
    xp, p = on_host(value)
    ones = xp.ones(p.shape[-1], p.dtype)
    with np.errstate(invalid="ignore"):
        sums = p @ ones if xp is np else jnp.matmul(p, ones, precision="highest")
    finite = xp.all(xp.isfinite(sums))

    def counted() -> Any:
        return (p.size - xp.sum(xp.isfinite(p))).astype(p.dtype)

    none = xp.zeros((), p.dtype)
    if xp is np:
        bad = none if finite else counted()
    else:
        bad = jax.lax.cond(finite, lambda: none, counted)
    sentence = f"{owner}: `{name}` must be finite; got {{got}} NaN or Inf entries."
    return (
        Check(finite, bad, sentence, Code.NON_FINITE_INPUT),
        check_range(owner, name, p, low=0.0),
        _sums_are_one(owner, name, xp, sums),
    )


def check_weights(owner: str, name: str, weights: Any) -> tuple[Check, ...]:
    """Finite weights >= 0 whose sum, by which they are divided, is a normal number."""
    xp, values = on_host(weights)
    with np.errstate(over="ignore"):
        total = xp.sum(values)
    smallest = jnp.finfo(values.dtype).tiny
    return (
        check_finite(owner, name, weights),
        check_range(owner, name, weights, low=0.0),
        Check(total > 0, total, f"{owner}: `{name}` must not all be zero; their sum is {{got}}."),
        Check(
            (total >= smallest) & xp.isfinite(total),
            total,
            f"{owner}: `{name}` must have a sum that {values.dtype} can hold, at least "
            f"{float(smallest):.3g}; got {{got}}. Scale them, which changes nothing else.",
        ),
    )


def check_function(owner: str, name: str, function: Any, signature: str) -> None:
    """Raise `TypeError` unless `function` is callable and free of captured traced values."""
    if not callable(function):
        raise TypeError(f"{owner}: `{name}` must be callable; got {type(function).__name__}.")
    for cell in getattr(function, "__closure__", None) or ():
        if not is_concrete(cell.cell_contents):
            raise TypeError(
                f"{owner}: `{name}` captures a traced value in its closure, through which no "
                "gradient would flow. Make it an equinox.Module that holds the value as a "
                f"field and has a `__call__{signature}`."
            )


def check_scalar_function(
    owner: str, name: str, function: Callable[..., Any], arguments: str, *sizes: int
) -> None:
    """Raise `ValueError` unless `function` maps vectors of these sizes to one real number."""
    vectors = [jax.ShapeDtypeStruct((size,), jnp.result_type(float)) for size in sizes]
    got = eqx.filter_eval_shape(function, *vectors)
    if not isinstance(got, jax.ShapeDtypeStruct) or got.shape != ():
        what = f"shape {got.shape}" if isinstance(got, jax.ShapeDtypeStruct) else f"{got!r:.60}"
        raise ValueError(
            f"{owner}: `{name}` must return a scalar for {arguments} of {sizes[0]} features; "
            f"got {what}."
        )
    if not jnp.issubdtype(got.dtype, jnp.floating):
        raise ValueError(
            f"{owner}: `{name}` must return a real floating number; got dtype {got.dtype}."
        )


def enforce(checks: Sequence[Check]) -> None:
    """Raise `ValueError` for the first failed check whose values are concrete."""
    for check in checks:
        if is_concrete(check.ok, check.got) and not bool(check.ok):
            raise ValueError(check.message(float(check.got)))


class InputReport(eqx.Module):
    """The first failed check of a traced call, for the host to say the same sentence."""

    index: Int[Array | np.ndarray, "..."]
    got: Float[Array | np.ndarray, "..."]
    sentences: tuple[str, ...] = eqx.field(static=True)
    codes: tuple[int, ...] = eqx.field(static=True)

    @property
    def code(self) -> Int[Array, "..."]:
        """The code of the failed check, `OK` if none failed."""
        table = jnp.asarray((*self.codes, int(Code.OK)), jnp.int32)
        return table[self.index]

    def message(self, index: int, got: float) -> str:
        """The sentence a concrete call would have raised."""
        return self.sentences[index].format(got=f"{got:.7g}")


def report(checks: Sequence[Check]) -> InputReport:
    """Find the first failed check; `index` is their number when all hold.

    Checks of concrete values are evaluated here and now, so that nothing is compiled for them.
    """
    count = len(checks)
    if is_concrete(*((check.ok, check.got) for check in checks)):
        first = next((i for i, check in enumerate(checks) if not bool(check.ok)), count)
        got = float(checks[first].got) if first < count else 0.0
        return _input_report(
            checks, np.asarray(first, np.int32), np.asarray(got, jnp.result_type(float))
        )
    failed = jnp.stack([~jnp.asarray(check.ok) for check in checks])
    got = jnp.stack([jnp.asarray(check.got, float) for check in checks])
    first = jnp.argmax(failed)
    index = jnp.where(jnp.any(failed), first, count).astype(jnp.int32)
    return _input_report(checks, index, got[first])


def _input_report(checks: Sequence[Check], index: Any, got: Any) -> InputReport:
    return InputReport(
        index=index,
        got=got,
        sentences=tuple(check.sentence for check in checks),
        codes=tuple(int(check.code) for check in checks),
    )


def is_count(value: Any) -> bool:
    """Whether it is an int of Python or NumPy and no bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_count(
    owner: str, name: str, value: Any, *, least: int = 1, optional: bool = False
) -> None:
    """Raise unless `value` is an int of at least `least`, or `None` if `optional`."""
    if optional and value is None:
        return
    allowed = " or None" if optional else ""
    if not is_count(value):
        raise TypeError(
            f"{owner}: `{name}` must be an int{allowed}; got {type(value).__name__} {value!r}."
        )
    if value < least:
        raise ValueError(f"{owner}: `{name}` must be at least {least}{allowed}; got {value}.")
