"""Repair: move slots from where they save little to where they would save more."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import loops, trees
from .._core.checks import check_count
from .._core.params import primal_of
from ..solvers.base import AbstractSolver
from ..solvers.loop import solve_stage
from .branching.growth import moved
from .problem import Growable, Problem
from .slot_spectrum import SlotSpectrum, unseen_spectrum
from .slots import n_slots_of


class Repair(eqx.Module):
    """Take away the slot that is missed least, split the one that gains most, keep what is better.

    After each move a few steps are solved at the last beta, and the move is undone unless the free
    energy has fallen. For problems that have `slot_spectrum`, see `Growth`; elsewhere only the
    random swaps are done, half of them of the places of two slots where labels count.

    Where no such move is left, `swaps` random ones are tried as well (random swap, Fränti 2018): a
    slot drawn by lot goes to where a random entity is or, one time in eight, to where the problem
    starts, out of the way. They cost time and find what estimates of gains and costs do not show,
    above all with autonomy.

    **Arguments:**

    - `max_refusals`: moves in a row that may fail before it stops.
    - `steps`: steps of the solver by which a move is judged.
    - `rtol`: relative fall of the free energy that is worth a move.
    - `max_moves`: moves tried in all.
    - `swaps`: random swaps tried; default none.

    **Raises:** `TypeError` for what is no int where one is expected, `ValueError` for numbers out
    of range.

    **Example:** a centre that is not needed on the right goes to the left.

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> x = jnp.array([[-1.1], [-0.9], [0.8], [1.2], [9.0], [9.5]])
    >>> problem = mj.Clustering(x, 3)
    >>> stuck = jnp.array([[0.0], [9.0], [9.5]])
    >>> schedule, options = mj.Explicit([100.0]), {"key": jax.random.key(0), "init": stuck}
    >>> sol = mj.anneal(problem, schedule, repair=mj.Repair(), **options)
    >>> print(jnp.round(jnp.sort(sol.params[:, 0]), 3))
    [-1.    1.    9.25]

    ```
    """

    max_refusals: int = eqx.field(static=True, default=8)
    steps: int = eqx.field(static=True, default=5)
    rtol: float = eqx.field(static=True, default=1e-5)
    max_moves: int = eqx.field(static=True, default=1000)
    swaps: int = eqx.field(static=True, default=0)

    def __check_init__(self) -> None:
        for name in ("max_refusals", "steps", "max_moves", "swaps"):
            check_count("Repair", name, getattr(self, name), least=int(name != "swaps"))
        if not self.rtol >= 0:
            raise ValueError(f"Repair: `rtol` must be >= 0; got {self.rtol}.")


# A slot is worth moving only if what it gains is not far below what is lost.
_LEAST_RATIO = 0.5
# A trial this well solved needs no more of its steps.
_TRIAL_RTOL = 1e-4
# Share of random swaps that only take a slot out of the way.
_AWAY = 0.125


class Trial(NamedTuple):
    """Params after the steps of a move, F there, whether they are kept, and how many steps."""

    params: Any
    energy: Float[Array, ""]
    better: Bool[Array, ""]
    steps: Int[Array, ""]


def tried(
    problem: Problem,
    start: Any,
    before: Float[Array, ""],
    beta: Float[Array, ""],
    solver: AbstractSolver,
    repair: Repair,
    moves: Bool[Array, ""],
    key: Any,
) -> Trial:
    """A few steps from where a move led; where nothing `moves` none, to look at what there is."""
    result = solve_stage(
        problem,
        start,
        beta,
        solver,
        rtol=jnp.asarray(_TRIAL_RTOL, trees.dtype_of(start)),
        max_steps=jnp.where(moves, repair.steps, 0),
        key=key,
    )
    energy = problem.free_energy(result.params, beta)
    better = energy < before - repair.rtol * jnp.abs(before)
    return Trial(
        result.params, energy, jnp.where(moves, better, jnp.isfinite(energy)), result.steps
    )


class _Search(eqx.Module):
    params: Any
    energy: Float[Array, ""]
    spectrum: SlotSpectrum
    refused: Bool[Array, " slots"]
    refusals: Int[Array, ""]
    moves: Int[Array, ""]
    swaps: Int[Array, ""]
    steps: Int[Array, ""]
    seen: Bool[Array, ""]


def repaired(
    problem: Growable,
    params: Any,
    beta: Float[Array, ""],
    solver: AbstractSolver,
    repair: Repair,
    key: Any,
) -> tuple[Any, Int[Array, ""]]:
    """Params after repair at `beta`, and the solver's steps it took."""
    count = n_slots_of(params)
    numbers = jnp.arange(count)
    none = jnp.zeros((), jnp.int32)
    if count < 2:
        return params, none
    idle = problem.init(key)
    # No swap has this number.
    draws = jax.random.fold_in(key, np.uint32(2**32 - 1)) if solver.stochastic else key
    dtype = trees.dtype_of(params)

    def choose(search: _Search) -> tuple[Array, Array, Array]:
        """Which slot to split, which to take for it, and whether that may be worth it."""
        gain = jnp.where(search.refused, -jnp.inf, search.spectrum.gain)
        split = jnp.argmax(gain)
        removal = jnp.where(numbers == split, jnp.inf, search.spectrum.removal)
        taken = jnp.argmin(removal)
        worth = (gain[split] > 0) & (gain[split] >= _LEAST_RATIO * removal[taken])
        within = (search.refusals < repair.max_refusals) & (search.moves < repair.max_moves)
        return split, taken, worth & within

    def swapped(search: _Search) -> Any:
        """Slots, one of them elsewhere."""
        which, where, either = jax.random.split(jax.random.fold_in(key, search.swaps), 3)
        taken = jax.random.randint(which, (), 0, count)
        away = jax.random.bernoulli(either, _AWAY)
        # A problem of one entity starts where that is.
        there = trees.where(away, idle, problem.subsample(where, 1).init(where))

        def put(own: Array, place: Array) -> Array:
            return own.at[taken].set(place[0])

        return jax.tree.map(put, primal_of(search.params), primal_of(there))

    def moved_greedily(search: _Search) -> Any:
        split, taken, _ = choose(search)

        def put(own: Array, first: Array, second: Array) -> Array:
            return own.at[split].set(first[split]).at[taken].set(second[split])

        return jax.tree.map(
            put, primal_of(search.params), search.spectrum.first, search.spectrum.second
        )

    def proceed(search: _Search) -> Array:
        return ~search.seen | choose(search)[2] | (search.swaps < repair.swaps)

    def body(search: _Search) -> _Search:
        # The first round moves nothing: it looks, with the one spectrum that is compiled.
        split, _, greedy = choose(search)
        slots = moved_greedily(search)
        if repair.swaps:
            slots = trees.where(greedy, slots, swapped(search))
        slots = trees.where(search.seen, slots, primal_of(search.params))
        start = moved(problem, search.params, slots)
        trial = tried(
            problem, start, search.energy, beta, solver, repair, search.seen,
            solver.draw(draws, search.moves + search.swaps),
        )  # fmt: skip
        better = trial.better
        refused = search.refused.at[split].set(search.refused[split] | greedy)
        return _Search(
            params=trees.where(better, trial.params, search.params),
            energy=jnp.where(better, trial.energy, search.energy),
            spectrum=jax.lax.cond(
                better,
                lambda: problem.slot_spectrum(trial.params, beta),
                lambda: search.spectrum,
            ),
            refused=jnp.where(better, False, refused),
            refusals=jnp.where(better, 0, search.refusals + greedy).astype(jnp.int32),
            moves=search.moves + greedy,
            swaps=search.swaps + (search.seen & ~greedy),
            steps=search.steps + trial.steps,
            seen=jnp.asarray(True),
        )

    start = _Search(
        params=params,
        energy=jnp.full((), jnp.inf, dtype),
        spectrum=unseen_spectrum(primal_of(params), dtype),
        refused=jnp.zeros((count,), bool),
        refusals=none,
        moves=none,
        swaps=none,
        steps=none,
        seen=jnp.asarray(False),
    )
    end = loops.while_loop(proceed, body, start)
    return end.params, end.steps
