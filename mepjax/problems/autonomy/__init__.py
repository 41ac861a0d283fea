"""Models of local autonomy p(k | j, i): entity i, prescribed cluster j, ends in cluster k.

`Uniform`, `Matrix`, `Grouped` and `Dense` do not depend on the centres; `Softmax`, `Pairwise` and
any `Function` do.
"""

from .base import AbstractAutonomy, NoAutonomy
from .fixed import Dense, Matrix, Uniform
from .function import Function
from .grouped import Grouped
from .pairwise import Pairwise
from .softmax import Softmax

__all__ = [
    "AbstractAutonomy",
    "Dense",
    "Function",
    "Grouped",
    "Matrix",
    "NoAutonomy",
    "Pairwise",
    "Softmax",
    "Uniform",
]
