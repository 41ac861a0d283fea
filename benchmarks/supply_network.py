"""Section 2.7 of the thesis over twenty layouts, and all paths at once beside listing them."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax.datasets import supply_network

from .measure import timed

LAYOUTS, M = 20, 5
ENTRY = np.array([0.4, 0.2, 0.2, 0.1, 0.1])
ENTRY_H = np.array([4, 2, 2.5, 0.5, 1.0]) / 10
ABSENT = ((0, 1), (1, 2), (3, 0), (0, 2), (3, 4), (4, 2))
# Figure 2.4 (i): only these links, used in proportion 3 : 7 : 10 : 10.
ONLY = {(0, 3): 3, (1, 3): 7, (2, 3): 10, (4, 3): 10}


@eqx.filter_jit
def _solve(problem: mj.FacilityPath) -> mj.Solution:
    b = problem.beta_scale()
    schedule = mj.Geometric(0.5 * b, 1e4 * b, 1.05, max_stages=256)
    return mj.anneal(problem, schedule, key=jax.random.key(0), adjoint=mj.NoGrad())


def settings(visits: float) -> dict[str, dict[str, Any]]:
    """The constraints of Figure 2.4, for a mean number of visits."""
    links = np.ones((M, M), bool)
    for a, b in ABSENT:
        links[a, b] = False
    use = np.zeros((M, M))
    for (a, b), share in ONLY.items():
        # Nine in ten go on: all of them would need infinite prices.
        use[a, b] = 0.9 * share / 30
    return {
        "(e) three facilities at most": {"max_hops": 3},
        "(f) partially connected": {"links": links},
        "(g) entry shares": {"entry_capacity": mj.Equal(ENTRY)},
        "(g) visits": {"facility_capacity": mj.Equal(ENTRY * visits)},
        "(h) entry proportions": {"entry_capacity": mj.Equal(ENTRY_H)},
        "(i) links": {"link_capacity": mj.Equal(use)},
    }


def misfit(problem: mj.FacilityPath, solution: mj.Solution) -> float:
    """Largest relative difference of soft use and capacity at the last beta, in percent."""
    flow = problem.traffic(solution.params, solution.beta)
    entries = np.asarray(flow.first.sum(0))
    used = {
        "entry": entries,
        "facility": entries + np.asarray(flow.links.sum(0)),
        "link": np.asarray(flow.links),
    }
    worst = 0.0
    for name, use in used.items():
        capacity = getattr(problem.capacities, name)
        if capacity is not None:
            limit = np.asarray(capacity.limit)
            wanted = np.where(limit > 0, limit, 1.0)
            worst = max(worst, float(np.max(np.where(limit > 0, np.abs(use - limit), 0) / wanted)))
    return 100 * worst


def layouts() -> list[dict[str, Any]]:
    """One row a setting: quartiles over the layouts of cost against the unconstrained one."""
    cost: dict[str, list[float]] = {}
    misfits: dict[str, list[float]] = {}
    codes: dict[str, list[str]] = {}
    for seed in range(LAYOUTS):
        nodes, destination = supply_network(seed=seed)
        free = mj.FacilityPath(nodes, destination, M)
        solution = _solve(free)
        base = float(free.harden(solution.params).cost)
        b = free.beta_scale()
        schedule = mj.Geometric(0.5 * b, 1e4 * b, 1.05, max_stages=256)
        baseline = mj.locate_then_route(free, key=jax.random.key(0), schedule=schedule)
        cost.setdefault("(d) locate, then route", []).append(float(baseline.hard.cost) / base)
        codes.setdefault("(d) locate, then route", []).append(_name(baseline.code))
        codes.setdefault("(c) unconstrained", []).append(_name(solution.code))
        cost.setdefault("(c) unconstrained", []).append(1.0)
        visits = float(free.usage(solution.params, solution.beta).sum())
        for name, options in settings(max(visits, 1.0)).items():
            problem = mj.FacilityPath(nodes, destination, M, **options)
            solution = _solve(problem)
            # Soft cost where capacities are met by sharing, hard cost elsewhere.
            constrained = problem.capacities.given
            value = solution.distortion if constrained else problem.harden(solution.params).cost
            cost.setdefault(name, []).append(float(value) / base)
            codes.setdefault(name, []).append(_name(solution.code))
            if constrained:
                misfits.setdefault(name, []).append(misfit(problem, solution))
    rows = []
    for name, ratios in cost.items():
        low, first, middle, third, high = np.quantile(ratios, (0, 0.25, 0.5, 0.75, 1))
        rows.append(
            {
                "setting": name,
                "cost / (c), min": low,
                "quartile": first,
                "median": middle,
                "3rd quartile": third,
                "max": high,
                "worst misfit %": max(misfits.get(name, [float("nan")])),
                "codes": " ".join(f"{c}:{codes[name].count(c)}" for c in sorted(set(codes[name]))),
            }
        )
    return rows


def _name(code: Any) -> str:
    return mj.Code(int(code)).name


def enumeration() -> list[dict[str, Any]]:
    """Free energy and its gradient by the recursion, beside a list of all paths."""
    rows = []
    nodes, destination = supply_network()
    for m in range(2, 7):
        problem = mj.FacilityPath(nodes, destination, m)
        beta = float(problem.beta_scale())
        start = problem.init(jax.random.key(0)) + jax.random.normal(jax.random.key(1), (m, 2))
        routes = [
            route
            for q in range(1, m + 1)
            for route in itertools.product(range(m), repeat=q)
            if all(a != b for a, b in itertools.pairwise(route))
        ]
        padded = np.array([(*route, *(m,) * (m + 1 - len(route))) for route in routes])

        def listed(y: Any, padded: Any = padded, m: int = m, beta: float = beta) -> Any:
            places = jnp.concatenate([y, destination[None]])
            legs = jnp.sum((places[:, None] - places[None]) ** 2, axis=-1)
            onward = jnp.sum(legs[padded[:, :-1], padded[:, 1:]], axis=1)
            entry = jnp.sum((nodes[:, None] - y[None]) ** 2, axis=-1)
            cost = entry[:, padded[:, 0]] + onward
            return -jnp.mean(jax.nn.logsumexp(-beta * cost, axis=1)) / beta

        def recursive(y: Any, problem: Any = problem, beta: float = beta) -> Any:
            return problem.free_energy(y, beta)

        forms = {
            name: jax.jit(jax.value_and_grad(form)) for name, form in
            (("list", listed), ("recursion", recursive))
        }  # fmt: skip
        values = {name: float(form(start)[0]) for name, form in forms.items()}
        seconds = {
            name: timed(lambda form=form, start=start: form(start), 20)["best_s"]
            for name, form in forms.items()
        }
        rows.append(
            {
                "M": m,
                "paths": len(routes),
                "recursion / list": seconds["recursion"] / seconds["list"],
                "recursion ms": 1e3 * seconds["recursion"],
                "list ms": 1e3 * seconds["list"],
                "difference of F": abs(values["list"] - values["recursion"]),
            }
        )
    return rows


def run() -> list[dict[str, Any]]:
    """The layouts, then the enumeration."""
    with jax.enable_x64(True):
        return [*enumeration(), *layouts()]
