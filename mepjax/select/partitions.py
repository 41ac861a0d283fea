"""Clusterings of every size from 1 to a largest one, by one compiled program.

Slots that a size has no use for are parked out of reach, where nothing is told to join them; so all
sizes, and all data of one shape, share the program. Each size starts from the one before with the
most profitable cluster split, and from entities drawn at random; the inner loop solves, `Repair`
moves clusters to where they gain more, and the cheapest is kept.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..engine.problem import Growable, Problem
from ..engine.repair import Repair, repaired
from ..engine.slot_spectrum import SlotSpectrum
from ..solvers.fixed_point import FixedPoint
from ..solvers.loop import solve_stage

# Beta over the first transition: policies are hard but for ties.
_FIRM = 1e6
_MAX_STEPS = 500
_REPAIR = Repair(steps=5)


class _OfSize(Growable):
    """A clustering of which only some slots are used."""

    problem: Growable
    used: Bool[Array, " k"]

    @property
    def n_slots(self) -> int:
        return self.used.shape[0]

    def init(self, key: Any) -> Any:
        return self.problem.init(key)

    def free_energy(self, params: Any, beta: Any) -> Any:
        return self.problem.free_energy(params, beta)

    def update(self, params: Any, beta: Any) -> Any:
        return self.problem.update(params, beta)

    def residual(self, params: Any, beta: Any) -> Any:
        return self.problem.residual(params, beta)

    def metric(self, params: Any, beta: Any) -> Any:
        return self.problem.metric(params, beta)

    def policy(self, params: Any, beta: Any) -> Any:
        return self.problem.policy(params, beta)

    def terms(self, params: Any, beta: Any) -> Any:
        return self.problem.terms(params, beta)

    def harden(self, params: Any) -> Any:
        return self.problem.harden(params)

    def params_scale(self, params: Any) -> Any:
        return self.problem.params_scale(params)

    def slot_spectrum(self, params: Any, beta: Any) -> SlotSpectrum:
        found = self.problem.slot_spectrum(params, beta)
        return eqx.tree_at(
            lambda spectrum: (spectrum.gain, spectrum.removal),
            found,
            (
                jnp.where(self.used, found.gain, -jnp.inf),
                jnp.where(self.used, found.removal, jnp.inf),
            ),
        )


def partitions_of(
    problem: Problem, parked: Any, starts: int, key: Any
) -> tuple[Int[Array, "k n"], Float[Array, " k"]]:
    """Labels of the best clustering found of each size 1 .. k, and its cost.

    **Arguments:** `problem`, with k slots, the largest size, and `scatter`; `parked`, params (k, d)
    that no policy reaches; `starts`, random starts of each size beside the one that continues the
    size before.
    """
    whole: Any = problem
    beta = _FIRM * whole.beta_scale()
    slots = jnp.arange(parked.shape[0])

    def solved(used: Array, centres: Array, key: Any) -> tuple[Array, Array]:
        sized = _OfSize(whole, used)
        centres, _ = repaired(sized, centres, beta, FixedPoint(), _REPAIR, key)
        centres = solve_stage(
            sized,
            centres,
            beta,
            FixedPoint(),
            rtol=jnp.asarray(1e-6, centres.dtype),
            max_steps=jnp.asarray(_MAX_STEPS, jnp.int32),
        ).params
        return centres, whole.harden(centres).cost

    def next_size(before: Array, size: Array) -> tuple[Array, tuple[Array, Array]]:
        used = slots < size
        spectrum = whole.slot_spectrum(before, beta)
        split = jnp.argmax(jnp.where(slots < size - 1, spectrum.gain, -jnp.inf))
        first, second = spectrum.first[split], spectrum.second[split]
        continued = before.at[split].set(first).at[size - 1].set(second)
        continued = jnp.where(size == 1, before, continued)

        def scattered(key: Any) -> Array:
            return jnp.where(used[:, None], whole.scatter(key), parked)

        keys = jax.random.split(jax.random.fold_in(key, size), starts + 1)
        tries = jnp.concatenate([continued[None], jax.vmap(scattered)(keys[1:])])
        ends, costs = jax.lax.map(lambda args: solved(used, *args), (tries, keys))
        best = jnp.argmin(jnp.where(jnp.isnan(costs), jnp.inf, costs))
        labels = whole.harden(ends[best]).assignments
        return ends[best], (labels, costs[best])

    first = jnp.where((slots < 1)[:, None], whole.init(key), parked)
    _, (labels, costs) = jax.lax.scan(next_size, first, slots + 1)
    return labels, costs
