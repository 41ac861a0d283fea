# pyright: reportArgumentType=false, reportOperatorIssue=false
# pyright: reportPossiblyUnboundVariable=false
"""Checks of the brute-force oracle of facility location with path optimisation.

"Section" refers to the mathematics document the oracle was written from; the library is not used.
"""

import itertools
from math import comb

import numpy as np
import pytest

from . import paths_numpy as oracle

TOY = {
    "x": np.array([[0.0, 0.0], [2.0, 0.0]]),
    "y": np.array([[0.5, 0.5], [1.5, 1.0]]),
    "z": np.array([[1.0, 2.0]]),
}
HALF = np.array([0.5, 0.5])
EVERYTHING = {
    "masks": oracle.Masks(
        entry=np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1], [1, 1, 1]], bool),
        link=np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]], bool),
        exit=np.array([[1, 0], [0, 1], [1, 1]], bool),
        direct=np.array([[1, 0], [0, 0], [1, 1], [0, 1]], bool),
    ),
    "max_hops": np.array([3, 2, 3, 1]),
}
SWITCHES = pytest.mark.parametrize(
    ("self_loops", "direct"), list(itertools.product((False, True), repeat=2))
)
RULES = pytest.mark.parametrize("rules", [{}, EVERYTHING], ids=["free", "masks and hops"])


def problem(seed=0, n=4, m=3, n_ends=2, d=2):
    """Random weights, nodes, facilities and destinations."""
    rng = np.random.default_rng(seed)
    x, y, z = rng.normal(size=(n, d)), rng.normal(size=(m, d)), 1 + rng.normal(size=(n_ends, d))
    return x, y, z, rng.dirichlet(3 * np.ones(n))


def random_prices(seed=1, m=3):
    """Prices of either sign on visits, entries and links."""
    rng = np.random.default_rng(seed)
    return oracle.Prices(*(0.3 * rng.normal(size=size) for size in (m, m, (m, m))))


def random_costs(seed, n=4, m=3, n_ends=2, k=3):
    """Costs that differ from stage to stage and are no squared distances."""
    rng = np.random.default_rng(seed)
    return oracle.Costs(
        rng.gamma(2.0, size=(n, m)),
        rng.gamma(2.0, size=(k - 1, m, m)),
        rng.gamma(2.0, size=(k, m, n_ends)),
        rng.gamma(4.0, size=(n, n_ends)),
    )


# ------------------------------------------------------------------------------- counts and costs


@SWITCHES
@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_number_of_walks_is_the_closed_formula(m, k, self_loops, direct):
    w = oracle.walks((1, m, 2, k), self_loops=self_loops, direct=direct)
    per_hops = [m**q if self_loops else m * (m - 1) ** (q - 1) for q in range(1, k + 1)]
    assert len(w.routes) == 2 * (sum(per_hops) + direct)
    assert len(set(zip(w.routes, w.ends.tolist(), strict=True))) == len(w.routes)


@SWITCHES
@RULES
def test_walk_costs_are_sums_along_the_walk(self_loops, direct, rules):
    costs, prices = random_costs(2), random_prices()
    w = oracle.walks((4, 3, 2, 3), self_loops=self_loops, direct=direct, **rules)
    masks, limit = rules.get("masks"), rules.get("max_hops", [3] * 4)
    total = oracle.walk_costs(w, costs, prices)
    for i, (g, route) in itertools.product(range(4), enumerate(w.routes)):
        end, permitted = w.ends[g], len(route) <= limit[i]
        if not route:
            cost = costs.direct[i, end]
            permitted &= masks is None or masks.direct[i, end]
        else:
            cost = costs.entry[i, route[0]] + prices.entry[route[0]] + prices.facility[route[0]]
            permitted &= masks is None or (masks.entry[i, route[0]] and masks.exit[route[-1], end])
            for stage in range(1, len(route)):
                link = route[stage - 1], route[stage]
                cost += costs.links[stage - 1][link] + prices.link[link]
                cost += prices.facility[route[stage]]
                permitted &= masks is None or masks.link[link]
            cost += costs.exits[len(route) - 1, route[-1], end]
        assert total[i, g] == (pytest.approx(cost, abs=1e-14) if permitted else np.inf)


def test_a_node_without_a_walk_is_named():
    with pytest.raises(ValueError, match="node 1"):
        oracle.walks((2, 2, 1, 2), max_hops=np.array([1, 0]))
    w = oracle.walks((2, 2, 1, 2), max_hops=np.array([1, 0]), direct=True)
    assert w.allowed.sum(1).tolist() == [3, 1]


# ------------------------------------------------------------------ section 7, printed FLPO numbers


@pytest.mark.parametrize(
    ("switches", "count", "energy"),
    [
        ({"self_loops": True, "direct": True}, 7, 1.669643866038),
        ({"self_loops": True}, 6, 1.706127094099),
        ({}, 4, 2.236367922668),
        ({"direct": True}, 5, 2.175161437977),
        ({"self_loops": True, "max_hops": np.array([1, 2])}, 6, 2.226715578533),
    ],
)
def test_printed_free_energies(switches, count, energy):
    w = oracle.walks((2, 2, 1, 2), **switches)
    assert len(w.routes) == count
    assert oracle.free_energy(oracle.priced(w, **TOY), HALF, 1.0) == pytest.approx(
        energy, abs=1e-12
    )


@pytest.mark.parametrize(
    ("switches", "printed"),
    [
        ({"self_loops": True, "direct": True}, [-1.71909081, -1.62019692]),
        ({"self_loops": True}, [-1.75740975, -1.65484444]),
        ({}, [-2.1928789, -2.27985695]),
    ],
)
def test_printed_log_partitions(switches, printed):
    w = oracle.walks((2, 2, 1, 2), **switches)
    log_z = oracle.log_partition(oracle.priced(w, **TOY), 1.0)
    assert log_z == pytest.approx(np.array(printed), abs=5e-9)


def test_printed_literal_lattice_may_leave_the_destination():
    stops = np.concatenate([TOY["y"], TOY["z"]])
    log_z = [
        np.logaddexp.reduce(
            [
                -sum(
                    ((b - a) ** 2).sum() for a, b in itertools.pairwise([start, *middle, stops[2]])
                )
                for middle in itertools.product(stops, repeat=2)
            ]
        )
        for start in TOY["x"]
    ]
    assert -HALF @ log_z == pytest.approx(1.666466927147, abs=1e-12)


def test_printed_gradient_and_hard_limit():
    w = oracle.walks((2, 2, 1, 2))
    cost = oracle.priced(w, **TOY)
    grad = oracle.gradient(w, oracle.gibbs(cost, 1.0), HALF, **TOY)
    printed = np.array([[-0.63051932, -0.66007931], [1.02046481, -0.14494795]])
    assert grad == pytest.approx(printed, abs=5e-9)
    limit = [oracle.free_energy(cost, HALF, beta) for beta in (1, 10, 100, 1000)]
    assert limit == pytest.approx([2.236368, 2.715343, 2.746534, 2.749653], abs=5e-7)
    routes, costs, total = oracle.hard_optimum(w, cost, HALF)
    # Node 0 is indifferent between (0,) and (0, 1): the shorter counts, and F carries a log 2.
    assert routes == [((0,), 0), ((1,), 0)]
    assert np.isclose(cost, costs[:, None], atol=1e-12).sum(1).tolist() == [2, 1]
    assert (total, costs.tolist()) == (2.75, [3.0, 2.5])


# ------------------------------------------------------------------------ identities, every switch


@SWITCHES
@RULES
def test_free_energy_identities(self_loops, direct, rules):
    beta, prices, costs = 1.3, random_prices(), random_costs(3)
    _, _, _, rho = problem()
    w = oracle.walks((4, 3, 2, 3), self_loops=self_loops, direct=direct, **rules)

    def energy(costs, prices):
        return oracle.free_energy(oracle.walk_costs(w, costs, prices), rho, beta)

    paid, unpaid = oracle.walk_costs(w, costs, prices), oracle.walk_costs(w, costs)
    p = oracle.gibbs(paid, beta)
    usage, links = oracle.facility_usage(w, p, rho), oracle.link_usage(w, p, rho)
    entries, flow = oracle.entry_shares(w, p, rho), oracle.traffic(w, p, rho)
    assert p.sum(1) == pytest.approx(1, abs=1e-14)
    assert np.all(p[~w.allowed] == 0)

    bill = usage @ prices.facility + entries @ prices.entry + (links * prices.link).sum()
    lagrangian = oracle.distortion(p, unpaid, rho) - oracle.entropy(p, rho) / beta + bill
    assert energy(costs, prices) == pytest.approx(lagrangian, abs=1e-13)
    best = oracle.hard_optimum(w, paid, rho)[2]
    assert best - np.log(w.allowed.sum(1).max()) / beta <= energy(costs, prices) <= best

    for name, expected in zip(prices._fields, (usage, entries, links), strict=True):
        slope = oracle.differences(
            lambda value, name=name: energy(costs, prices._replace(**{name: value})),
            getattr(prices, name),
        )
        assert slope == pytest.approx(expected, abs=1e-11)
    for name in costs._fields:
        slope = oracle.differences(
            lambda value, name=name: energy(costs._replace(**{name: value}), prices),
            getattr(costs, name),
        )
        assert slope == pytest.approx(getattr(flow, name), abs=1e-11)

    assert entries == pytest.approx(flow.entry.sum(0), abs=1e-15)
    assert flow.entry.sum() + flow.direct.sum() == pytest.approx(1)
    assert flow.exits.sum() + flow.direct.sum() == pytest.approx(1)
    hops = rho @ p @ np.array([len(route) for route in w.routes])
    assert usage.sum() == pytest.approx(hops)
    assert usage == pytest.approx(entries + links.sum(0))


@SWITCHES
@RULES
@pytest.mark.parametrize("beta", [0.5, 300.0])
def test_stage_policies_multiply_to_the_gibbs_law(self_loops, direct, rules, beta):
    w = oracle.walks((4, 3, 2, 3), self_loops=self_loops, direct=direct, **rules)
    cost = oracle.walk_costs(w, random_costs(4), random_prices())
    first, later = oracle.stage_policies(w, cost, beta)
    assert first.sum(1) == pytest.approx(1, abs=1e-13)
    reached = ~np.isnan(later[..., 0])
    assert later.sum(3)[reached] == pytest.approx(1, abs=1e-13)
    log_p = -beta * cost - oracle.log_partition(cost, beta)[:, None]
    for i, g in np.argwhere(w.allowed):
        steps = [*w.routes[g], 3 + w.ends[g]]
        chain = [first[i, steps[0]]]
        chain += [later[i, s, a, b] for s, (a, b) in enumerate(itertools.pairwise(steps))]
        assert np.prod(chain) == pytest.approx(np.exp(log_p[i, g]), rel=1e-11, abs=1e-290)


def test_policies_after_the_node_do_not_depend_on_it():
    w = oracle.walks((4, 3, 2, 4), direct=True)
    x, y, z, _ = problem()
    _, later = oracle.stage_policies(w, oracle.priced(w, x, y, z, random_prices()), 2.0)
    assert later == pytest.approx(np.broadcast_to(later[:1], later.shape), abs=1e-14)


def test_free_self_loops_count_a_hard_path_binomially():
    x, y, z, rho = problem(3)
    w = oracle.walks((4, 3, 2, 4), self_loops=True)
    cost = oracle.priced(w, x, y, 3 * z)
    routes, best, _ = oracle.hard_optimum(w, cost, rho)
    assert {len(route) for route, _ in routes} >= {2}
    copies = np.isclose(cost, best[:, None], atol=1e-12).sum(1)
    assert copies.tolist() == [comb(4, len(route)) for route, _ in routes]


def test_dual_curvature_is_the_covariance_of_visits():
    x, y, z, rho = problem()
    w, beta = oracle.walks((4, 3, 2, 3)), 1.7

    def usage(price):
        p = oracle.gibbs(oracle.priced(w, x, y, z, oracle.Prices(price)), beta)
        return oracle.facility_usage(w, p, rho)

    price = np.array([0.1, -0.2, 0.3])
    p = oracle.gibbs(oracle.priced(w, x, y, z, oracle.Prices(price)), beta)
    mean = p @ w.visits
    second = np.einsum("i,ig,ga,gb->ab", rho, p, w.visits, w.visits)
    covariance = second - mean.T @ (rho[:, None] * mean)
    assert oracle.differences(usage, price) == pytest.approx(-beta * covariance, abs=1e-10)


@pytest.mark.parametrize(("k", "settles"), [(11, True), (15, False)])
def test_literal_capacity_update_cycles_with_many_stages(k, settles):
    w, target = oracle.walks((1, 2, 1, k)), np.full(2, (k + 1) / 4)
    free = oracle.Costs(np.zeros((1, 2)), np.zeros((2, 2)), np.zeros((2, 1)), np.zeros((1, 1)))
    price = np.full(2, 1e-3)
    for _ in range(2000):
        p = oracle.gibbs(oracle.walk_costs(w, free, oracle.Prices(price)), 1.0)
        usage = oracle.facility_usage(w, p, np.ones(1))
        price = price - np.log(target / usage)
    assert (np.abs(usage - target).max() < 1e-6) == settles
    assert settles or abs(usage.sum() - target.sum()) > 1


# --------------------------------------------------------------------------------------- locations


@SWITCHES
@RULES
def test_gradient_and_location_step(self_loops, direct, rules):
    x, y, z, rho = problem()
    beta, prices = 1.1, random_prices()
    w = oracle.walks((4, 3, 2, 3), self_loops=self_loops, direct=direct, **rules)
    p = oracle.gibbs(oracle.priced(w, x, y, z, prices), beta)

    slope = oracle.differences(
        lambda y: oracle.free_energy(oracle.priced(w, x, y, z, prices), rho, beta), y
    )
    grad = oracle.gradient(w, p, rho, x, y, z)
    assert grad == pytest.approx(slope, abs=1e-10)

    new = oracle.location_step(w, p, rho, x, y, z)
    assert oracle.gradient(w, p, rho, x, new, z) == pytest.approx(0, abs=1e-13)
    flow = oracle.traffic(w, p, rho)
    both_ways = flow.links.sum(0) + flow.links.sum(0).T
    grounds = flow.entry.sum(0) + flow.exits.sum((0, 2))
    stiffness = np.diag(grounds + both_ways.sum(1)) - both_ways
    assert grad == pytest.approx(2 * stiffness @ (y - new), abs=1e-13)

    fixed = np.array([False, True, False])
    held = oracle.location_step(w, p, rho, x, y, z, fixed)
    assert np.all(held[1] == y[1])
    assert oracle.gradient(w, p, rho, x, held, z)[~fixed] == pytest.approx(0, abs=1e-13)


def test_location_step_leaves_a_facility_without_traffic():
    x, y, z, rho = problem()
    masks = oracle.Masks(entry=np.array([True, True, False]), link=np.eye(3, dtype=bool))
    w = oracle.walks((4, 3, 2, 3), self_loops=True, masks=masks)
    p = oracle.gibbs(oracle.priced(w, x, y, z), 1.0)
    assert np.all(oracle.location_step(w, p, rho, x, y, z)[2] == y[2])


@RULES
def test_alternation_never_raises_the_free_energy(rules):
    x, y, z, rho = problem()
    w, prices, energies = oracle.walks((4, 3, 2, 3), direct=True, **rules), random_prices(), []
    for _ in range(50):
        cost = oracle.priced(w, x, y, z, prices)
        energies.append(oracle.free_energy(cost, rho, 3.0))
        y = oracle.location_step(w, oracle.gibbs(cost, 3.0), rho, x, y, z)
    assert np.diff(energies).max() < 1e-14
    assert energies[0] - energies[-1] > 0.1


@RULES
def test_second_variation(rules):
    """Section 1.4: (1/2) d2F = E |Lam|^2 - 2 beta E Var_i(K . Lam), leg by leg."""
    x, y, z, rho = problem()
    w, beta = oracle.walks((4, 3, 2, 3), **rules), 0.9
    push = np.random.default_rng(5).normal(size=y.shape)
    p = oracle.gibbs(oracle.priced(w, x, y, z), beta)
    bend, slope = np.zeros_like(p), np.zeros_like(p)
    for i, (g, route) in itertools.product(range(4), enumerate(w.routes)):
        places = [x[i], *y[list(route)], z[w.ends[g]]]
        pushes = [np.zeros(2), *push[list(route)], np.zeros(2)]
        legs, shifts = np.diff(places, axis=0), np.diff(pushes, axis=0)
        bend[i, g], slope[i, g] = (shifts**2).sum(), (legs * shifts).sum()
    variance = (p * slope**2).sum(1) - (p * slope).sum(1) ** 2
    half = rho @ ((p * bend).sum(1) - 2 * beta * variance)
    curvature = push.ravel() @ oracle.hessian(w, rho, x, y, z, beta) @ push.ravel()
    assert curvature == pytest.approx(2 * half, abs=1e-9)


def test_revisits_grow_when_more_visits_are_asked_for():
    x, y, z, rho = problem(m=2)
    w = oracle.walks((4, 2, 2, 4))
    shares = [
        oracle.revisit_share(
            w, oracle.gibbs(oracle.priced(w, x, y, z, oracle.Prices(price)), 1.0), rho
        )
        for price in (1.0, 0.0, -3.0)
    ]
    assert 0 < shares[0] < shares[1] < shares[2] < 1
    simple = np.array([[len(route) < 3 for route in w.routes]] * 4) / 4
    assert oracle.revisit_share(w, simple, rho) == 0


# -------------------------------------------------------------------------------- first transition


def printed_critical_beta(x, rho, z, m, k, self_loops):
    """Section 1.5 without direct legs, one destination (d,)."""
    _, stiff, rbar = oracle.coincident_walks(m, k, self_loops)
    mean = rho @ x
    half = (mean - z) / 2
    spread = (x - mean).T @ (rho[:, None] * (x - mean)) + 2 * (1 - rbar) * np.outer(half, half)
    return stiff / (2 * np.linalg.eigvalsh(spread)[-1])


@SWITCHES
@pytest.mark.parametrize(
    ("m", "k", "n_ends"),
    [(2, 1, 1), (4, 2, 1), (2, 4, 1), (3, 2, 2)],
)
def test_first_critical_beta(m, k, n_ends, self_loops, direct):
    x, _, z, rho = problem(7, n=5, n_ends=n_ends)
    w = oracle.walks((5, m, n_ends, k), self_loops=self_loops, direct=direct)
    closed = oracle.first_critical_beta(x, rho, z, m, k, self_loops, direct)
    numerical = oracle.first_critical_beta_numerical(w, rho, x, z, 0.9 * closed)
    assert numerical == pytest.approx(closed, rel=1e-8)
    if n_ends == 1 and not direct:
        printed = printed_critical_beta(x, rho, z[0], m, k, self_loops)
        assert closed == pytest.approx(printed, rel=1e-12)
        if k == 1:
            covariance = np.cov(x.T, aweights=rho, ddof=0)
            assert printed == pytest.approx(1 / np.linalg.eigvalsh(covariance)[-1])


def test_facilities_separate_only_above_the_first_critical_beta():
    x, _, z, rho = problem(7, n=5, n_ends=1)
    w = oracle.walks((5, 2, 1, 2))
    critical = oracle.first_critical_beta(x, rho, z, 2, 2)
    start = (rho @ x + z[0]) / 2 + np.array([[1e-3, 0.0], [0.0, -1e-3]])
    gaps = []
    for factor in (0.98, 1.02):
        y = oracle.alternate(w, rho, x, start, z, factor * critical)
        gaps.append(np.linalg.norm(y[0] - y[1]))
    assert gaps[0] < 1e-10
    assert gaps[1] > 0.05


def test_one_facility_never_splits():
    x, _, z, rho = problem()
    assert oracle.first_critical_beta(x, rho, z, 1, 3) == np.inf
