"""Where facilities on paths split in two, what that saves, and what one of them is worth.

A facility in two is a problem of its own: the same nodes and paths, two facilities to place at one
place and all others standing. So a pair may be chained, one after the other on a path, as well as
share what comes by. Whatever the others are, F is unchanged when the two change places, so that
its Hessian keeps moves apart and moves together separate.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._core import paths, sampling, trees
from ..._core.params import primal_of
from ..._core.types import Scalar
from ...engine.slot_spectrum import SlotSpectrum
from ...exec.in_memory import InMemory
from ...exec.sources import Rows
from ...solvers import spectrum
from ...solvers.loop import solve_stage
from .legs import FreeLegs, is_squared
from .links import Links
from .network import Network
from .on_disk import sampled

if TYPE_CHECKING:
    from .problem import FacilityPath

# Steps of a trial of two, and how well it need be solved.
_TRIAL_STEPS, _TRIAL_RTOL = 10, 1e-3


def slot_spectrum(problem: "FacilityPath", params: Any, beta: Scalar) -> SlotSpectrum:
    """`Problem.slot_spectrum` of a `FacilityPath` without masks and capacities.

    Facilities at exactly one place are a group. Its critical beta is beta / (1 - mu), with mu the
    lowest curvature, relative to the metric, along moves of two of its members apart; for a
    facility that is alone, of it and a twin added at its place. So it is exact where it equals
    beta. Gains are those of a trial, shared among the members of a group: one eigenvector, ten
    steps of the pair alone.
    """
    params = jax.tree.map(jnp.asarray, params)
    y = primal_of(params)
    beta = jnp.asarray(beta, y.dtype)
    k, d = y.shape
    twins = _with_twin(problem, y)
    start = jax.random.normal(jax.random.key(0), (d,), y.dtype)
    mass = problem.usage(params, beta)[:k]
    alive = mass > float(jnp.finfo(y.dtype).tiny) ** 0.5

    def of_slot(slot: Int[Array, ""]) -> tuple[Array, ...]:
        others = (slot + 1 + jnp.arange(k - 1)) % k
        tied = jnp.all(y[others] == y[slot], axis=1)
        # A member of the group is the twin, so that F is the problem's own.
        partner = tied & (jnp.cumsum(tied) == 1)
        own = _among(problem, twins, y, others, ~partner)
        pair = jnp.broadcast_to(y[slot], (2, d))
        critical, apart = _separation(own, pair, beta, start)

        trial = _among(problem, twins, y, others, ~tied)
        result = solve_stage(
            trial,
            pair + apart,
            beta,
            trial.default_solver(),
            rtol=jnp.asarray(_TRIAL_RTOL, y.dtype),
            max_steps=jnp.asarray(_TRIAL_STEPS),
        )
        before = trial.free_energy(pair, beta)
        gain = before - trial.free_energy(result.params, beta)
        gained = gain > 8 * jnp.finfo(beta.dtype).eps * jnp.abs(before)
        # Two may hold together where the whole group does not: then they are left to fall apart.
        places = jnp.where(gained, result.params, pair + apart)
        one, other = trial.usage(places, beta)[:2]
        share = jnp.where(one + other > 0, one / jnp.where(one + other > 0, one + other, 1.0), 0.5)
        gain = jnp.where(gained, gain, 0.0) / (1 + jnp.sum(tied))
        return critical, gain, *places, share

    critical, gain, first, second, share = jax.lax.map(of_slot, jnp.arange(k))
    return SlotSpectrum(
        mass=mass,
        critical_beta=jnp.where(alive, critical, jnp.inf),
        gain=jnp.where(alive, gain, 0.0),
        removal=_removal_costs(problem, params),
        first=jnp.where(alive[:, None], first, y),
        second=jnp.where(alive[:, None], second, y),
        share=jnp.where(alive, share, 0.5),
    )


def _with_twin(problem: "FacilityPath", y: Float[Array, "k d"]) -> Any:
    """The problem with a facility more, of which all but two stand already: see `_among`."""
    standing = y[1:] if problem.fixed is None else jnp.concatenate([y[1:], problem.fixed])
    m, n = problem.total + 1, problem.nodes.shape[0]
    twins = type(problem)(
        problem.nodes, problem.destinations, 2, weights=problem.weights,
        fixed=standing if standing.shape[0] else None, n_stages=problem.n_stages,
        links=Links(
            entry=jnp.ones((n, m), bool),
            between=jnp.ones((m, m), bool),
            direct=problem.links.direct,
        ),
        max_hops=problem.max_hops, stage_costs=problem.stage_costs, direct=problem.direct,
        self_loops=problem.self_loops,
    )  # fmt: skip
    return trees.replaced(
        twins, origin=problem.origin, node_spread=problem.node_spread,
        destination_spread=problem.destination_spread,
    )  # fmt: skip


def _among(
    problem: "FacilityPath",
    twins: Any,
    y: Float[Array, "k d"],
    others: Int[Array, " k-1"],
    present: Bool[Array, " k-1"],
) -> Any:
    """Two facilities to place among those `others` that are present, and the fixed ones."""
    if twins.fixed is None:
        return twins
    standing = y[others] if problem.fixed is None else jnp.concatenate([y[others], problem.fixed])
    ever = jnp.ones((standing.shape[0] - others.shape[0],), bool)
    there = jnp.concatenate([jnp.ones((2,), bool), present, ever])
    entry, between = (
        jnp.broadcast_to(there, mask.shape) for mask in (twins.links.entry, twins.links.between)
    )
    links = trees.replaced(twins.links, entry=entry, between=between)
    return trees.replaced(twins, fixed=standing, links=links)


def _separation(
    problem: "FacilityPath",
    pair: Float[Array, "2 d"],
    beta: Float[Array, ""],
    start: Float[Array, " d"],
) -> tuple[Float[Array, ""], Float[Array, "2 d"]]:
    """Critical beta of a pair at one place, with the policy held, and how far apart to try it.

    The distance is that of the standard deviation of where what comes by would have them.
    """
    d = pair.shape[1]
    whole = spectrum.primal_pencil(problem, pair, beta)

    def apart_only(form: Callable[[Array], Array]) -> Callable[[Array], Array]:
        # Moves apart are mapped to moves apart, so the first half tells all.
        return lambda move: form(jnp.concatenate([move, -move]))[:d]

    pencil = spectrum.Pencil(
        apply=apart_only(whole.apply),
        metric=apart_only(whole.metric),
        solve_metric=apart_only(whole.solve_metric),
        diagonal=None,
        gauge=None,
        size=d,
        dtype=pair.dtype,
        symmetric=whole.symmetric,
    )
    found = spectrum.lowest(pencil, start, spectrum.SpectrumOptions())
    softening = 1 - found.value
    # Where all is at one place rounding alone is left.
    unstable = softening > 100 * float(jnp.finfo(softening.dtype).eps)
    critical = jnp.where(unstable, beta / jnp.where(unstable, softening, 1.0), jnp.inf)
    # The direction has unit length in the metric, so its length holds the stiffness.
    visits = jnp.sum(problem.usage(pair, beta)[:2])
    variance = visits / (2 * jnp.where(unstable, critical, 1.0))
    length = jnp.where(unstable, jnp.sqrt(variance), 0.0)
    return critical, length * jnp.stack([found.direction, -found.direction])


def _removal_costs(problem: "FacilityPath", params: Any) -> Float[Array, " k"]:
    """How much the hard cost rises without each of the facilities to place."""
    costs = problem.leg_costs(params)
    shares = problem.weights / jnp.sum(problem.weights)

    def hard(closed: Any) -> Array:
        open_costs = eqx.tree_at(
            lambda c: (c.first, c.links),
            costs,
            (jnp.where(closed, jnp.inf, costs.first), jnp.where(closed, jnp.inf, costs.links)),
        )
        found = paths.shortest(open_costs, problem.max_hops).costs
        return jnp.sum(jnp.where(shares > 0, shares * found, 0.0))

    numbers = jnp.arange(problem.total)
    without = jax.lax.map(lambda slot: hard(numbers == slot), numbers[: problem.n_facilities])
    return without - hard(jnp.zeros_like(numbers, bool))


def no_spectrum(network: Network) -> str | None:
    """Why facilities have no slot spectrum."""
    if network.capacities.given:
        return "capacities tell facilities apart"
    if not network.exchangeable:
        return "masks tell facilities apart"
    _, link, _ = network.legs
    if network.n_stages > 1 and not (isinstance(link, FreeLegs) or is_squared(link)):
        return "links that are neither squared distances nor free have a kink at one place"
    return None


def subsample(network: Any, key: Any, n: int) -> Any:
    """`n` nodes of equal weight, drawn in proportion to theirs; itself if it has no more."""
    count = network.nodes.shape[0]
    if isinstance(network.nodes, Rows):
        # Few enough of them are read whole.
        return sampled(network, key, n)
    if count <= n:
        return network
    rows = sampling.systematic(key, network.executor.everywhere(network.weights), n)

    def drawn(module: Any, *names: str) -> dict[str, Any]:
        return {
            name: jax.tree.map(lambda leaf: leaf[rows], getattr(module, name)) for name in names
        }

    return trees.replaced(
        network.on(InMemory()),
        **drawn(network, "nodes", "max_hops", "node_spread"),
        links=trees.replaced(network.links, **drawn(network.links, "entry", "direct")),
        weights=jnp.ones((n,), network.weights.dtype),
    )
