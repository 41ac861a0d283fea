"""The contract: what a problem declares, and what it gets for it."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import checks, trees
from .._core.codes import Code, as_code
from .._core.params import join_params, primal_of, split_params
from .._core.types import Scalar
from ..exec.base import AbstractExecutor
from ..solvers.armijo import Armijo
from ..solvers.base import AbstractSolver
from ..solvers.equation import FreeEnergy
from .slot_spectrum import SlotSpectrum

# Size of the noise of `Problem.kicked`, relative to the scale of params.
_KICK = 1e-4


class Terms(eqx.Module):
    """The parts of the free energy, F = distortion - entropy / beta + <prices, constraints>."""

    distortion: Float[Array, ""]
    entropy: Float[Array, ""]
    constraints: Any = None


class Problem(FreeEnergy):
    """A free energy and its Gibbs policy: data plus pure functions.

    Array fields are the data, all differentiable and vmappable; static fields are sizes and
    choices. A subclass writes `init`, `free_energy`, `metric`, `policy`, `terms` and `harden`, and
    overrides what it can do better than the defaults. It contains no loop of its own: `anneal`,
    the detector and implicit gradients come with the contract.

    Static properties a subclass may override:

    - `variational`: the residual is the gradient of `free_energy` (so Hessians are symmetric and
        the envelope theorem holds).
    - `smooth`: F has second derivatives at its solutions; where it has none, `anneal` perturbs
        every stage at random, its code is NOT_DEFINED and solutions are constants for derivatives.
    - `convex_at_zero`: `init` is the unique minimiser as beta -> 0.
    - `tied_at_zero`: all slots are at one place as beta -> 0; default `convex_at_zero`.
    - `exchangeable`: relabelling slots changes nothing.
    - `relaxation_stages`: stages of the continuation `relaxed` before beta first rises.
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
    def tied_at_zero(self) -> bool:
        """Whether all slots are at one place as beta -> 0, where growth starts."""
        return self.convex_at_zero

    @property
    def exchangeable(self) -> bool:
        """Whether relabelling slots leaves F unchanged."""
        return True

    @property
    def relaxation_stages(self) -> int:
        """Number of stages of the continuation `relaxed` at the first beta (0: none)."""
        return 0

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
        """Distortion D, entropy H and constraint residuals at the Gibbs policy."""

    # What the engine asks for together; override where one pass over the data gives both.

    def free_energy_and_terms(self, params: Any, beta: Scalar) -> tuple[Float[Array, ""], Terms]:
        """`free_energy` and `terms`."""
        return self.free_energy(params, beta), self.terms(params, beta)

    @abc.abstractmethod
    def harden(self, params: Any) -> Any:
        """Hard decisions and the hard cost D, the limit beta -> infinity."""

    def at(self, values: Any) -> Any:
        """Params with the primal given, and what is eliminated as in `init` (prices zero)."""
        return values

    def constraint_code(self, params: Any, beta: Scalar) -> Any:
        """A code for what only the solution shows, such as INFEASIBLE; default: OK."""
        del params, beta
        return as_code(Code.OK)

    def beta_scale(self) -> Float[Array, ""]:
        """Reference beta for default schedules: the first transition, 1 if unknown."""
        return jnp.ones(())

    def default_solver(self) -> AbstractSolver:
        """The solver that suits `update`."""
        return Armijo()

    def relaxed(self, s: Float[Array, ""]) -> "Problem":
        """The easier problem of a continuation; s = 1 is the problem itself."""
        del s
        return self

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

    def checks(self) -> tuple[checks.Check, ...]:
        """Conditions on the data: they raise on concrete values and become codes on traced."""
        leaves = [leaf for leaf in jax.tree.leaves(self) if eqx.is_inexact_array(leaf)]
        return tuple(
            checks.check_finite(type(self).__name__, f"array {index}", leaf)
            for index, leaf in enumerate(leaves)
        )

    # Growth hooks: with these defaults the number of slots is fixed.

    def slots(self, params: Any) -> Any:
        """Values with a leading slot axis (one entry per cluster or facility)."""
        return primal_of(params)

    def take(self, params: Any, parent: Any) -> Any:
        """Params whose slot s has the values of slot parent[s], at the same prices."""
        primal, dual = split_params(params)
        return join_params(jax.tree.map(lambda leaf: leaf[parent], primal), dual)

    @property
    def has_slot_spectrum(self) -> bool:
        """Whether `slot_spectrum` is given; without it there is no growth and no repair."""
        return False

    def slot_spectrum(self, params: Any, beta: Scalar) -> SlotSpectrum:
        """Per slot, where it splits, what that gains, and what removing it costs."""
        raise NotImplementedError(f"{type(self).__name__} has no `slot_spectrum`.")

    def subsample(self, key: Any, n: int) -> "Problem":
        """A problem on `n` of the data for early stages; default: all of them."""
        del key, n
        return self
