"""Random swaps where no spectrum tells which slot to move: elsewhere, or with another's place."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import loops, trees
from .._core.params import join_params, primal_of, split_params
from ..solvers.base import AbstractSolver
from .problem import Growable, Problem
from .repair import Repair, tried
from .slots import n_slots_of, take

# Share of swaps in which two slots change places; where labels do not count there are none.
_EXCHANGES = 0.5


class _Search(eqx.Module):
    params: Any
    energy: Float[Array, ""]
    swaps: Int[Array, ""]
    steps: Int[Array, ""]


def can_swap(problem: Problem, repair: Repair) -> bool:
    """Whether swaps are asked for, and a slot can be put where a random start has one."""
    return repair.swaps > 0 and problem.scatters and problem.n_slots is not None


def swapped(
    problem: Problem,
    params: Any,
    beta: Float[Array, ""],
    solver: AbstractSolver,
    repair: Repair,
    key: Any,
) -> tuple[Any, Int[Array, ""]]:
    """Params after the random swaps of `repair` at `beta`, and the solver's steps they took."""
    count = n_slots_of(params)
    none = jnp.zeros((), jnp.int32)
    if count < 2:
        return params, none
    # No swap has this number.
    draws = jax.random.fold_in(key, np.uint32(2**32 - 1)) if solver.stochastic else key
    labels_count = isinstance(problem, Growable) and not problem.exchangeable
    numbers = jnp.arange(count)

    def moved(search: _Search) -> Any:
        which, where, either, other = jax.random.split(jax.random.fold_in(key, search.swaps), 4)
        taken = jax.random.randint(which, (), 0, count)
        primal, dual = split_params(search.params)
        there = primal_of(problem.scatter(where))
        elsewhere = jax.tree.map(lambda own, new: own.at[taken].set(new[taken]), primal, there)
        if not labels_count:
            return join_params(elsewhere, dual)
        second = (taken + jax.random.randint(other, (), 1, count)) % count
        places = jnp.where(numbers == taken, second, jnp.where(numbers == second, taken, numbers))
        turned = primal_of(take(search.params, places))
        either = jax.random.bernoulli(either, _EXCHANGES)
        return join_params(trees.where(either, turned, elsewhere), dual)

    def body(search: _Search) -> _Search:
        # The first round moves nothing: it is what the others are compared with.
        moves = search.swaps > 0
        start = trees.where(moves, moved(search), search.params)
        key = solver.draw(draws, search.swaps)
        trial = tried(problem, start, search.energy, beta, solver, repair, moves, key)
        better = trial.better
        return _Search(
            params=trees.where(better, trial.params, search.params),
            energy=jnp.where(better, trial.energy, search.energy),
            swaps=search.swaps + 1,
            steps=search.steps + trial.steps,
        )

    start = _Search(params, jnp.full((), jnp.inf, trees.dtype_of(params)), none, none)
    end = loops.while_loop(lambda search: search.swaps <= repair.swaps, body, start)
    return end.params, end.steps
