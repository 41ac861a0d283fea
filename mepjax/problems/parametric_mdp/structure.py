"""Which states form the system of equations, and a policy that ends: found on the host."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ..._core import checks
from ...mdp.kernels.base import AbstractKernel, Part
from ...mdp.kernels.functional import Functional
from ...mdp.reach import entered, proper_policy

_OWNER = "ParametricMDP"


class Structure(eqx.Module):
    """Where the values of some states depend on each other.

    **Fields:** `inner`, the states that are entered and do not end: only their values form a system
    of equations; `among` and `onward`, the parts of the kernel among these, and from all states to
    these, `None` where nothing is known and `inner` are all; `proper`, a policy that ends, where
    there is need of one.
    """

    inner: Int[Array, " i"]
    among: Part | None
    onward: Part | None
    proper: Int[Array, " s"] | None


def find_structure(
    kernel: AbstractKernel, terminal: Any, permitted: Any, discount: Any, prior: Any
) -> Structure:
    """What is entered, and a policy that ends, where transitions are concrete.

    **Raises:** `ValueError` naming a state from which nothing, or not the prior, ends, at a
    discount of 1.
    """
    n = kernel.n_states
    if isinstance(kernel, Functional) or not checks.is_concrete(kernel, terminal, permitted):
        return Structure(jnp.arange(n, dtype=jnp.int32), None, None, None)
    ends = np.asarray(terminal)
    allowed = None if permitted is None else np.asarray(permitted)
    inner = np.flatnonzero(entered(kernel, allowed) & ~ends)
    parts = kernel.part(inner, inner), kernel.part(np.arange(n), inner)
    found = Structure(jnp.asarray(inner, jnp.int32), *parts, None)
    known = checks.is_concrete(discount)
    if known and float(discount) < 1:
        return found
    way = proper_policy(kernel, ends, allowed)
    if not way.good.all():
        if not known:
            return found
        raise ValueError(
            f"{_OWNER}: at `discount` 1 some policy must end with probability one from every "
            f"state; state {int(np.argmin(way.good))} cannot reach a terminal state."
        )
    if known and prior is not None and checks.is_concrete(prior):
        possible = np.asarray(prior) > 0
        by_prior = proper_policy(kernel, ends, possible if allowed is None else possible & allowed)
        if not by_prior.good.all():
            raise ValueError(
                f"{_OWNER}: at `discount` 1 the `prior` must end from every state; from state "
                f"{int(np.argmin(by_prior.good))} it never reaches a terminal state."
            )
    return Structure(found.inner, *parts, jnp.asarray(way.policy))
