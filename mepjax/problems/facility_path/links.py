"""Which legs of a facility network are permitted, and how many."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ..._core import checks


class Links(eqx.Module):
    """Masks of permitted legs, True where one may travel; a mask left out permits all.

    **Arguments:** boolean, for N nodes, M facilities and L destinations:

    - `entry`: node to facility, shape (N, M).
    - `between`: facility to facility, shape (M, M), from row to column.
    - `exit`: facility to destination, shape (M, L).
    - `direct`: node straight to destination, shape (N, L); only for problems that permit it.

    Source: parameterized sequential decision making, equation (2.18).

    **Example:** facility 1 is the only way out, and nothing leads back from it.

    ```python
    >>> import numpy as np, mepjax as mj
    >>> links = mj.paths.Links(between=np.array([[0, 1], [0, 0]], bool),
    ...     exit=np.array([[False], [True]]))
    >>> x = np.array([[0.0], [1.0]], np.float32)
    >>> problem = mj.FacilityPath(x, np.float32([4.0]), 2, links=links)
    >>> print(problem.harden(np.float32([[1.0], [3.0]])).routes)
    [[0 1]
     [0 1]]

    ```
    """

    entry: Bool[Array, "n m"] | None
    between: Bool[Array, "m m"] | None
    exit: Bool[Array, "m l"] | None
    direct: Bool[Array, "n l"] | None

    def __init__(
        self, *, entry: Any = None, between: Any = None, exit: Any = None, direct: Any = None
    ) -> None:
        self.entry = _mask("entry", entry)
        self.between = _mask("between", between)
        self.exit = _mask("exit", exit)
        self.direct = _mask("direct", direct)

    def check_shapes(self, owner: str, n: int, m: int, ends: int, *, direct: bool) -> None:
        """Raise `ValueError` for a mask that does not fit, naming it."""
        for name, shape in (
            ("entry", (n, m)),
            ("between", (m, m)),
            ("exit", (m, ends)),
            ("direct", (n, ends)),
        ):
            mask = getattr(self, name)
            if mask is not None and mask.shape != shape:
                raise ValueError(
                    f"{owner}: `links.{name}` must have shape {shape} for {n} nodes, {m} "
                    f"facilities and {ends} destinations; got {mask.shape}."
                )
        if self.direct is not None and not direct:
            raise ValueError(
                f"{owner}: `links.direct` has a meaning only with `direct=True`; leave it out."
            )


def _mask(name: str, value: Any) -> Bool[Array, "..."] | None:
    if value is None:
        return None
    mask = value if isinstance(value, jax.Array) else np.asarray(value)
    if mask.dtype != bool:
        raise TypeError(
            f"Links: `{name}` must be boolean, True where a leg is permitted; "
            f"got dtype {mask.dtype}."
        )
    if isinstance(mask, jax.Array):
        return mask
    # Under an outer trace plain `jnp.asarray` would stage the constant and hide its values.
    with jax.ensure_compile_time_eval():
        return jax.numpy.asarray(mask)


def as_links(links: Any) -> Links:
    """Masks from themselves, or from the mask between facilities alone."""
    if links is None:
        return Links()
    return links if isinstance(links, Links) else Links(between=links)


def reachability(
    owner: str,
    links: Links,
    sizes: tuple[int, int, int],
    limits: Any,
    *,
    n_stages: int,
    direct: bool,
    self_loops: bool,
) -> checks.Check:
    """Check that every node has a permitted path to a destination within its hop limit."""
    n, m, ends = sizes
    concrete = checks.is_concrete(links, limits)
    xp: Any = np if concrete else jax.numpy

    def mask(name: str, *shape: int) -> Any:
        value = getattr(links, name)
        return xp.ones(shape, bool) if value is None else xp.asarray(value)

    between = mask("between", m, m)
    if not self_loops:
        between = between & ~xp.eye(m, dtype=bool)
    arrives = xp.any(mask("exit", m, ends), axis=1)
    within = [arrives]  # by the number of further facilities allowed
    for _ in range(n_stages - 1):
        within.append(arrives | xp.any(between & within[-1], axis=1))
    table = xp.stack([xp.zeros(m, bool), *within])
    allowed = table[xp.clip(xp.asarray(limits), 0, n_stages)]
    reaches = xp.any(mask("entry", n, m) & allowed, axis=1)
    if direct:
        reaches = reaches | xp.any(mask("direct", n, ends), axis=1)
    return checks.Check(
        xp.all(reaches),
        xp.argmin(reaches),
        f"{owner}: node {{got}} cannot reach a destination under `links` and `max_hops`; "
        "permit a leg, or leave the node out.",
    )


def as_hops(owner: str, max_hops: Any, n: int) -> Int[Array, " n"]:
    """The most facilities on the route of each of `n` nodes."""
    hops = max_hops if isinstance(max_hops, jax.Array) else np.asarray(max_hops)
    if not jnp.issubdtype(hops.dtype, jnp.integer) or hops.shape not in ((), (n,)):
        raise ValueError(
            f"{owner}: `max_hops` must be an int or {n} of them, one per node; got shape "
            f"{hops.shape} of dtype {hops.dtype}."
        )
    if checks.is_concrete(hops):
        with jax.ensure_compile_time_eval():
            return jnp.asarray(np.broadcast_to(np.asarray(hops), (n,)), jnp.int32)
    return jnp.broadcast_to(hops, (n,)).astype(jnp.int32)
