"""The contract: what a problem declares, and what it gets for it."""

import abc
import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol, Self, TypeGuard

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._core import checks, trees
from .._core.codes import Code, as_code
from .._core.params import primal_of
from .._core.types import Scalar
from ..exec.base import AbstractExecutor
from ..solvers.armijo import Armijo
from ..solvers.base import AbstractSolver
from ..solvers.equation import FreeEnergy
from .slot_spectrum import SlotSpectrum

# Size of the noise of `Problem.kicked`, relative to the scale of params.
_KICK = 1e-4


def check_fields(owner: str, fields: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise `TypeError` for what `replace` is given and does not know."""
    for name in fields:
        if name not in known:
            raise TypeError(
                f"{owner}.replace: there is no `{name}`; expected one of "
                f"{', '.join(sorted(known))}."
            )


class Terms(eqx.Module):
    """F and its parts, F = distortion - entropy / beta + <prices, constraints>."""

    free_energy: Float[Array, ""]
    distortion: Float[Array, ""]
    entropy: Float[Array, ""]
    constraints: Any = None


class Hardened(Protocol):
    """Hard decisions: any type with the hard cost D."""

    @property
    def cost(self) -> Float[Array, ""]:
        """D at beta -> infinity."""
        ...


class Continuation(eqx.Module):
    """Easier problems with the same params: `relaxed(s)` for s from 0 to 1, where it is the last.

    An anneal solves `stages` of them, evenly spaced in s, at its first beta.
    """

    relaxed: Callable[[Float[Array, ""]], "Problem"]
    stages: int = eqx.field(static=True)


class Problem(FreeEnergy):
    """A free energy and its Gibbs policy: data plus pure functions.

    Array fields are the data, all differentiable and vmappable; static fields are sizes and
    choices. A subclass writes `init`, `free_energy`, `metric`, `policy`, `terms` and `harden`, and
    overrides what it can do better than the defaults. It contains no loop of its own: `anneal`,
    the detector and implicit gradients come with the contract. What only some problems need is in
    `Growable` (slots that split and move) and `Constrained` (variables that are eliminated).

    Static properties a subclass may override:

    - `variational`: the residual is the gradient of `free_energy` (so Hessians are symmetric and
        the envelope theorem holds).
    - `smooth`: F has second derivatives at its solutions; where it has none, `anneal` perturbs
        every stage at random, its code is NOT_DEFINED and solutions are constants for derivatives.
    - `convex_at_zero`: `init` is the unique minimiser as beta -> 0.
    - `n_slots`: how many places there are, where there are such.
    - `continuation`: easier problems that lead to this one before beta first rises.
    - `references`: what `mepjax.citation` prints.
    """

    @property
    def smooth(self) -> bool:
        """Whether F has second derivatives at its solutions."""
        return True

    @property
    def convex_at_zero(self) -> bool:
        """Whether `init` is the unique minimiser of F as beta -> 0."""
        return True

    @property
    def references(self) -> tuple[str, ...]:
        """Works this problem builds on, as keys of `mepjax.citation`."""
        return ("deterministic_annealing",)

    @abc.abstractmethod
    def init(self, key: Any) -> Any:
        """Params to start from: the minimiser of F as beta -> 0 where there is one."""

    @abc.abstractmethod
    def policy(self, params: Any, beta: Scalar) -> Float[Array, "..."]:
        """Log Gibbs policy: logsumexp over the last axis is 0, masked entries are -inf."""

    @abc.abstractmethod
    def terms(self, params: Any, beta: Scalar) -> Terms:
        """F, distortion D, entropy H and constraint residuals at the Gibbs policy, in one pass."""

    @abc.abstractmethod
    def harden(self, params: Any) -> Hardened:
        """Hard decisions and the hard cost D, the limit beta -> infinity."""

    def at(self, values: Any) -> Any:
        """Params with the primal given, and what is eliminated as in `init` (prices zero)."""
        return values

    @property
    def n_slots(self) -> int | None:
        """Number of interchangeable places (clusters, facilities); `None` if it has none."""
        return None

    @property
    def continuation(self) -> "Continuation | None":
        """Easier problems that lead to this one at the first beta; `None`: it needs none."""
        return None

    def beta_floor(self) -> Float[Array, ""]:
        """F is finite for every beta above this one; zero for most problems."""
        return jnp.zeros(())

    def beta_scale(self) -> Float[Array, ""]:
        """Reference beta for default schedules: the first transition, 1 if unknown."""
        return jnp.ones(())

    def rounding_betas(self, scale: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """From which beta on rounding decides, and what would separate beyond which is one place.

        Costs are taken to be exact to their own typical size, and places to that of the data.
        `scale` is `beta_scale()`.
        """
        eps = float(jnp.finfo(scale.dtype).eps)
        return scale / (2 * eps), scale / (16 * eps) ** 2

    def default_solver(self) -> AbstractSolver:
        """The solver that suits `update`."""
        return Armijo()

    # What `mepjax.solve` tries besides an anneal from `init`.

    @property
    def scatters(self) -> bool:
        """Whether `scatter` gives starts far apart, which are worth solving without an anneal."""
        return False

    def scatter(self, key: Any) -> Any:
        """Params to start from that differ with the key; default: `init`, kicked a little.

        A kick at a transition has one direction. Where others are unstable too, rounding would
        decide along them, and data that differ in the order of their rows would end relabelled or
        apart.
        """
        return self.kicked(key)

    def kicked(self, key: Any) -> Any:
        """`init`, its primal moved in all directions by a ten-thousandth of its scale."""
        start = self.init(key)
        primal, size = primal_of(start), primal_of(self.params_scale(start))
        noise = trees.normal_like(key, primal)
        return self.at(jax.tree.map(lambda y, s, z: y + _KICK * s * z, primal, size, noise))

    def other_ways(self) -> tuple[tuple[str, "Problem"], ...]:
        """Problems with the same params, by name, whose solutions are good starts for this one."""
        return ()

    def on(self, executor: AbstractExecutor) -> "Problem":
        """This problem with its sums over data computed by `executor`.

        **Raises:** `TypeError` if it is computed in memory only, `ValueError` if its data do not
        fit the executor.
        """
        if executor.in_blocks:
            raise TypeError(
                f"{type(self).__name__} is computed in memory only; `executor` must be "
                f"InMemory(), got {type(executor).__name__}."
            )
        return self

    def replace(self, **fields: Any) -> Self:
        """The same problem on other data, such as `problem.replace(weights=w)`; legal under `jit`.

        What construction measures (an origin, a spread, a default that depends on the data) is
        measured again, and concrete values are checked as there.

        **Arguments:** new values of fields of the problem, by name.

        **Raises:** `TypeError` for a name that is no field, and what construction raises.
        """
        known = {field.name for field in dataclasses.fields(self)}
        check_fields(type(self).__name__, fields, known)
        changed = trees.replaced(self, **fields)
        checks.enforce(changed.checks())
        return changed

    def checks(self) -> tuple[checks.Check, ...]:
        """Conditions on the data: they raise on concrete values and become codes on traced."""
        leaves = [leaf for leaf in jax.tree.leaves(self) if eqx.is_inexact_array(leaf)]
        return tuple(
            checks.check_finite(type(self).__name__, f"array {index}", leaf)
            for index, leaf in enumerate(leaves)
        )


class Growable(Problem):
    """A problem whose slots can start at one place, split, and be moved elsewhere.

    A subclass writes `n_slots` and `slot_spectrum`; params, or their primal, are then arrays with
    a leading axis of slots.
    """

    @property
    def exchangeable(self) -> bool:
        """Whether relabelling slots leaves F unchanged."""
        return True

    @property
    def tied_at_zero(self) -> bool:
        """Whether all slots are at one place as beta -> 0, where growth starts."""
        return self.convex_at_zero

    @property
    def has_slot_spectrum(self) -> bool:
        """Whether `slot_spectrum` is given here; without it there is no growth and no repair."""
        return True

    @abc.abstractmethod
    def slot_spectrum(self, params: Any, beta: Scalar) -> SlotSpectrum:
        """Per slot, where it splits, what that gains, and what removing it costs."""

    def subsample(self, key: Any, n: int) -> "Problem":
        """A problem on `n` of the data for early stages; default: all of them."""
        del key, n
        return self


class Constrained(Problem):
    """A problem some of whose variables are eliminated: the dual of its `Params`.

    F is stationary in them at the same primal, and `eliminate` solves for them.
    """

    @abc.abstractmethod
    def eliminate(self, params: Any, beta: Scalar) -> Any:
        """Params with what is eliminated solved for at the same primal."""

    def constraint_code(self, params: Any, beta: Scalar) -> Int[Array, ""]:
        """A code for what only the solution shows, such as INFEASIBLE; default: OK."""
        del params, beta
        return as_code(Code.OK)


def has_spectrum(problem: Problem) -> TypeGuard[Growable]:
    """Whether it tells where slots separate, which growth and greedy repair ask for."""
    return isinstance(problem, Growable) and problem.has_slot_spectrum
