"""Which states form the system of equations, and a policy that ends: found on the host."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ..._core import checks, trees
from ...mdp.end_components import EndComponents, find_end_components, listed
from ...mdp.kernels.base import AbstractKernel, Part
from ...mdp.kernels.deterministic import Deterministic
from ...mdp.model import refuse_earning_cycles
from ...mdp.reach import entered, proper_policy

if TYPE_CHECKING:
    from .process import Process

_OWNER = "ParametricMDP"


class Structure(eqx.Module):
    """Where the values of some states depend on each other.

    **Fields:** `inner`, the states that are entered and do not end: only their values form a system
    of equations; `among` and `onward`, the parts of the kernel among these, and from all states to
    these, `None` where nothing is known and `inner` are all; `proper`, a policy that ends, where
    there is need of one; `endless`, where one can stay for ever, if entropy is counted and there
    may be no discount.
    """

    inner: Int[Array, " i"]
    among: Part | None
    onward: Part | None
    proper: Int[Array, " s"] | None
    endless: EndComponents | None = None
    # Whether it is known where one can stay for ever, as far as that matters.
    known: bool = eqx.field(static=True, default=True)


def find_structure(
    kernel: AbstractKernel, terminal: Any, permitted: Any, discount: Any, prior: Any, *,
    counted: bool, endless: bool = True,
) -> Structure:  # fmt: skip
    """What is entered, and a policy that ends, where transitions are concrete.

    Within a horizon (not `endless`) all ends, and there is no system.

    **Raises:** `ValueError` naming a state from which nothing, or not the prior, ends, at a
    discount of 1.
    """
    every = jnp.arange(kernel.n_states, dtype=jnp.int32)
    stays = counted and not (checks.is_concrete(discount) and float(discount) < 1)
    if not endless:
        return Structure(every, None, None, None)
    if not listed(kernel, terminal, permitted):
        return Structure(every, None, None, None, known=not stays)
    with jax.ensure_compile_time_eval():
        found = _find(kernel, terminal, permitted, discount, prior)
    if not stays:
        return found
    return trees.replaced(found, endless=find_end_components(kernel, terminal, permitted))


def _find(
    kernel: AbstractKernel, terminal: Any, permitted: Any, discount: Any, prior: Any
) -> Structure:
    n = kernel.n_states
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


def refuse_earning_extra(problem: "Process") -> None:
    """Raise `ValueError` where extra costs make a cycle earn without discount.

    For squared distance and a deterministic kernel, if all is concrete. Steps from and to unknown
    places may cost nothing.
    """
    kernel, extra, step = problem.kernel, problem.extra_costs, problem.step
    if problem.horizon is not None:
        return
    if extra is None or not step.squared or not isinstance(kernel, Deterministic):
        return
    states, index = problem.unknowns.states, problem.unknowns.state_index
    if not checks.is_concrete(kernel, extra, states, index, problem.discount):
        return
    with jax.ensure_compile_time_eval():
        if not step.towards_action:
            known = np.ones(kernel.n_states, bool)
            if index is not None:
                known[np.asarray(index)] = False
            after, places = np.asarray(kernel.next), np.asarray(states)
            length = np.sum((places[:, None] - places[after]) ** 2, axis=-1)
            extra = np.asarray(extra) + np.where(known[:, None] & known[after], length, 0.0)
        refuse_earning_cycles(
            _OWNER, "extra_costs", kernel, extra, problem.discount, problem.terminal,
            problem.permitted,
        )  # fmt: skip
