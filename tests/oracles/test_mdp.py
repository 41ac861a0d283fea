"""`mepjax.mdp` against NumPy, brute force and finite differences."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import mdp

from . import mdp_numpy as oracle

N, A = 5, 3


def model(seed, discount, *, terminal=False, kind="dense") -> Any:
    p, costs = oracle.random_mdp(seed, N, A, terminal=terminal)
    end = [N - 1] if terminal else None
    if kind == "dense":
        return mdp.MDP(mdp.Dense(p), costs, discount=discount, terminal=end), p, costs
    s, a, n = np.nonzero(p)
    order = np.random.default_rng(0).permutation(len(s))
    kernel = mdp.Sparse(s[order], a[order], n[order], p[s, a, n][order], n_states=N)
    pair = np.argsort(s[order] * A + a[order], kind="stable")
    edge = costs[s, a, n][order][pair]
    return mdp.MDP(kernel, edge, discount=discount, terminal=end), p, costs


@pytest.mark.parametrize(
    ("entropy", "kind"),
    [("prior", "dense"), ("prior", "sparse"), ("policy", "dense"), ("paths", "sparse")],
)
def test_values_and_policies_are_those_of_numpy(entropy, kind):
    with jax.enable_x64(True):
        m, p, costs = model(1, 1.0, terminal=True, kind=kind)
        terminal = np.arange(N) == N - 1
        lanes = [(0.9, 0.7), (0.6, 40.0), (1.0, 3.0)]

        @jax.jit
        @jax.vmap
        def run(discount, beta):
            moved = eqx.tree_at(lambda q: q.discount, m, discount)
            return mdp.solve(moved, beta, entropy=entropy)

        all_found = run(*map(jnp.asarray, zip(*lanes, strict=True)))
        for lane, (discount, beta) in enumerate(lanes):
            found = jax.tree.map(lambda leaf, lane=lane: leaf[lane], all_found)
            found.raise_if_failed()
            values, total = oracle.soft_values(p, costs, beta, discount, entropy, terminal=terminal)
            np.testing.assert_allclose(found.values, values, rtol=1e-9, atol=1e-10)
            np.testing.assert_allclose(found.action_values[:-1], total[:-1], rtol=1e-9)
            if discount < 1:
                assert (found.lower <= values + 1e-9).all() and (values <= found.upper + 1e-9).all()
                np.testing.assert_allclose(found.lower, found.upper, atol=1e-8)
            # What the policy costs is the value: nothing is left out of either.
            policy = np.exp(found.log_policy)
            paid = oracle.evaluate(p, costs, policy, beta, discount, entropy, terminal=terminal)
            np.testing.assert_allclose(paid, values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("discount", [0.8, 1.0])
@pytest.mark.parametrize(
    "method", [None, mdp.ModifiedPolicyIteration(sweeps=3), mdp.ValueIteration()]
)
def test_hard_values_are_the_best_of_all_policies(discount, method):
    with jax.enable_x64(True):
        ends = discount == 1
        m, p, costs = model(2, discount, terminal=ends)
        terminal = (np.arange(N) == N - 1) if ends else None
        found = mdp.solve(m, method=method)
        found.raise_if_failed()
        best = oracle.hard_values(p, costs, discount, terminal)
        np.testing.assert_allclose(found.values, best, rtol=1e-9, atol=1e-9)
        chosen = np.eye(A)[np.asarray(found.actions)]
        paid = oracle.evaluate(p, costs, chosen, np.inf, discount, "prior", terminal=terminal)
        np.testing.assert_allclose(paid, best, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("entropy", ["prior", "policy"])
def test_no_policy_is_better_by_random_search(entropy):
    """Row 1: the fixed point minimises E sum discount^t (c + log mu / beta)."""
    with jax.enable_x64(True):
        m, p, costs = model(3, 0.7)
        found = mdp.solve(m, 1.5, entropy=entropy)
        start = np.full(N, 1 / N)

        def objective(policy):
            return start @ oracle.evaluate(p, costs, policy, 1.5, 0.7, entropy)

        least = oracle.simplex_minimum(objective, (N, A), np.random.default_rng(0), 1500)
        assert least >= start @ found.values - 1e-10
        assert least <= start @ found.values + 1e-3


def test_transitions_of_paths_cancel_relative_to_a_prior_and_thesis_beta_is_a_temperature():
    """Row 8 and point 4: (3.10) is the counted path entropy at temperature discount / beta."""
    with jax.enable_x64(True):
        m, p, costs = model(4, 0.65)
        thesis, discount = 2.0, 0.65
        found = mdp.solve(m, mdp.thesis_beta(thesis, discount), entropy="paths")
        c, v = (p * costs).sum(-1), np.zeros(N)
        log_p = np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(-1)
        for _ in range(500):  # (3.10), as printed: discount / beta before the logarithm
            inner = c + discount / thesis * log_p + discount * p @ v
            v = -discount / thesis * np.log(np.exp(-thesis / discount * inner).sum(1))
        np.testing.assert_allclose(found.values, v, rtol=1e-10)
        assert mdp.thesis_beta(thesis, discount, alpha=discount) == pytest.approx(thesis)


def test_bounds_and_limits_of_the_relative_form():
    """Point 1: 0 <= V <= J_prior at every beta, without discount too; it falls to the hard one."""
    with jax.enable_x64(True):
        m, p, costs = model(5, 1.0, terminal=True)
        terminal = np.arange(N) == N - 1
        uniform = np.full((N, A), 1 / A)
        of_prior = oracle.evaluate(p, costs, uniform, 1.0, 1.0, "prior", terminal=terminal)
        hard = oracle.hard_values(p, costs, 1.0, terminal)
        run = jax.jit(jax.vmap(lambda beta: mdp.solve(m, beta)))
        found = run(jnp.asarray([1e-9, 1e-3, 0.1, 1.0, 10.0, 1e3, 1e7]))
        assert (found.code == 0).all()
        np.testing.assert_allclose(found.values[0], of_prior, rtol=1e-7)
        np.testing.assert_allclose(found.values[-1], hard, rtol=1e-6)
        assert (np.diff(found.values, axis=0) <= 1e-9).all()
        assert (found.values >= hard - 1e-9).all()


def corridor(n, back=0.7):
    """A walk whose steps forward mostly fail and whose prior drifts backwards."""
    forward = np.zeros((n + 1, 2, n + 1))
    for s in range(n):
        forward[s, 0, min(s + 1, n)] = 1.0
        forward[s, 1, max(s - 2, 0)] = 1.0
    forward[n, :, n] = 1
    return forward


def test_policy_iteration_starts_from_a_proper_policy():
    """Point 7: the prior of a corridor that drifts backwards is worth e^100 and more."""
    with jax.enable_x64(True):
        n = 300
        m = mdp.MDP(mdp.Dense(corridor(n)), np.ones((n + 1, 2)), discount=1.0, terminal=[n])
        found = mdp.solve(m, 5.0)
        found.raise_if_failed()
        assert int(found.steps) <= 10
        # One action at a time: going forward costs 1 + log 2 / 5, less what turning back offers.
        assert 0.9 * n < found.values[0] < n * (1 + np.log(2) / 5)
        assert (np.diff(found.values) < 0).all()
        np.testing.assert_allclose(mdp.solve(m).values, np.arange(n, -1, -1.0))


@pytest.mark.parametrize("entropy", ["prior", "paths"])
def test_gradients_match_finite_differences(entropy):
    with jax.enable_x64(True):
        m, _, _ = model(6, 0.9)
        rng = np.random.default_rng(1)
        direction = rng.normal(size=m.kernel.p.shape)
        direction -= direction.mean(-1, keepdims=True)
        change = 0.05 * direction * np.asarray(m.kernel.p)
        change -= np.asarray(m.kernel.p) * change.sum(-1, keepdims=True)
        other = rng.normal(size=m.costs.shape)

        def value(t):
            moved = eqx.tree_at(
                lambda q: (q.kernel.p, q.costs, q.discount), m,
                (m.kernel.p + t * change, m.costs + t * other, m.discount + 0.1 * t),
            )  # fmt: skip
            return jnp.sum(jnp.sin(mdp.solve(moved, 2.0 + t, entropy=entropy).values))

        step = 1e-5
        expected = (value(step) - value(-step)) / (2 * step)
        np.testing.assert_allclose(jax.grad(value)(0.0), expected, rtol=1e-6)
        np.testing.assert_allclose(jax.jacfwd(value)(0.0), expected, rtol=1e-6)
        second = (value(1e-4) - 2 * value(0.0) + value(-1e-4)) / 1e-8
        np.testing.assert_allclose(jax.hessian(value)(0.0), second, rtol=1e-4)


def test_kernels_agree():
    with jax.enable_x64(True):
        chances = np.array([0.8, 0.2])

        def after(s, a, e):
            return (s + jnp.where(e == 0, a - 1, 1)) % N

        kernel = mdp.Functional(after, chances, n_states=N, n_actions=A)
        p = np.zeros((N, A, N))
        for s in range(N):
            for a in range(A):
                for e in range(2):
                    p[s, a, (s + (a - 1 if e == 0 else 1)) % N] += chances[e]
        dense, values = mdp.Dense(p), jnp.asarray(np.random.default_rng(0).normal(size=N))
        s, a, n = np.nonzero(p)
        sparse = mdp.Sparse(s, a, n, p[s, a, n])
        actions = jnp.asarray([0, 2, 1, 1, 0], jnp.int32)
        mixed = jnp.asarray(np.random.default_rng(1).dirichlet(np.ones(A), N))
        for other in (kernel, sparse):
            np.testing.assert_allclose(other.expect(values), dense.expect(values), atol=1e-14)
            for policy in (actions, mixed):
                chain, same = other.under(policy), dense.under(policy)
                np.testing.assert_allclose(chain.matrix(), same.matrix(), atol=1e-14)
                np.testing.assert_allclose(chain.mv(values), same.mv(values), atol=1e-14)
        np.testing.assert_allclose(sparse.entropy(), dense.entropy(), atol=1e-14)
        one = mdp.Deterministic(np.argmax(p, -1))
        hard = mdp.Dense(np.eye(N)[np.argmax(p, -1)])
        for policy in (actions, mixed):
            np.testing.assert_allclose(
                one.under(policy).matrix(), hard.under(policy).matrix(), atol=1e-15
            )
        # Samples have the kernel's frequencies.
        uniform = (jnp.arange(2000) + 0.5) / 2000
        for k in (dense, sparse, kernel, one):
            drawn = jax.vmap(lambda u, k=k: k.sample(u, 3, 2))(uniform)
            expected = (hard if k is one else dense).p[3, 2]
            np.testing.assert_allclose(np.bincount(drawn, minlength=N) / 2000, expected, atol=1e-3)
        # Parts are blocks.
        rows, columns = np.array([3, 1]), np.array([1, 4, 3])
        block = dense.take(dense.part(rows, columns)).p
        np.testing.assert_allclose(block, p[rows][:, :, columns])
        few = sparse.take(sparse.part(rows, columns))
        np.testing.assert_allclose(few.expect(values[:3]), block @ values[:3], atol=1e-14)
        few = one.take(one.part(rows, columns))
        np.testing.assert_allclose(
            few.expect(values[:3]), hard.p[rows][:, :, columns] @ values[:3], atol=1e-14
        )


def test_bad_input_is_told():
    p, costs = oracle.random_mdp(0, N, A)
    kernel = mdp.Dense(jnp.asarray(p, jnp.float32))
    costs = jnp.asarray(costs, jnp.float32)
    with pytest.raises(TypeError, match="`kernel` must be a transition kernel"):
        mdp.MDP(p, costs, discount=0.9)
    with pytest.raises(ValueError, match=r"`costs` must have shape \(5, 3\) or \(5, 3, 5\)"):
        mdp.MDP(kernel, costs[:2], discount=0.9)
    with pytest.raises(ValueError, match=r"`discount` must be in \(0, 1\]; got 1.5"):
        mdp.MDP(kernel, costs, discount=1.5)
    with pytest.raises(ValueError, match="rows of `p` must sum to one"):
        mdp.MDP(mdp.Dense(kernel.p.at[0, 0, 0].add(0.1)), costs, discount=0.9)
    with pytest.raises(ValueError, match="`costs` must be finite; got 1 NaN"):
        mdp.MDP(kernel, costs.at[0, 0, 0].set(jnp.nan), discount=0.9)
    with pytest.raises(ValueError, match="state 0 cannot reach a terminal state"):
        mdp.MDP(kernel, costs, discount=1.0)
    with pytest.raises(ValueError, match="must leave every state an action; state 2 has none"):
        mdp.MDP(
            kernel, costs, discount=0.9, permitted=(np.arange(N) != 2)[:, None] & np.ones(A, bool)
        )
    with pytest.raises(ValueError, match="`terminal` must be in"):
        mdp.MDP(kernel, costs, discount=0.9, terminal=[7])
    with pytest.raises(ValueError, match="`next` must be in"):
        mdp.MDP(mdp.Deterministic([[0, 9], [1, 1]]), jnp.ones((2, 2)), discount=0.9)
    with pytest.raises(ValueError, match="edges of a state and action must have `p` of sum one"):
        mdp.MDP(
            mdp.Sparse([0, 1], [0, 0], [1, 0], jnp.asarray([0.5, 1.0])), jnp.ones(2), discount=0.9
        )
    model = mdp.MDP(kernel, costs, discount=0.9)
    with pytest.raises(ValueError, match="`beta` must be > 0; got -1"):
        mdp.solve(model, -1.0)
    with pytest.raises(ValueError, match="`entropy` must be one of"):
        mdp.solve(model, 1.0, entropy="none")
    with pytest.raises(ValueError, match="`init` must be finite; got 5 NaN"):
        mdp.solve(model, 1.0, init=jnp.full(N, jnp.nan, jnp.float32))
    found = jax.jit(lambda b: mdp.solve(model, b))(-1.0)
    assert int(found.code) == mj.Code.INVALID_INPUT
    with pytest.raises(ValueError, match="`beta` must be > 0; got -1"):
        found.raise_if_failed()


# States 0 and 1 go on or back to 0; 2 ends.
BACK = mdp.Deterministic([[1, 0], [2, 0], [2, 2]])
METHODS = [
    mdp.PolicyIteration(),
    mdp.ValueIteration(max_steps=2_000),
    mdp.ModifiedPolicyIteration(max_steps=300),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_counted_entropy_below_its_critical_beta_is_unbounded(method):
    """The oracle is the spectral radius of exp(-beta c), which is one at the critical beta."""
    costs = np.array([[1.0, 0.5], [1.0, 0.5], [0.0, 0.0]])

    def radius(beta):
        tilted = np.exp(-beta * costs[:2])
        return np.abs(np.linalg.eigvals([tilted[0, ::-1], [tilted[1, 1], 0.0]])).max()

    low, high = 0.1, 3.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if radius(middle) > 1 else (low, middle)
    model = mdp.MDP(BACK, jnp.asarray(costs, jnp.float32), discount=1.0, terminal=[2])
    solve = jax.jit(lambda beta: mdp.solve(model, beta, entropy="policy", method=method))
    for factor in (0.01, 0.3, 0.9, 0.98):
        assert int(solve(factor * low).code) == mj.Code.UNBOUNDED
    beta = 1.05 * low
    found, tilted = solve(beta), np.exp(-beta * costs)
    z = np.linalg.solve(
        np.eye(2) - [[tilted[0, 1], tilted[0, 0]], [tilted[1, 1], 0.0]], [0.0, tilted[1, 0]]
    )
    assert int(found.code) == mj.Code.OK
    np.testing.assert_allclose(found.values[:2], -np.log(z) / beta, rtol=1e-4)


# State 3 ends; 0 and 1 stay among themselves by four actions, 2 by one; some steps lead out.
LOOPS = np.zeros((4, 3, 4))
LOOPS[0] = [[0.3, 0.7, 0, 0], [0, 1, 0, 0], [0.5, 0, 0, 0.5]]
LOOPS[1] = [[1, 0, 0, 0], [0.6, 0.4, 0, 0], [0, 0, 1, 0]]
LOOPS[2] = [[0, 0, 1, 0], [0, 0, 0.5, 0.5], [0, 0, 0, 1]]
LOOPS[3, :, 3] = 1


@pytest.mark.parametrize("entropy", ["policy", "paths"])
def test_critical_beta_is_where_staying_pays(entropy):
    """By relative value iteration on every set of states that is listed, and bisection."""
    with jax.enable_x64(True):
        costs = np.random.default_rng(5).uniform(0.2, 2.0, LOOPS.shape)
        allowed = np.ones((4, 3), bool)
        allowed[3] = False
        sets = oracle.end_components(LOOPS, allowed)
        assert [list(np.flatnonzero(inside)) for inside, _ in sets] == [[0, 1], [2]]
        assert sets[0][1].sum() == 4 and sets[1][1].sum() == 1
        expected = oracle.critical_beta(LOOPS, costs, entropy, allowed)
        model = mdp.MDP(
            mdp.Dense(jnp.asarray(LOOPS)), jnp.asarray(costs), discount=1.0, terminal=[3]
        )
        found = mdp.critical_beta(model, entropy=entropy)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        below = mdp.solve(model, 0.99 * expected, entropy=entropy)
        with pytest.raises(mj.SolveError, match=f"finite above beta = {str(expected)[:6]}"):
            below.raise_if_failed()
        assert int(mdp.solve(model, 1.01 * expected, entropy=entropy).code) == mj.Code.OK


def test_critical_beta_of_free_cycles_and_of_none():
    free = mdp.MDP(BACK, jnp.zeros((3, 2)), discount=1.0, terminal=[2])
    assert mdp.critical_beta(free) == jnp.inf
    with pytest.raises(mj.SolveError, match="no beta is large enough"):
        mdp.solve(free, 3.0, entropy="policy").raise_if_failed()
    ways_out = mdp.Deterministic([[1, 2], [2, 2], [2, 2]])
    assert mdp.critical_beta(mdp.MDP(ways_out, jnp.ones((3, 2)), discount=1.0, terminal=[2])) == 0
    traced = jax.jit(
        lambda cost: mdp.critical_beta(mdp.MDP(BACK, cost, discount=0.9, terminal=[2]))
    )
    # Once round from 0 to 0 or by 1: x = exp(-beta) solves x + x^2 = 1.
    golden = -np.log((np.sqrt(5) - 1) / 2)
    np.testing.assert_allclose(traced(jnp.ones((3, 2))), golden, rtol=1e-5)
    with pytest.raises(ValueError, match="`entropy` must be one of .*; got 'prior'"):
        mdp.critical_beta(free, entropy="prior")
    with pytest.raises(TypeError, match="`model` must be an MDP; got int"):
        mdp.critical_beta(3)  # type: ignore


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_cycles_that_earn_without_discount_are_refused(method):
    costs = jnp.array([[1.0, 1.0], [1.0, -2.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="less than 0 along a cycle.*reached from state [01]"):
        mdp.MDP(BACK, costs, discount=1.0, terminal=[2])
    # With noise, or traced, only the solve can tell.
    noisy = mdp.Dense(0.95 * jax.nn.one_hot(BACK.next, 3) + 0.05 * jnp.array([0.0, 0.0, 1.0]))
    model = mdp.MDP(noisy, 10 * costs, discount=1.0, terminal=[2])
    assert int(mdp.solve(model, method=method).code) == mj.Code.OK  # It ends all the same.

    @jax.jit
    def code(back, beta):
        model = mdp.MDP(BACK, costs.at[1, 1].set(back), discount=1.0, terminal=[2])
        return mdp.solve(model, beta, method=method).code

    assert int(code(-2.0, 10.0)) == mj.Code.UNBOUNDED
    assert int(code(-0.5, 10.0)) == mj.Code.OK  # Costs .5 to go round.
    # The tilted radius at beta .1 is below one: relative to a prior it is finite there.
    assert int(code(-2.0, 0.1)) == mj.Code.OK


def test_what_a_prior_excludes_is_not_done_at_any_beta():
    """From state 1 the prior only goes back: a cost of 1 for ever, discounted 10 in all."""
    model = mdp.MDP(BACK, jnp.ones((3, 2)), discount=0.9, terminal=[2])
    back = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    for beta in (1.0, 1e6, jnp.inf):
        found = mdp.solve(model, beta, prior=back)
        np.testing.assert_allclose(found.values, [10.0, 10.0, 0.0], rtol=1e-5)
        assert found.actions[:2].tolist() == [0, 1]
    free = mdp.MDP(BACK, jnp.ones((3, 2)), discount=1.0, terminal=[2])
    with pytest.raises(ValueError, match="some policy of the `prior` must end.*state 0 cannot"):
        mdp.solve(free, 1.0, prior=back)
    # It may wait in state 0, and must go on from 1: 2 in all, and log 2 at beta 1 for the choice.
    ahead = jnp.array([[0.5, 0.5], [1.0, 0.0], [0.5, 0.5]])
    np.testing.assert_allclose(mdp.solve(free, jnp.inf, prior=ahead).values, [2.0, 1.0, 0.0])
    once = np.exp(-1.0) / 2
    np.testing.assert_allclose(
        mdp.solve(free, 1.0, prior=ahead).values[0], -np.log(once * np.exp(-1) / (1 - once)),
        rtol=1e-5,
    )  # fmt: skip
    shut = mdp.MDP(
        BACK, jnp.ones((3, 2)), discount=0.9, terminal=[2],
        permitted=np.array([[True, True], [True, False], [True, True]]),
    )  # fmt: skip
    with pytest.raises(ValueError, match="`prior` must give some permitted action.*state 1 has"):
        mdp.solve(shut, 1.0, prior=back)


def test_sparse_samples_keep_their_chances_among_many_edges_in_float32():
    """A sum over 300,000 edges has steps of 1/64 in float32."""
    n, chances = 100_000, np.array([0.98, 0.01, 0.01])
    state = np.repeat(np.arange(n), 3)
    after = (state + np.tile(np.arange(3), n)) % n
    kernel = mdp.Sparse(state, 0 * state, after, jnp.tile(jnp.float32(chances), n))
    uniform = (jnp.arange(1000) + 0.5) / 1000
    drawn = jax.vmap(lambda u: kernel.sample(u, n - 5, 0))(uniform)
    np.testing.assert_allclose(np.bincount(drawn - (n - 5), minlength=3) / 1000, chances, atol=1e-3)
