"""The methods of problems, each as one program.

An eager call compiles its operations one by one, some hundred for a free energy of paths:

    from ...jitted import jitted
    jitted.free_energy(problem, params, beta)  # problem.free_energy(params, beta)
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np


def _array(leaf: Any) -> Any:
    """A float would be a constant of the program, compiled again for each."""
    return np.asarray(leaf) if isinstance(leaf, float) else leaf


@functools.cache
def _method(name: str) -> Callable[..., Any]:
    call = eqx.filter_jit(lambda problem, *args: getattr(problem, name)(*args))
    return lambda problem, *args: call(problem, *jax.tree.map(_array, args))


class _Jitted:
    def __getattr__(self, name: str) -> Callable[..., Any]:
        return _method(name)


jitted = _Jitted()
