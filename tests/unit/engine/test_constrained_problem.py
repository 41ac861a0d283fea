"""The contract's prices and gauge, on the smallest problem that has both."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

import mepjax as mj
from mepjax._core import gibbs

KEY = jax.random.key(0)


class Hard(eqx.Module):
    cost: jax.Array


class SizedClusters(mj.Problem):
    """Clusters of given sizes: prices added to the costs, so that usage equals the shares.

    Adding a constant to all prices changes nothing but F: a gauge.
    """

    x: jax.Array
    shares: jax.Array

    def _costs(self, params):
        squares = jnp.sum((self.x[:, None] - params.primal[None]) ** 2, axis=-1)
        return squares + params.dual

    def init(self, key):
        centres = jnp.broadcast_to(self.x.mean(axis=0), (2, self.x.shape[1]))
        return mj.Params(centres, jnp.zeros(2, self.x.dtype))

    def free_energy(self, params, beta):
        rho = jnp.full(len(self.x), 1 / len(self.x), self.x.dtype)
        energy = gibbs.free_energy(self._costs(params), rho, beta)
        return energy - self.shares @ params.dual

    def update(self, params, beta):
        # Prices first, at fixed centres: updating both at once would cycle.
        for _ in range(20):
            usage = gibbs.policy(self._costs(params), beta).mean(axis=0)
            prices = params.dual + (jnp.log(usage) - jnp.log(self.shares)) / beta
            params = mj.Params(params.primal, prices - prices.mean())
        pi = gibbs.policy(self._costs(params), beta)
        return mj.Params(pi.T @ self.x / pi.sum(axis=0)[:, None], params.dual)

    def residual(self, params, beta):
        gradient = jax.grad(self.free_energy)(params, beta)
        # The gauge is fixed by nothing here: the engine has to take care of it.
        return gradient

    def metric(self, params, beta):
        usage = gibbs.policy(self._costs(params), beta).mean(axis=0)
        diagonal = jnp.broadcast_to(2 * usage[:, None], params.primal.shape)
        return lx.DiagonalLinearOperator(diagonal)

    def policy(self, params, beta):
        return gibbs.log_policy(self._costs(params), beta)

    def terms(self, params, beta):
        rho = jnp.full(len(self.x), 1 / len(self.x), self.x.dtype)
        pi = gibbs.policy(self._costs(params), beta)
        squares = self._costs(params) - params.dual
        _, entropy = gibbs.distortion_and_entropy(self._costs(params), rho, beta)
        distortion = jnp.sum(rho[:, None] * pi * squares)
        energy = self.free_energy(params, beta)
        return mj.Terms(energy, distortion, entropy, pi.mean(axis=0) - self.shares)

    def harden(self, params):
        costs = self._costs(params) - params.dual
        return Hard(jnp.mean(jnp.min(costs, axis=1)))

    def at(self, values):
        return mj.Params(values, jnp.zeros(2, values.dtype))

    def gauge(self, params):
        return mj.Params(jnp.zeros((1, *params.primal.shape)), jnp.ones((1, 2)))

    def default_solver(self):
        return mj.FixedPoint()


def build(x=None, shares=(0.3, 0.7)):
    rng = np.random.default_rng(0)
    if x is None:
        x = np.concatenate([rng.normal(-1, 0.4, (10, 1)), rng.normal(1, 0.4, (10, 1))])
    return SizedClusters(jnp.asarray(x), jnp.asarray(shares))


def solve(problem):
    return mj.anneal(problem, mj.Geometric(0.1, 5.0, 1.2), key=KEY)


def test_usage_meets_the_shares_and_terms_add_up():
    problem = build()
    solution = solve(problem).raise_if_failed()
    policy = jnp.exp(problem.policy(solution.params, solution.beta))
    np.testing.assert_allclose(policy.mean(axis=0), problem.shares, atol=1e-9)
    means = policy.T @ problem.x / policy.sum(axis=0)[:, None]
    np.testing.assert_allclose(solution.params.primal, means, atol=1e-9)
    terms = problem.terms(solution.params, solution.beta)
    total = terms.distortion - terms.entropy / 5.0 + solution.params.dual @ terms.constraints
    np.testing.assert_allclose(total, solution.free_energy, rtol=1e-9)


def test_detector_sees_the_primal_by_the_schur_complement():
    problem = build(shares=(0.5, 0.5))
    # Equal shares: coincident centres stay a fixed point, and prices stay zero by symmetry, so
    # the first transition is that of plain clustering.
    expected = 1 / (2 * np.var(problem.x))
    start = problem.init(KEY)
    np.testing.assert_allclose(mj.critical_beta(problem, start, 0.05), expected, rtol=1e-9)
    np.testing.assert_allclose(solve(problem).transitions[0], expected, rtol=1e-9)


def test_gradients_through_prices_match_finite_differences():
    problem = build()
    rng = np.random.default_rng(1)

    @eqx.filter_jit
    def loss(problem):
        params = solve(problem).params
        # Differences of prices only: their mean is gauge.
        return jnp.sum(jnp.sin(params.primal)) + params.dual[0] - params.dual[1]

    gradient = eqx.filter_jit(eqx.filter_grad(loss))(problem)
    step = 1e-5
    changes = {
        "x": (lambda q: q.x, rng.normal(size=problem.x.shape)),
        "shares": (lambda q: q.shares, np.array([1.0, -1.0])),
    }
    for name, (get, change) in changes.items():
        moved = [eqx.tree_at(get, problem, get(problem) + sign * step * change) for sign in (1, -1)]
        expected = (loss(moved[0]) - loss(moved[1])) / (2 * step)
        got = jnp.sum(get(gradient) * change)
        np.testing.assert_allclose(got, expected, rtol=1e-6, err_msg=name)


class OwnSolve(SizedClusters):
    """Says how to solve for its prices, which so are never formed."""

    def eliminated_solve(self, params, beta):
        usage = gibbs.policy(self._costs(params), beta)
        block = -beta * (jnp.diag(usage.mean(axis=0)) - usage.T @ usage / len(self.x))

        def solve(vector):
            # One price may stay: only differences matter.
            return jnp.zeros_like(vector).at[0].set(vector[0] / block[0, 0])

        return solve


def test_a_problems_own_solve_for_its_prices_gives_the_same_curvature():
    problem = build()
    params = solve(problem).params
    own = OwnSolve(problem.x, problem.shares)
    for beta in (0.7, 5.0):
        expected = mj.curvature(problem, params, beta)
        np.testing.assert_allclose(mj.curvature(own, params, beta), expected, rtol=1e-9)


def test_float32_data_with_a_capacity_work_where_float64_is_on():
    # The tests run with float64 on: whatever the detector forms must take the data's precision.
    x = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    problem = mj.Clustering(x, 2, capacity=np.array([0.4, 0.7], np.float32))
    solution = mj.anneal(problem, mj.Geometric(0.3, 3.0, 2.0), key=KEY).raise_if_failed()
    curvature = mj.curvature(problem, solution.params, solution.beta)
    assert {curvature.dtype, *(leaf.dtype for leaf in jax.tree.leaves(solution.params))} == {
        jnp.dtype(jnp.float32)
    }
    wide = mj.Clustering(x.astype(float), 2, capacity=np.array([0.4, 0.7]))
    params = jax.tree.map(lambda leaf: leaf.astype(float), solution.params)
    np.testing.assert_allclose(curvature, mj.curvature(wide, params, 3.0), atol=1e-4)
