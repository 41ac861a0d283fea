"""Facility location with path optimisation: masks, fixed facilities, costs and capacities."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax import Code

from ..oracles import paths_numpy as oracle
from .points import CROWDED, ONE, K, points_row, rho_of, shares

# Destinations as shares of the nodes' bounding box, so that they move and scale along.
ONE_END = [[1.6, 1.3]]
TWO_ENDS = [[1.6, 1.3], [-0.5, 1.2]]
PLACES = {
    name: (lambda q, name=name: getattr(q, name)) for name in ("nodes", "destinations", "weights")
}


class SoftPower(eqx.Module):
    """A user's own leg cost with a parameter: distance to the power 3/2, rounded near zero."""

    softness: Any

    def __init__(self, dtype: Any) -> None:
        self.softness = jnp.asarray(0.3, dtype)

    def __call__(self, start: jax.Array, end: jax.Array) -> jax.Array:
        return (jnp.sum((start - end) ** 2) + self.softness**2) ** 0.75


def inside(x: np.ndarray, shares: Any) -> np.ndarray:
    """Places given as shares of the bounding box of x."""
    low, high = x.min(axis=0), x.max(axis=0)
    return low + np.asarray(shares) * (high - low)


def walks(m: int, *, self_loops: bool = False, direct: bool = False, ends: int = 1) -> float:
    """Log of the number of paths through at most m facilities."""
    onward = m if self_loops else m - 1
    return float(np.log(ends * (sum(m * onward**q for q in range(m)) + direct)))


def network(x: np.ndarray, k: int) -> dict[str, Any]:
    """Masks on every kind of leg and hop limits, which follow the nodes when these are permuted.

    Facility 0 has no way out to a destination and none to the last one.
    """
    n = len(x)
    entry, between, exit_ = np.ones((n, k), bool), np.ones((k, k), bool), np.ones((k, 2), bool)
    if k > 2:
        entry[x[:, 0] > x[:, 0].mean(), -1] = False
        between[0, -1] = False
        exit_[0] = exit_[1, 1] = False
    hops = np.where(x[:, 1] > x[:, 1].mean(), min(2, k), k)
    return {"links": mj.paths.Links(entry=entry, between=between, exit=exit_), "max_hops": hops}


def equal_entries(k: int, dtype: Any) -> dict[str, Any]:
    return {"entry_capacity": mj.Equal(shares(k, dtype))}


def bounded_visits(k: int, dtype: Any) -> dict[str, Any]:
    """Tight for the facilities that would be used most."""
    return {"facility_capacity": jnp.full((k,), 1.2 if k < 3 else 0.45, dtype)}


def all_bounded(k: int, dtype: Any) -> dict[str, Any]:
    links = np.full((k, k), 0.15)
    return {
        "entry_capacity": jnp.asarray(np.full(k, 1.0 if k < 3 else 0.5), dtype),
        "facility_capacity": jnp.asarray(np.full(k, 2.0 if k < 3 else 0.6), dtype),
        "link_capacity": jnp.asarray(links, dtype),
    }


def facility_path(
    *, ends: Any = ONE_END, masked: bool = False, fixed: Any = None, stage_costs: Any = None,
    capacities: Any = None, **options: Any,
) -> Callable[..., mj.Problem]:  # fmt: skip
    def build(x: Any, weights: Any, *, dtype: Any = np.float64, k: int = K) -> Any:
        x = np.asarray(x, dtype)
        more = network(x, k) if masked else {}
        if fixed is not None:
            more["fixed"] = jnp.asarray(inside(x, fixed), dtype)
        if stage_costs is not None:
            more["stage_costs"] = stage_costs(dtype)
        if capacities is not None:
            more |= capacities(k, dtype)
        return mj.FacilityPath(
            jnp.asarray(x), jnp.asarray(inside(x, ends), dtype), k,
            weights=jnp.asarray(weights, dtype), **more, **options,
        )  # fmt: skip

    return build


# Two nodes do not fit the masks and bounds, as a linear program over the paths confirms.
NO_ROOM = {CROWDED: (Code.INFEASIBLE,)}

ROWS = [
    points_row(
        "paths",
        facility_path(),
        PLACES,
        first_transition=lambda x, w: oracle.first_critical_beta(
            x, rho_of(w), inside(x, ONE_END), K, K
        ),
        entities="nodes",
        log_choices=walks(K),
        default=True,
        other_sizes=(ONE, CROWDED),
    ),
    points_row(
        "paths-direct",
        facility_path(direct=True, self_loops=True),
        PLACES,
        entities="nodes",
        log_choices=walks(K, self_loops=True, direct=True),
        rests=False,
    ),
    points_row(
        "paths-destinations",
        facility_path(ends=TWO_ENDS),
        PLACES,
        entities="nodes",
        log_choices=walks(K, ends=2),
        rests=False,
    ),
    points_row(
        "paths-masked",
        facility_path(masked=True, ends=TWO_ENDS),
        PLACES,
        entities="nodes",
        log_choices=walks(K, ends=2),
        permutes_slots=False,
        rests=False,
    ),
    points_row(
        "paths-fixed",
        facility_path(fixed=[[0.9, 0.1]]),
        PLACES | {"fixed": lambda q: q.fixed},
        entities="nodes",
        log_choices=walks(K + 1),
        rests=False,
    ),
    points_row(
        "paths-function",
        facility_path(stage_costs=SoftPower),
        PLACES | {"softness": lambda q: q.stage_costs.fn.softness},
        entities="nodes",
        log_choices=walks(K),
        monotone=False,
        damping=0.3,
        rests=False,
        degree=None,
        convex_at_zero=False,
    ),
    points_row(
        "paths-shares",
        facility_path(capacities=equal_entries),
        PLACES | {"entry_capacity": lambda q: q.capacities.entry.limit},
        change=lambda name, c: c - c.mean() if name == "entry_capacity" else c,
        entities="nodes",
        permutes_slots=False,
        rests=False,
        capacities=True,
    ),
    points_row(
        "paths-visits",
        facility_path(capacities=bounded_visits),
        PLACES | {"facility_capacity": lambda q: q.capacities.facility.limit},
        entities="nodes",
        permutes_slots=False,
        rests=False,
        capacities=True,
    ),
    points_row(
        "paths-bounds",
        facility_path(capacities=all_bounded, masked=True, ends=TWO_ENDS),
        PLACES
        | {
            "entry_capacity": lambda q: q.capacities.entry.limit,
            "facility_capacity": lambda q: q.capacities.facility.limit,
            "link_capacity": lambda q: q.capacities.link.limit,
        },
        entities="nodes",
        permutes_slots=False,
        rests=False,
        capacities=True,
        other_sizes=(CROWDED,),
        codes=NO_ROOM,
    ),
]
