"""One row here buys a problem the whole contract suite in tests/contracts.

A kind of problem has a file of its own with its `ROWS`, and its line below.
"""

from . import averaged, clustering, markov, parametric_mdp, paths, scalable, sparse
from .row import Bad, Odd, Row, Symmetry

ROWS: list[Row] = [
    *clustering.ROWS,
    *paths.ROWS,
    *scalable.ROWS,
    *markov.ROWS,
    *parametric_mdp.ROWS,
    *sparse.ROWS,
    *averaged.ROWS,
]


def row_named(name: str) -> Row:
    """The row of this name."""
    return next(row for row in ROWS if row.name == name)


__all__ = ["ROWS", "Bad", "Odd", "Row", "Symmetry", "row_named"]
