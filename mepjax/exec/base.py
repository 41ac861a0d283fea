"""What an executor does: sums over data, in pieces that suit a machine."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from .._core.blocks import block_map, block_rows, block_sum
from .._core.checks import check_count


class AbstractExecutor(eqx.Module):
    """Where sums over the data are computed, and in what pieces; a problem never sees which."""

    @property
    @abc.abstractmethod
    def in_blocks(self) -> bool:
        """Whether arrays of N x K are to be avoided wherever that is possible."""

    @property
    def rows(self) -> int | None:
        """Rows of a block; `None`: as many as stay in a cache."""
        return None

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes of a mesh along which the rows are divided; none on one device."""
        return ()

    def check(self, n: int) -> None:
        """Raise `ValueError` if `n` entities do not fit this executor."""
        del n

    def place(self, per_entity: Any, shared: Any) -> tuple[Any, Any]:
        """The arrays with one row for each entity, and the others, where they will be used."""
        return per_entity, shared

    def everywhere(self, per_entity: Any) -> Any:
        """Arrays with one row for each entity, whole on every device, for work across all rows."""
        return per_entity

    def sum(
        self,
        function: Callable[..., Any],
        args: Any,
        shares: Float[Array, " n"],
        *data: Any,
        columns: int,
    ) -> Any:
        """Sum of function(args, shares, *data) over the data, block by block, a pytree of arrays.

        - `function`: linear in the shares, and without tracers of its own: they go into `args`.
        - `data`: arrays with one row for each entity, or scalars.
        - `columns`: numbers that `function` holds for an entity.
        """

        def part(shares: Array, *data: Any) -> Any:
            return function(args, shares, *data)

        rows = self.rows or block_rows(columns)
        return block_sum(part, shares, *data, rows=rows, varying=self.axes)

    def map(self, function: Callable[..., Any], args: Any, *data: Any, columns: int) -> Any:
        """function(args, *data), a pytree of arrays with one row for each entity, in blocks."""
        rows = self.rows or block_rows(columns)
        part = lambda *data: function(args, *data)  # noqa: E731
        return block_map(part, *data, rows=rows, varying=self.axes)


class AbstractBlocks(AbstractExecutor):
    """An executor that holds no array of N x K whole, but one of `block` rows at a time."""

    block: int | None = eqx.field(static=True)

    def __init__(self, block: int | None = None) -> None:
        check_count(type(self).__name__, "block", block, optional=True)
        self.block = None if block is None else int(block)

    @property
    def in_blocks(self) -> bool:
        """True: no array of N x K is held whole."""
        return True

    @property
    def rows(self) -> int | None:
        """The `block` asked for; `None` leaves it to the cache."""
        return self.block
