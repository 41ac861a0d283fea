"""Prices of capacities against the enumeration of every walk."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code

from ..jitted import jitted
from . import paths_numpy as oracle

N, M, L, STAGES = 7, 3, 2, 3
BETA = 1.7


def places(seed=0):
    rng = np.random.default_rng(seed)
    x, y, z = rng.normal(size=(N, 2)), rng.normal(size=(M, 2)), 2 + rng.normal(size=(L, 2))
    return x, y, z, rng.uniform(0.5, 1.5, N)


LINKS = np.array([[0.0, 0.1, np.inf], [0.2, 0.0, 0.15], [0.25, 0.3, 0.0]])
CASES = {
    "entry equal": {"entry_capacity": mj.Equal([0.5, 0.3, 0.2])},
    "entry bound": {"entry_capacity": [0.4, 0.4, 0.4]},
    "entry bound without room": {"entry_capacity": [0.5, 0.3, 0.2]},
    "visits equal": {"facility_capacity": mj.Equal([0.9, 0.3, 0.4])},
    "visits bound": {"facility_capacity": [0.6, 0.35, 0.6]},
    "links equal": {"link_capacity": mj.Equal(LINKS + 0.02)},
    "links bound": {"link_capacity": LINKS},
    "closed": {"facility_capacity": [0.7, 0.0, np.inf]},
    "both equal": {
        "entry_capacity": mj.Equal([0.5, 0.3, 0.2]),
        "facility_capacity": mj.Equal([0.6, 0.6, 0.5]),
    },
    "all bounds": {
        "entry_capacity": [0.4, 0.4, 0.4],
        "facility_capacity": [0.55, 0.55, 0.55],
        "link_capacity": np.full((M, M), 0.1),
    },
}
SWITCHES = {
    "plain": ({}, {}),
    "loops": ({"self_loops": True}, {"self_loops": True}),
    "direct": ({"direct": True}, {"direct": True}),
    "hops": ({"max_hops": np.arange(N) % 2 + 2}, {"max_hops": np.arange(N) % 2 + 2}),
}


@eqx.filter_jit
def solve(problem, y, beta):
    params = problem.eliminate(problem.at(y), beta)
    return {
        "params": params,
        "usage": problem.usage(params, beta),
        "entry": problem.entry_shares(params, beta),
        "traffic": problem.traffic(params, beta),
        "energy": problem.free_energy(params, beta),
        "terms": problem.terms(params, beta),
        "moved": problem.update(params, beta),
        "gradient": problem.residual(params, beta),
        "revisits": problem.revisits(params, beta),
        "code": problem.constraint_code(params, beta),
        "policy": problem.stage_policies(params, beta).first,
    }


def build(case, switch="plain", seed=0, **more):
    x, y, z, weights = places(seed)
    options, walk_options = SWITCHES[switch]
    typed = {
        name: mj.Equal(np.asarray(value.values))
        if isinstance(value, mj.Equal)
        else np.asarray(value)
        for name, value in CASES[case].items()
    }
    problem = mj.FacilityPath(x, z, M, n_stages=STAGES, weights=weights, **typed, **options, **more)
    walks = oracle.walks((N, M, L, STAGES), **walk_options)
    return problem, walks, (x, y, z, weights / weights.sum())


def limits(problem):
    given = problem.capacities.limits
    return {
        name: np.asarray(limit)
        for name in ("entry", "facility", "link")
        if (limit := getattr(given, name)) is not None
    }


# An eighth of these in the default run, so that it meets most cases and every switch.
COMBINATIONS = [
    pytest.param(case, switch, marks=() if (i + j) % 8 == 0 else pytest.mark.slow)
    for i, case in enumerate(CASES)
    for j, switch in enumerate(SWITCHES)
]


@pytest.mark.parametrize(("case", "switch"), COMBINATIONS)
def test_prices_make_every_walk_count_as_it_should(case, switch):
    problem, walks, (x, y, z, rho) = build(case, switch)
    got = solve(problem, y, BETA)
    assert int(got["code"]) == Code.OK
    prices = {
        name: np.asarray(price)
        for name in ("entry", "facility", "link")
        if (price := getattr(got["params"].dual, name)) is not None
    }
    priced = oracle.Prices(**prices)
    cost = oracle.priced(walks, x, y, z, priced)
    # A capacity of zero closes what it limits.
    for name, used in (("entry", walks.entry), ("facility", walks.visits)):
        closed = limits(problem).get(name, np.ones(M)) == 0
        cost = np.where((used @ closed > 0)[None], np.inf, cost)
    closed = limits(problem).get("link", np.ones((M, M))) == 0
    cost = np.where((np.einsum("gkab,ab->g", walks.links, closed) > 0)[None], np.inf, cost)
    p = oracle.gibbs(cost, BETA)
    used = {
        "entry": oracle.entry_shares(walks, p, rho),
        "facility": oracle.facility_usage(walks, p, rho),
        "link": oracle.link_usage(walks, p, rho),
    }
    np.testing.assert_allclose(got["usage"], used["facility"], atol=1e-10)
    np.testing.assert_allclose(got["entry"], used["entry"], atol=1e-10)

    worth = 0.0
    for name, limit in limits(problem).items():
        equality = getattr(problem.capacities, name).equality
        counts = np.isfinite(limit) & (limit > 0)
        if name == "link" and switch != "loops":
            counts &= ~np.eye(M, dtype=bool)
        gap, price = (used[name] - limit)[counts], prices[name][counts]
        if equality:
            np.testing.assert_allclose(gap, 0, atol=1e-9)
        else:
            assert (gap < 1e-9).all()
            np.testing.assert_allclose(gap * price, 0, atol=1e-9)
            if "without room" not in case:
                assert (price >= 0).all()
        assert (prices[name][~counts] == 0).all()
        worth += float(price @ limit[counts])

    expected = oracle.free_energy(cost, rho, BETA) - worth
    np.testing.assert_allclose(got["energy"], expected, rtol=1e-10)
    bare = oracle.priced(walks, x, y, z)
    terms = got["terms"]
    np.testing.assert_allclose(terms.distortion, oracle.distortion(p, bare, rho), rtol=1e-10)
    np.testing.assert_allclose(terms.entropy, oracle.entropy(p, rho), atol=1e-9)
    np.testing.assert_allclose(
        got["gradient"].primal, oracle.gradient(walks, p, rho, x, y, z), atol=1e-9
    )
    np.testing.assert_allclose(
        got["moved"].primal, oracle.location_step(walks, p, rho, x, y, z), atol=1e-9
    )
    visited_twice = rho @ p @ (walks.visits > 1)
    np.testing.assert_allclose(got["revisits"], visited_twice, atol=1e-10)


def test_the_dual_is_at_its_maximum():
    problem, walks, (x, y, z, rho) = build("all bounds")
    params = solve(problem, y, BETA)["params"]

    def dual(entry, facility, link):
        cost = oracle.priced(walks, x, y, z, oracle.Prices(facility, entry, link))
        paid = (entry * 0.4).sum() + (facility * 0.55).sum() + (link * 0.1).sum()
        return oracle.free_energy(cost, rho, BETA) - paid

    prices = [np.asarray(params.dual.entry), np.asarray(params.dual.facility)]
    prices += [np.asarray(params.dual.link)]
    best = dual(*prices)
    rng = np.random.default_rng(3)
    for size in (1e-3, 1e-1, 1.0):
        for _ in range(20):
            moved = [np.maximum(p + size * rng.normal(size=p.shape), 0) for p in prices]
            assert dual(*moved) <= best + 1e-12


def test_a_case_in_which_the_printed_update_cycles():
    # Two coincident facilities, 15 stages, four visits wanted at each of them.
    stages, wanted, beta = 15, np.array([4.0, 4.0]), 1e-3
    x, z = np.array([[0.0, 0.0], [1.0, 0.5]]), np.array([2.0, 0.0])
    free = mj.FacilityPath(x, z, 2, n_stages=stages, self_loops=True)
    y = free.init(jax.random.key(0))

    def usage(alpha):
        costs = jitted.leg_costs(free, y)
        costs = mj.paths.stage_costs(
            costs.first + alpha, costs.links + alpha, costs.last, n_stages=stages
        )
        flow = mj.paths.traffic(costs, beta)
        return jnp.sum(flow.first, axis=0) + jnp.sum(flow.links, axis=0)

    def print_update(_, alpha):
        # Thesis (2.22) in logs: zeta <- zeta w / C.
        return alpha - jnp.log(wanted / usage(alpha)) / beta

    alpha = jax.jit(lambda: jax.lax.fori_loop(0, 300, print_update, jnp.zeros(2)))()
    assert np.abs(usage(alpha) - wanted).max() > 0.5

    problem = mj.FacilityPath(
        x, z, 2, n_stages=stages, self_loops=True, facility_capacity=mj.Equal(wanted)
    )
    params = jitted.eliminate(problem, problem.at(y), beta)
    np.testing.assert_allclose(jitted.usage(problem, params, beta), wanted, atol=1e-9)
    assert int(jitted.constraint_code(problem, params, beta)) == Code.OK


@pytest.mark.parametrize("beta", [1e-4, 1.0, 30.0, 1e3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_prices_are_found_from_any_start_at_any_beta(beta, dtype):
    with jax.enable_x64(dtype == np.float64):
        x, y, z, weights = (a.astype(dtype) for a in places(4))
        problem = mj.FacilityPath(
            x, z, M, n_stages=STAGES, weights=weights,
            facility_capacity=mj.Equal(np.array([0.6, 0.5, 0.4], dtype)),
        )  # fmt: skip
        start = problem.at(y)
        far = eqx.tree_at(lambda p: p.dual.facility, start, jnp.asarray([5.0, -3.0, 1.0], dtype))
        for params in (start, far):
            settled = jitted.eliminate(problem, params, beta)
            tolerance = 1e-8 if dtype == np.float64 else 3e-3
            np.testing.assert_allclose(
                jitted.usage(problem, settled, beta), [0.6, 0.5, 0.4], atol=tolerance
            )
