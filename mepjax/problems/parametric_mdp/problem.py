"""Sequential decisions whose states and actions have unknown parameters: para-SDM."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Int

from ..._core import trees
from ..._core.codes import Code, as_code, is_failing
from ..._core.params import Params, dual_of, join_params, primal_of, split_params
from ..._core.types import Scalar
from ...engine.curvature import find_critical_beta, random_start
from ...engine.problem import Terms
from ...engine.slot_spectrum import SlotSpectrum
from ...mdp.end_components import lowest_beta
from ...mdp.kernels.deterministic import Deterministic
from ...solvers.spectrum import SpectrumOptions
from .capacities import (
    charged,
    charges_of,
    code_at,
    condition,
    eliminated,
    gap_at,
    level_prices,
    price_gauge,
    worth,
)
from .decisions import decide, prior_traffic, started
from .growth import slot_spectrum, subsample
from .hard import HardPlan, routes
from .motion import Motion
from .places import middle
from .process import Process
from .sensitivities import PlanSensitivities, find_plan_sensitivities
from .staged import all_stages, staged_routes

_OWNER = "ParametricMDP"
# Default schedules start at half of the scale: a tenth above where counted entropy has no limit.
_ABOVE_FLOOR = 2.2


class ParametricMDP(Process):
    """A Markov decision process with parameters of states and actions that are to be placed.

    Minimises, over the unknown parameters and the policy, the mean over `start` of

        E sum_t discount^t cost(zeta_s, eta_a, zeta_s') - H / beta,

    with zeta the parameters of states and eta those of actions, and H the entropy of the policy
    relative to a prior, or counted. Policies are never listed: the values solve a soft Bellman
    equation. params is the array of unknown parameters, shape (unknown, d), of states or of
    actions; `Places(states, actions)` where both have some.

    **Arguments:**

    - `kernel`: a transition kernel of `mepjax.mdp`; it does not depend on the parameters.
    - `cost`: the name of a cost, such as `"sqeuclidean"`, or an instance of a smooth one of
        `mepjax.costs`: from the state to the next state or, with `action_params`, to the action.
        Or any differentiable function of (state, action, next state), each a vector of its
        parameters (the action `None` without `action_params`). To differentiate the function's
        own parameters make it an `equinox.Module`.
    - `state_params`: shape (states, d), in any units; rows of unknown ones are ignored. Known ones
        may be uncertain, `mepjax.paths.Samples` or (for squared distance) `Covariance`: costs are
        then expectations, states independent of each other.
    - `unknown_states`, `unknown_actions`: indices or boolean masks of what is to be found.
    - `action_params`: shape (actions, e).
    - `start`: distribution of the first state, shape (states,); default uniform over states that
        are neither terminal nor unknown.
    - `discount`: in (0, 1], default 1, where some policy has to end from every state.
    - `terminal`: indices or a mask of states at which all ends and nothing costs.
    - `permitted`: boolean (states, actions); default all.
    - `prior`: probabilities of actions, shape (states, actions); default uniform over permitted.
    - `entropy`: `"prior"` (default), relative to the prior, with which F comes down to the hard
        cost from above; `"policy"`, counted; `"paths"`, that of transitions counted too. Without
        discount the counted ones are finite above a critical beta only.
    - `extra_costs`: added to the cost of every action in every state, shape (states, actions),
        such as a price per hop.
    - `capacities`: a pair, or a list of pairs, of what is limited (`mdp.visits`, `mdp.entries`,
        `mdp.uses`, `mdp.takes`) and how much of it there may be in the discounted mean: an array is
        a bound (+inf for none), a `mepjax.Equal` is met exactly. params is then
        `Params(places, prices)`. Where something is not to be used at all, use `permitted`.
    - `horizon`: number of steps after which all ends; policies then differ by stage, have a leading
        axis of stages, and all entropies are finite at every beta. No state need be terminal.
    - `end_costs`: of being in a state when the horizon ends, shape (states,), default zero; +inf
        where that is not allowed, such as anywhere but at a terminal state.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was
    expected. Values that are traced become a result code instead.

    Source: parameterized sequential decision making, chapter 3 (Algorithm 3 is `anneal` of this);
    with entropy relative to a prior, which is finite at every beta.

    **Example:** two users reach the base through one relay; it is placed on their way.

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> from mepjax import mdp
    >>> kernel = mdp.Deterministic([[2], [2], [3], [3]])  # users 0 and 1, relay 2, base 3
    >>> places = jnp.array([[0.0, 1.0], [0.0, -1.0], [0.0, 0.0], [6.0, 0.0]])
    >>> problem = mj.ParametricMDP(
    ...     kernel, "sqeuclidean", state_params=places, unknown_states=[2], terminal=[3]
    ... )
    >>> sol = mj.anneal(problem, key=jax.random.key(0))
    >>> print(sol.params.round(1), f"{problem.harden(sol.params).cost:.2f}")
    [[3. 0.]] 19.00

    ```
    """

    def __init__(
        self, kernel: Any, cost: Any = "sqeuclidean", *, state_params: Any,
        unknown_states: Any = None, action_params: Any = None, unknown_actions: Any = None,
        start: Any = None, discount: Any = 1.0, terminal: Any = None, permitted: Any = None,
        prior: Any = None, entropy: str = "prior", extra_costs: Any = None,
        capacities: Any = None, horizon: int | None = None, end_costs: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(
            kernel, cost, state_params=state_params, unknown_states=unknown_states,
            action_params=action_params, unknown_actions=unknown_actions, start=start,
            discount=discount, terminal=terminal, permitted=permitted, prior=prior,
            entropy=entropy, extra_costs=extra_costs, capacities=capacities, horizon=horizon,
            end_costs=end_costs,
        )  # fmt: skip

    def _energy(self, costs: Float[Array, "s a"], beta: Scalar) -> Float[Array, ""]:
        return started(self, decide(self, costs, beta).values)

    def traffic(self, params: Any, beta: Scalar) -> Float[Array, "s a"]:
        """Expected discounted number of times every action is taken: dF / d cost."""
        return all_stages(self.counted_traffic(params, beta))

    def stage_traffic(self, params: Any, beta: Scalar) -> Float[Array, "k s a"]:
        """`traffic` of every stage of the horizon.

        **Raises:** `ValueError` without a horizon.
        """
        if self.horizon is None:
            raise ValueError(f"{_OWNER}: there is no `horizon`.")
        costs = charged(self, params)
        costs = jnp.broadcast_to(costs, (self.horizon, *costs.shape[-2:]))
        return jax.grad(self._energy)(costs, beta)

    def counted_traffic(self, params: Any, beta: Scalar) -> Float[Array, "*k s a"]:
        """`traffic` as capacities count it: by stage where there is a horizon."""
        if self.limits is not None and self.horizon is not None:
            return self.stage_traffic(params, beta)
        return jax.grad(self._energy)(charged(self, params), beta)

    def state_values(self, params: Any, beta: Scalar) -> Float[Array, " s"]:
        """Free energy from every state on."""
        return decide(self, charged(self, params), beta).values

    def usage(self, params: Any, beta: Scalar) -> Float[Array, " q"]:
        """Expected discounted use of everything that has a capacity, in their order.

        **Raises:** `ValueError` without capacities.
        """
        if self.limits is None:
            raise ValueError(f"{_OWNER}: there are no `capacities`.")
        return self.limits.used(self, self.counted_traffic(params, beta))

    # The contract.

    def init(self, key: Any) -> Any:
        """Where squared steps are least under the prior policy, the minimiser as beta -> 0.

        For other costs one step of Newton's method towards it from the mean of known parameters;
        places are then spread by 1 % of the data's size, since a distance has no derivative where
        they coincide. With capacities and a prior, at the decisions nearest to it that meet them.
        """
        start = middle(self.unknowns, among_states=self.step.cost is not None)
        if self.limits is None or self.entropy != "prior":
            flow = prior_traffic(self, self.costs(start))
        else:
            charges = charges_of(self, level_prices(self))
            flow = all_stages(jax.grad(self._energy)(charges, 1.0))
        placed = Motion(self, start, flow).best()
        if self.step.squared:
            return self.params_at(placed)
        kick = trees.normal_like(key, placed)
        return self.params_at(trees.axpy(0.01 * self.size(), kick, placed))

    def free_energy(self, params: Any, beta: Scalar) -> Float[Array, ""]:
        """Mean over the start distribution of the soft values."""
        return self._energy(charged(self, params), beta) - worth(self, params)

    def _motion(self, params: Any, beta: Scalar) -> Motion:
        return self._motion_of(params, self.counted_traffic(params, beta))

    def _motion_of(self, params: Any, traffic: Float[Array, "*k s a"]) -> Motion:
        return Motion(self, primal_of(params), all_stages(traffic))

    def update(self, params: Any, beta: Scalar) -> Any:
        """The best places for the present traffic, then the prices that suit them.

        For other costs than squared one step of Newton's method towards them.
        """
        best = self._motion(params, beta).best()
        return self.eliminate(join_params(best, dual_of(params)), beta)

    def residual(self, params: Any, beta: Scalar) -> Any:
        """grad F in the places; for capacities, use less limit, or -beta price below a bound.

        A parameter without traffic is undetermined, stays, and has no derivative.
        """
        return self._equation(self.counted_traffic(params, beta), params, beta)

    def _equation(self, traffic: Float[Array, "*k s a"], params: Any, beta: Scalar) -> Any:
        prices, slope = dual_of(params), self._motion_of(params, traffic).equation()
        if prices is None:
            return slope
        return Params(slope, condition(self, prices, traffic, beta))

    def metric(self, params: Any, beta: Scalar) -> lx.AbstractLinearOperator:
        """Hessian of the expected cost at fixed traffic, made positive definite.

        For squared distance twice the Laplacian of the traffic, in every coordinate.
        """
        return self._motion(params, beta).operator()

    def residual_and_metric(
        self, params: Any, beta: Scalar
    ) -> tuple[Any, lx.AbstractLinearOperator]:
        """`residual` and `metric` from one solve for the traffic."""
        traffic = self.counted_traffic(params, beta)
        equation = self._equation(traffic, params, beta)
        return equation, self._motion_of(params, traffic).operator()

    def precondition(self, params: Any, beta: Scalar, vector: Any) -> Any:
        """Solve with `metric`: one small factorisation."""
        return self._motion(params, beta).solve(vector)

    def policy(self, params: Any, beta: Scalar) -> Float[Array, "s a"]:
        """Log probability of every action in every state; the prior where all ends."""
        return decide(self, charged(self, params), beta).policy

    def terms(self, params: Any, beta: Scalar) -> Terms:
        """F, and discounted cost and entropy of the policy, summed along its traffic."""
        costs, (_, prices) = self.costs(params), split_params(params)
        paid, at_end = charged(self, params), self.end_costs
        if self.horizon is not None:
            paid = jnp.broadcast_to(paid, (self.horizon, *paid.shape[-2:]))

        def energy(given: tuple[Array, Array | None]) -> tuple[Array, Array]:
            solved = decide(trees.replaced(self, end_costs=given[1]), given[0], beta)
            return started(self, solved.values), solved.policy

        (value, policy), flow = jax.value_and_grad(energy, has_aux=True)((paid, at_end))
        traffic, distortion = flow[0], jnp.sum(flow[0] * costs)
        if at_end is not None:
            distortion = distortion + jnp.sum(flow[1] * jnp.where(flow[1] > 0, at_end, 0.0))
        used = ~jnp.isneginf(policy)
        surprise = jnp.where(used, policy, 0.0)
        if self.entropy == "prior":
            surprise = surprise - jnp.where(used, self.log_prior(), 0.0)
        elif self.entropy == "paths":
            surprise = surprise - self.kernel.entropy()
        entropy = -jnp.sum(traffic * surprise)
        gap = None if prices is None else gap_at(self, traffic)
        return Terms(value - worth(self, params), distortion, entropy, gap)

    def harden(self, params: Any) -> HardPlan:
        """The plan of least cost at these places, by policy iteration without entropy.

        It leaves capacities out: what is best within them is not one action in every state.
        """
        solved = decide(self, self.costs(params), 1.0, hard=True)
        return HardPlan(solved.policy, solved.values, started(self, solved.values), solved.code)

    def routes(self, params: Any) -> Int[Array, "s steps"]:
        """States visited after every state by the hard plan, -1 after the end.

        **Raises:** `TypeError` unless the kernel is deterministic.
        """
        if not isinstance(self.kernel, Deterministic):
            raise TypeError(
                f"{_OWNER}: only a Deterministic kernel has routes; this one is "
                f"{type(self.kernel).__name__}."
            )
        plan = self.harden(params)
        if self.horizon is not None:
            return staged_routes(self.kernel.next, plan, self.terminal)
        steps = self.structure.inner.shape[0] + 1
        return routes(self.kernel.next, plan.actions, self.terminal, steps)

    def sensitivities(self, params: Any, beta: Scalar) -> PlanSensitivities:
        """What the free energy of a solution at `beta` depends on most.

        **Returns:** `PlanSensitivities` to parameters of states and actions, costs, start and
        discount; its method `ranked` puts the most influential first.
        """
        return find_plan_sensitivities(self, params, beta)

    def slot_spectrum(self, params: Any, beta: Scalar) -> SlotSpectrum:
        """Where places would separate, and what that and their removal change.

        `critical_beta` supposes decisions held and is exact where it equals `beta`; gains are those
        of ten steps of a pair, removal costs those of the hard plan; `mass` is discounted visits.

        **Arguments:** `params`, as in `init`; `beta`, scalar > 0.

        **Raises:** `NotImplementedError` unless `has_slot_spectrum`.
        """
        if self.twins is None:
            raise NotImplementedError(
                f"{_OWNER} has no `slot_spectrum` here: unknown places differ in more than where "
                "they are, or it cannot be read whether they do."
            )
        return slot_spectrum(self, params, beta)

    def subsample(self, key: Any, n: int) -> "ParametricMDP":
        """The process from `n` starts of equal weight, drawn in proportion to theirs."""
        return subsample(self, key, n)

    def eliminate(self, params: Any, beta: Scalar) -> Any:
        """The prices at which use meets capacity, at these places."""
        return eliminated(self, params, beta) if isinstance(params, Params) else params

    def gauge(self, params: Any) -> Any:
        """Changes of the prices that change nothing."""
        if not isinstance(params, Params):
            return None
        rows = price_gauge(self)
        still = jax.tree.map(
            lambda leaf: jnp.zeros((rows.shape[0], *leaf.shape), leaf.dtype), params.primal
        )
        return Params(still, rows)

    def constraint_code(self, params: Any, beta: Scalar) -> Int[Array, ""]:
        """The code of the Bellman equation; UNBOUNDED where counted entropy has no limit.

        INFEASIBLE where use misses a capacity, WEAKLY_ACTIVE at a tight bound without price.
        """
        code = decide(self, charged(self, params), beta).code
        if isinstance(params, Params):
            traffic = self.counted_traffic(params, beta)
            code = jnp.maximum(code, code_at(self, params.dual, traffic, beta))
        if self.entropy == "prior" or self.horizon is not None:
            return code
        endless = (self.discount == 1) & is_failing(code) & (code != int(Code.INFEASIBLE))
        return jnp.where(endless, as_code(Code.UNBOUNDED), code)

    def critical_beta(self, params: Any) -> Float[Array, ""]:
        """The beta above which F is finite at these places; zero unless entropy is counted.

        Counted entropy without discount needs a cost per hop: inf where a cycle costs nothing, as
        among cells at one place; NaN where transitions are traced, so that it is not known. A
        constant for derivatives; see `mdp.critical_beta`.
        """
        return self._finite_above(charged(self, params))

    def beta_floor(self) -> Float[Array, ""]:
        """F is finite above this beta wherever the unknown parameters are.

        That is `critical_beta` with all hops to or from unknown places free of charge but for
        `extra_costs`; for a cost that is a function of your own, at known parameters' mean.
        """
        return self._finite_above(self.least_costs())

    def _finite_above(self, costs: Float[Array, "s a"]) -> Float[Array, ""]:
        if self.entropy == "prior" or self.horizon is not None:
            return jnp.zeros((), costs.dtype)
        if not self.structure.known:
            return jnp.where(self.discount < 1, 0.0, jnp.nan).astype(costs.dtype)
        noise = self.kernel.entropy() if self.entropy == "paths" else None
        found = lowest_beta(self.structure.endless, self.kernel, costs, noise)
        return jnp.where(self.discount < 1, 0.0, found)

    def beta_scale(self) -> Float[Array, ""]:
        """Where the curvature at `init` first vanishes, 1 if it does not.

        Where entropy is counted, at least so much above `beta_floor` that default schedules, which
        start at half of it, start above that. Capacities are left out.
        """
        still = trees.replaced(trees.stop_gradient(self), limits=None)
        params = still.init(jax.random.key(0))
        cost = jnp.abs(still.start @ jnp.mean(still.costs(params), axis=1))
        guess = jnp.where(cost > 0, 1 / jnp.where(cost > 0, cost, 1.0), 1.0)
        floor = still.beta_floor()
        least = jnp.where(jnp.isfinite(floor), _ABOVE_FLOOR * floor, 0.0)
        guess = jnp.maximum(guess, least)
        vector = random_start(still, params, jax.random.key(0))
        found = find_critical_beta(still, params, guess, vector, SpectrumOptions())
        return jnp.maximum(jnp.where(jnp.isfinite(found), found, 1.0), least)
