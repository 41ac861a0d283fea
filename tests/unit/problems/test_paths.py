"""Stage-wise recursion against the enumeration of every path."""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj

from ...oracles import paths_numpy as oracle

N, L = 3, 2
INF = np.inf
# (M, K, self loops, direct, masked, hop limits, costs differ by stage)
CASES = {
    "one stage": (3, 1, False, False, False, False, False),
    "plain": (3, 3, False, False, False, False, False),
    "loops": (3, 4, True, False, False, False, False),
    "direct": (4, 2, False, True, False, False, False),
    "loops direct hops": (2, 4, True, True, False, True, False),
    "masked": (4, 4, False, False, True, False, False),
    "masked direct hops": (4, 4, False, True, True, True, False),
    "one state": (1, 3, False, False, False, False, False),
    "staged": (3, 4, True, False, False, False, True),
    "staged masked direct": (4, 3, False, True, True, False, True),
}
BETAS = 0.3, 4.0
every_case = pytest.mark.parametrize("name", CASES)
every_beta = pytest.mark.parametrize("beta", BETAS)


@functools.cache
def case(name):
    """Random costs of one case, for the library and for the oracle."""
    m, k, loops, direct, masked, hops, staged = CASES[name]
    rng = np.random.default_rng(len(name))
    links_shape, last_shape = ((k - 1, m, m), (k, m, L)) if staged else ((m, m), (m, L))
    first, links = rng.uniform(0, 2, (N, m)), rng.uniform(0, 2, links_shape)
    last, straight = rng.uniform(0, 2, last_shape), rng.uniform(1, 5, (N, L))
    masks = oracle.EVERY_LEG
    if masked:
        entry, link = np.ones((N, m), bool), np.ones((m, m), bool)
        exit_, past = np.ones((m, L), bool), np.ones((N, L), bool)
        entry[0, 1] = entry[1, :2] = False
        link[0, 2] = link[1, :] = False  # no way on from 1 ...
        exit_[0, :] = exit_[2, 1] = False
        exit_[1, :] = False  # ... and no way out: a dead end
        past[2, 0] = False
        masks = oracle.Masks(entry, link, exit_, past)
    limits = np.array([2, 0 if direct else 1, k]) if hops else None
    shape = N, m, L, k
    walks = oracle.walks(
        shape, self_loops=loops, direct=direct, masks=masks,
        max_hops=INF if limits is None else limits,
    )  # fmt: skip
    rho = rng.dirichlet(np.ones(N))
    table = oracle.walk_costs(walks, oracle.Costs(first, links, last, straight))
    allowed = np.broadcast_to(masks.link, (m, m)) & (loops | ~np.eye(m, dtype=bool))
    with jax.enable_x64(True):
        costs = mj.paths.stage_costs(
            np.where(masks.entry, first, INF),
            np.where(allowed, links, INF),
            np.where(masks.exit, last, INF),
            np.where(masks.direct, straight, INF) if direct else None,
            n_stages=k,
        )
    return costs, rho, limits, walks, table


class Found(NamedTuple):
    """What the library says about one case at one beta."""

    energy: jax.Array
    flow: mj.paths.StageCosts
    slope: jax.Array
    policies: mj.paths.Policies
    routes: mj.paths.Routes
    second: Any


@eqx.filter_jit
def _everything(costs, rho, limits, beta):
    def energy(pair):
        return mj.paths.free_energy(*pair, weights=rho, max_hops=limits)

    pair = costs, beta
    slopes = eqx.filter_grad(energy)
    direction = jax.tree.map(jnp.ones_like, pair)
    return Found(
        energy(pair),
        mj.paths.traffic(*pair, weights=rho, max_hops=limits),
        slopes(pair)[1],
        mj.paths.policies(*pair, max_hops=limits),
        mj.paths.shortest(costs, max_hops=limits),
        eqx.filter_jvp(slopes, (pair,), (direction,))[1],
    )


@functools.cache
def found(name, beta):
    costs, rho, limits, _, _ = case(name)
    with jax.enable_x64(True):
        limits = None if limits is None else jnp.asarray(limits)
        return _everything(costs, jnp.asarray(rho), limits, jnp.asarray(beta))


@every_case
@every_beta
def test_free_energy_traffic_and_entropy_equal_the_sums_over_all_paths(name, beta):
    costs, rho, _, walks, table = case(name)
    result = found(name, beta)
    np.testing.assert_allclose(result.energy, oracle.free_energy(table, rho, beta), rtol=1e-12)
    p = oracle.gibbs(table, beta)
    expected, flow = oracle.traffic(walks, p, rho), result.flow
    links = expected.links if costs.links.ndim == 3 else expected.links.sum(0)
    exits = expected.exits if costs.last.ndim == 3 else expected.exits.sum(0)
    np.testing.assert_allclose(flow.first, expected.entry, atol=1e-12)
    np.testing.assert_allclose(flow.links, links, atol=1e-12)
    np.testing.assert_allclose(flow.last, exits, atol=1e-12)
    if flow.direct is not None:
        np.testing.assert_allclose(flow.direct, expected.direct, atol=1e-12)
    # The slope in beta is the entropy over beta squared, also where legs are forbidden.
    np.testing.assert_allclose(beta**2 * result.slope, oracle.entropy(p, rho), atol=1e-11)


@every_case
@every_beta
def test_policies_are_the_conditionals_of_the_gibbs_law(name, beta):
    costs, _, limits, walks, table = case(name)
    m, k = costs.first.shape[1], costs.n_stages
    policies = found(name, beta).policies
    first, later = oracle.stage_policies(walks, table, beta)
    shown = first if costs.direct is not None else first[:, :m]
    np.testing.assert_allclose(np.exp(policies.first), shown, atol=1e-12)
    full = np.full(N, k) if limits is None else limits
    compared = 0
    for i in range(N):
        for stage in range(full[i]):
            reached = np.isfinite(later[i, stage]).all(-1)
            got = np.exp(policies.onward[full[i] - 1 - stage])[reached]
            np.testing.assert_allclose(got, later[i, stage][reached], atol=1e-12)
            compared += reached.sum()
    assert compared


@every_case
def test_shortest_is_the_cheapest_of_all_paths(name):
    _, rho, _, walks, table = case(name)
    routes = found(name, BETAS[0]).routes
    best, each, total = oracle.hard_optimum(walks, table, rho)
    np.testing.assert_allclose(routes.costs, each, rtol=1e-12)
    np.testing.assert_allclose(rho @ routes.costs, total, rtol=1e-12)
    for i, (route, end) in enumerate(best):
        states = [int(a) for a in routes.states[i] if a >= 0]
        assert (tuple(states), int(routes.destinations[i])) == (route, end)
        assert (np.asarray(routes.states[i])[len(states) :] == -1).all()


@every_case
@every_beta
def test_no_derivative_is_nan_where_nothing_is_permitted(name, beta):
    result = found(name, beta)
    for leaf in jax.tree.leaves((result.flow, result.slope, result.second)):
        assert np.isfinite(leaf).all()


def test_a_node_that_is_cut_off_has_infinite_energy_and_no_route():
    first = jnp.array([[1.0, INF], [INF, INF]])
    costs = mj.paths.stage_costs(first, jnp.zeros((2, 2)), jnp.array([1.0, 2.0]), n_stages=2)
    assert mj.paths.free_energy(costs, 1.0) == INF
    np.testing.assert_array_equal(mj.paths.shortest(costs).states[1], [-1, -1])
    assert mj.paths.shortest(costs).destinations[1] == -1
    weights = np.array([1.0, 0.0])
    gradient = mj.paths.traffic(costs, 1.0, weights=weights)
    assert np.isfinite(mj.paths.free_energy(costs, 1.0, weights=weights))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_energy_rises_to_the_least_cost_also_in_float32():
    costs, rho, _, _, table = case("plain")
    hard = float(rho @ table.min(1))
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), costs)
    for beta in (1e-3, 1.0, 1e2, 1e6):
        energy = mj.paths.free_energy(costs, beta, weights=rho)
        assert hard - np.log(table.shape[1]) / beta - 1e-12 <= energy <= hard + 1e-12
        weights = rho.astype(np.float32)
        single = mj.paths.free_energy(low, jnp.float32(beta), weights=weights)
        assert single.dtype == jnp.float32
        np.testing.assert_allclose(single, energy, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": np.zeros(3)}, "`first` must be 2-D"),
        ({"first": np.zeros((0, 2))}, "`first` must be 2-D"),
        ({"links": np.zeros((3, 3))}, "`links` must have shape"),
        ({"last": np.zeros(5)}, "`last` must have shape"),
        ({"last": np.zeros((2, 0))}, "`last` must have shape"),
        ({"direct": np.zeros((4, 2))}, "`direct` must have shape"),
        ({"n_stages": None}, "`n_stages` is needed"),
        ({"n_stages": 0}, "`n_stages` must be at least 1"),
        ({"n_stages": 2.5}, "`n_stages` must be an int"),
    ],
)
def test_wrong_shapes_are_named(change, message):
    good = {"first": np.zeros((3, 2)), "links": np.zeros((2, 2)), "last": np.zeros(2)}
    with pytest.raises((TypeError, ValueError), match=message):
        mj.paths.stage_costs(**{**good, "n_stages": 2, **change})


@pytest.mark.parametrize("limit", [0, 3, 1.5, np.array([1, 2])])
def test_hop_limits_out_of_range_are_named(limit):
    costs = mj.paths.stage_costs(np.zeros((3, 2)), np.zeros((2, 2)), np.zeros(2), n_stages=2)
    with pytest.raises(ValueError, match="`max_hops` must be"):
        mj.paths.free_energy(costs, 1.0, max_hops=limit)


def test_hop_limits_need_costs_that_do_not_differ_by_stage():
    costs = mj.paths.stage_costs(np.zeros((3, 2)), np.zeros((1, 2, 2)), np.zeros(2))
    with pytest.raises(ValueError, match="the same at every stage"):
        mj.paths.free_energy(costs, 1.0, max_hops=1)
