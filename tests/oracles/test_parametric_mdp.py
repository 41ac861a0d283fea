"""`ParametricMDP` against closed forms, other problems, NumPy and brute force."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import mdp
from mepjax.datasets import small_cells

from ..jitted import jitted
from ..registry import row_named
from . import mdp_numpy as oracle

KEY = jax.random.key(0)


@pytest.mark.parametrize("m", [2, 3])
def test_the_first_transition_is_the_closed_form(m):
    """Point 6: M cells at one place, each reaching all cells and the base."""
    with jax.enable_x64(True):
        network = small_cells(9, m, seed=3)
        x, z = np.asarray(network.users), np.asarray(network.base)
        half = (x.mean(0) - z) / 2
        pull = np.cov(x.T, bias=True) + 2 * m / (m + 1) * np.outer(half, half)
        expected = (m + 1) / np.linalg.eigvalsh(pull)[-1]
        problem = network.problem()
        start = problem.init(KEY)
        np.testing.assert_allclose(start, np.tile((x.mean(0) + z) / 2, (m, 1)), atol=1e-12)
        np.testing.assert_allclose(problem.beta_scale(), expected, rtol=1e-9)


def tables(problem, params):
    """p (n, a, n) and c (n, a, n) in NumPy, rebuilt from the problem's own places."""
    places = np.array(problem.unknowns.states)
    places[np.asarray(problem.unknowns.state_index)] = np.asarray(params)
    state, action, after = problem.kernel.graph()
    n, a = problem.kernel.n_states, problem.kernel.n_actions
    p = np.zeros((n, a, n))
    weight = np.broadcast_to(
        np.asarray(problem.kernel.probabilities()), np.shape(problem.kernel.probabilities())
    )
    np.add.at(p, (state, action, after), weight[weight > 0])
    c = ((places[:, None, :] - places[None, :, :]) ** 2).sum(-1)
    return p, np.broadcast_to(c[:, None, :], p.shape)


@pytest.mark.parametrize(
    ("name", "entropy"), [("parametric-mdp", "prior"), ("parametric-mdp-paths", "paths")]
)
def test_free_energy_policy_and_hard_plan_are_those_of_numpy(name, entropy):
    with jax.enable_x64(True):
        problem = row_named(name).build(np.float64)
        params = jnp.asarray([[0.3, 0.4], [1.5, 0.1]])
        p, c = tables(problem, params)
        c = c + np.asarray(problem.extra_costs)[..., None]
        allowed = np.asarray(problem.permitted)
        q = allowed / allowed.sum(1, keepdims=True)
        terminal, discount = np.asarray(problem.terminal), float(problem.discount)

        @jax.jit
        def of(beta):
            terms = problem.terms(params, beta)
            return (
                terms.free_energy,
                terms,
                problem.policy(params, beta),
                problem.state_values(params, beta),
            )

        c = np.where(allowed[..., None], c, 1e6) if entropy == "prior" else c
        for beta in (0.3, 3.0, 300.0):
            if entropy != "prior" and beta < 3:
                continue
            values, _ = oracle.soft_values(p, c, beta, discount, entropy, q, terminal)
            energy, terms, policy, found = of(beta)
            np.testing.assert_allclose(found, values, rtol=1e-9, atol=1e-11)
            np.testing.assert_allclose(energy, problem.start @ values, rtol=1e-9)
            mu = np.exp(policy)
            paid = oracle.evaluate(p, c, mu, beta, discount, entropy, q, terminal)
            np.testing.assert_allclose(paid, values, rtol=1e-8, atol=1e-10)
            cost = oracle.evaluate(p, c, mu, np.inf, discount, "policy", q, terminal)
            np.testing.assert_allclose(terms.distortion, problem.start @ cost, rtol=1e-8)
        hard = problem.harden(params)
        best, _ = oracle.soft_values(p, c, np.inf, discount, "prior", q, terminal)
        np.testing.assert_allclose(hard.values, best, rtol=1e-9, atol=1e-11)


def test_one_step_towards_unknown_actions_is_clustering():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, k = rng.normal(size=(12, 2)), 3
        kernel = mdp.Deterministic(np.full((13, k), 12))
        problem = mj.ParametricMDP(
            kernel, state_params=np.concatenate([x, [[0.0, 0.0]]]), terminal=[12],
            action_params=np.zeros((k, 2)), unknown_actions=range(k),
        )  # fmt: skip
        same = mj.Clustering(jnp.asarray(x), k)
        y = jnp.asarray(rng.normal(size=(k, 2)))
        for beta in (0.3, 5.0):
            np.testing.assert_allclose(
                jitted.free_energy(problem, y, beta),
                jitted.free_energy(same, y, beta) + np.log(k) / beta, rtol=1e-12,
            )  # fmt: skip
            np.testing.assert_allclose(
                problem.policy(y, beta)[:12], same.policy(y, beta), atol=1e-11
            )
            np.testing.assert_allclose(
                jitted.update(problem, y, beta), jitted.update(same, y, beta), atol=1e-11
            )
            np.testing.assert_allclose(
                jitted.residual(problem, y, beta), jitted.residual(same, y, beta), atol=1e-11
            )
        np.testing.assert_allclose(problem.beta_scale(), same.beta_scale(), rtol=1e-9)
        np.testing.assert_allclose(problem.init(KEY), same.init(KEY), atol=1e-12)


def test_noisy_steps_to_unknown_states_are_clustering_with_autonomy():
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        x, k = rng.normal(size=(10, 2)), 3
        override = 0.3 * rng.dirichlet(np.ones(k), k) + 0.7 * np.eye(k)
        p = np.zeros((13, k, 13))
        p[:10, :, 10:] = override
        p[10:, :, 12] = 1
        problem = mj.ParametricMDP(
            mdp.Dense(p), state_params=np.concatenate([x, np.zeros((k, 2))]),
            unknown_states=[10, 11, 12], terminal=[10, 11, 12],
        )  # fmt: skip
        autonomy = mj.autonomy.Matrix(jnp.asarray(override))
        same = mj.Clustering(jnp.asarray(x), k, autonomy=autonomy)
        y = jnp.asarray(rng.normal(size=(k, 2)))
        for beta in (0.3, 5.0):
            shifted = jitted.free_energy(same, y, beta) + np.log(k) / beta
            np.testing.assert_allclose(jitted.free_energy(problem, y, beta), shifted, rtol=1e-12)
            np.testing.assert_allclose(
                jitted.update(problem, y, beta), jitted.update(same, y, beta), atol=1e-11
            )


@pytest.mark.slow
def test_sensitivities_are_derivatives_of_solutions():
    """By the envelope theorem: those of F after solving again, by finite differences."""
    with jax.enable_x64(True):
        problem = row_named("parametric-mdp").build(np.float64)
        schedule = mj.Explicit([1.0, 4.0])
        solution = mj.anneal(problem, schedule, key=KEY)
        found = problem.sensitivities(solution.params, solution.beta)

        def solved(places, discount):
            moved = eqx.tree_at(
                lambda q: (q.unknowns.states, q.discount), problem, (places, discount)
            )
            return mj.anneal(moved, schedule, key=KEY).free_energy

        places, step = problem.unknowns.states, 1e-5
        for row in found.ranked("states")[:2]:
            change = jnp.zeros_like(places).at[row, 0].set(step)
            up, down = (solved(places + s * change, problem.discount) for s in (1, -1))
            np.testing.assert_allclose(found.states[row, 0], (up - down) / (2 * step), rtol=1e-5)
        up, down = (solved(places, problem.discount + s * step) for s in (1, -1))
        np.testing.assert_allclose(found.discount, (up - down) / (2 * step), rtol=1e-5)
        np.testing.assert_allclose(found.start @ problem.start, solution.free_energy, rtol=1e-10)
        assert np.all(found.states[np.asarray(problem.unknowns.state_index)] == 0)
        with pytest.raises(ValueError, match="actions have no parameters"):
            found.ranked("actions")


def test_free_waiting_does_not_trap_the_hard_plan():
    """Cells at one place: staying costs nothing and is as good as going on."""
    with jax.enable_x64(True):
        problem = small_cells(6, 3, seed=1).problem()
        together = jnp.broadcast_to(jnp.asarray([0.4, 0.6]), (3, 2))
        hard = problem.harden(together)
        assert int(hard.code) == 0
        direct = jnp.sum((together[0] - problem.unknowns.states[-1]) ** 2)
        np.testing.assert_allclose(hard.values[6:9], direct, rtol=1e-12)
        routes = np.asarray(problem.routes(together))
        assert (routes[:6].max(axis=1) == 9).all()


# Users 0 and 1 reach the base, 4, by cells 2 and 3, which may also hand on to each other.
HANDING_ON = mdp.Deterministic([[2, 3], [2, 3], [3, 4], [2, 4], [4, 4]])


@pytest.mark.parametrize("entropy", ["prior", "policy"])
def test_handing_on_for_ever_is_unbounded(entropy):
    """At one place, once round costs twice the price of a hop; nothing else matters."""
    places = jnp.array([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0], [4.0, 1.0]])

    @jax.jit
    def solved(price, beta):
        problem = mj.ParametricMDP(
            HANDING_ON, state_params=places, unknown_states=[2, 3], terminal=[4],
            extra_costs=price * jnp.ones((5, 2)), entropy=entropy,
        )  # fmt: skip
        together = jnp.array([[2.0, 1.0], [2.0, 1.0]])
        code = problem.constraint_code(together, beta)
        return problem.free_energy(together, beta), code

    # Once on costs exp(-beta price), and half of that relative to the prior.
    share = 0.5 if entropy == "prior" else 1.0
    for price, beta in ((-0.2, 4.0), (-0.2, 8.0), (0.1, 1.0), (0.1, 20.0)):
        radius = share * np.exp(-beta * price)
        energy, code = solved(price, beta)
        if radius > 1:
            assert int(code) == mj.Code.UNBOUNDED
            continue
        # z of a cell is radius z + share exp(-beta (length + price)).
        onward = share * np.exp(-beta * (4.0 + price))
        z = onward / (1 - radius)
        lengths = np.array([5.0, 2.0])
        users = lengths + price - np.log(2 * share * z) / beta
        assert int(code) == mj.Code.OK
        np.testing.assert_allclose(energy, users.mean(), rtol=1e-5)


def test_counted_entropy_is_finite_above_a_beta_that_is_known():
    """M cells at one place, a price h per hop: M exp(-beta h) = 1."""
    with jax.enable_x64(True):
        m, price = 3, 0.2
        network = small_cells(6, m, seed=1)
        options = {"entropy": "policy", "extra_costs": price * np.ones((10, m + 1))}
        problem = network.problem(**options)
        floor = jax.jit(lambda q: q.beta_floor())(problem)
        np.testing.assert_allclose(floor, np.log(m) / price, rtol=1e-12)
        together = jnp.broadcast_to(jnp.asarray([0.4, 0.6]), (m, 2))
        apart = jnp.asarray([[0.1, 0.2], [0.9, 0.8], [0.3, 0.7]])
        at = jax.jit(lambda q, cells: q.critical_beta(cells))
        np.testing.assert_allclose(at(problem, together), floor, rtol=1e-12)
        # Cells apart: the spectral radius of exp(-beta (length + price)) among them is one.
        lengths = ((apart[:, None] - apart[None]) ** 2).sum(-1) + price
        radius = np.abs(np.linalg.eigvals(np.exp(-at(problem, apart) * lengths))).max()
        np.testing.assert_allclose(radius, 1.0, rtol=1e-12)
        codes = jax.jit(lambda beta: problem.constraint_code(together, beta))
        assert int(codes(0.99 * floor)) == mj.Code.UNBOUNDED and int(codes(1.01 * floor)) == 0
        # Without a price cells at one place hand on for nothing; relative to a prior all is well.
        assert network.problem(entropy="policy").beta_floor() == np.inf
        assert network.problem().beta_floor() == 0
        # Transitions that are traced do not tell.
        kernel: Any = network.kernel
        p = jax.nn.one_hot(kernel.next, 10)
        given = {"state_params": problem.unknowns.states, "unknown_states": [6, 7, 8]}
        given |= {"terminal": [9], "entropy": "policy"}
        floors = jax.jit(lambda p: mj.ParametricMDP(mdp.Dense(p), **given).beta_floor())
        assert np.isnan(floors(p))


@pytest.mark.slow
def test_counted_entropy_is_annealed_above_its_floor():
    with jax.enable_x64(True):
        network = small_cells(6, 2, seed=1)
        prices = 0.2 * np.ones((9, 3))
        problem = network.problem(entropy="policy", extra_costs=prices)
        assert float(problem.beta_scale()) >= 2 * float(problem.beta_floor())
        solution = mj.anneal(problem, key=KEY, detector=mj.Detector())
        assert solution.raise_if_failed().trace.beta[0] > solution.beta_floor > 0
        low = mj.anneal(problem, mj.Explicit([1.0]), key=KEY)
        with pytest.raises(mj.SolveError, match=r"UNBOUNDED.*finite above beta = 3\.46573"):
            low.raise_if_failed()


def test_bad_input_is_told():
    kernel = mdp.Deterministic([[1], [2], [2]])
    good = {"state_params": jnp.zeros((3, 2)), "unknown_states": [1], "terminal": [2]}

    def build(**change):
        return mj.ParametricMDP(kernel, **(good | change))

    with pytest.raises(TypeError, match="`kernel` must be a transition kernel"):
        mj.ParametricMDP([[1]], **good)
    with pytest.raises(ValueError, match="`unknown_states` must not name a parameter twice; got 1"):
        build(unknown_states=[1, 1])
    with pytest.raises(ValueError, match="must name at least one parameter"):
        build(unknown_states=None)
    with pytest.raises(ValueError, match=r"`unknown_states` must be in \[0, 2\]; got 5"):
        build(unknown_states=[5])
    with pytest.raises(ValueError, match=r"`state_params` must have shape \(3, coordinates\)"):
        build(state_params=jnp.zeros((4, 2)))
    with pytest.raises(ValueError, match="`state_params` must be finite; got 1 NaN"):
        build(state_params=jnp.zeros((3, 2)).at[0, 0].set(jnp.nan))
    with pytest.raises(ValueError, match=r"`discount` must be in \(0, 1\]; got 0"):
        build(discount=0.0)
    with pytest.raises(ValueError, match="state 0 cannot reach a terminal state"):
        mj.ParametricMDP(mdp.Deterministic([[1], [0], [2]]), **good)
    two = mdp.Deterministic([[1, 0], [2, 0], [2, 2]])
    stays = jnp.asarray([[0.0, 1.0], [0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(ValueError, match="from state 0 it never reaches a terminal state"):
        mj.ParametricMDP(two, **good, prior=stays)
    with pytest.raises(ValueError, match=r"`extra_costs` must have shape \(3, 1\)"):
        build(extra_costs=jnp.zeros((3, 3)))
    with pytest.raises(ValueError, match="`entropy` must be one of"):
        build(entropy="none")
    with pytest.raises(TypeError, match="`cost` must be the name of a cost"):
        build(cost="furlongs")
    with pytest.raises(ValueError, match="`cost` must return a scalar"):
        build(cost=lambda s, a, n: s).free_energy(jnp.zeros((1, 2)), 1.0)
    with pytest.raises(ValueError, match="`unknown_actions` needs `action_params`"):
        build(unknown_actions=[0])
    with pytest.raises(ValueError, match="places must have shape"):
        build().at(jnp.zeros((2, 2)))
    with pytest.raises(ValueError, match="`extra_costs` must not add up to less than 0"):
        mj.ParametricMDP(two, **good, extra_costs=-jnp.ones((3, 2)))
    # Once from state 0 to itself, which stands still.
    free = jnp.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    mj.ParametricMDP(two, **good, extra_costs=free)
