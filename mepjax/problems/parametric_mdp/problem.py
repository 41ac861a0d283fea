"""Sequential decisions whose states and actions have unknown parameters: para-SDM."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._core import arrays, checks, trees
from ..._core.codes import Code, as_code, is_failing
from ..._core.types import Scalar
from ...engine.curvature import find_critical_beta, random_start
from ...engine.problem import Constrained, Terms
from ...mdp.kernels.base import AbstractKernel
from ...mdp.kernels.deterministic import Deterministic
from ...mdp.model import as_discount, as_permitted, as_terminal, check_permitted, uniform_prior
from ...mdp.soft import ENTROPIES
from ...solvers.armijo import Armijo
from ...solvers.base import AbstractSolver
from ...solvers.fixed_point import FixedPoint
from ...solvers.spectrum import SpectrumOptions
from .decisions import decide, prior_traffic
from .hard import HardPlan, routes
from .motion import Motion
from .places import Unknowns, as_unknowns, middle
from .sensitivities import PlanSensitivities, find_plan_sensitivities
from .step_costs import Step, as_step
from .structure import Structure, find_structure, refuse_earning_extra

_OWNER = "ParametricMDP"


class ParametricMDP(Constrained):
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
    - `state_params`: shape (states, d), in any units; rows of unknown ones are ignored.
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

    kernel: AbstractKernel
    step: Step
    unknowns: Unknowns
    extra_costs: Float[Array, "s a"] | None
    discount: Float[Array, ""]
    prior: Float[Array, "s a"] | None
    permitted: Bool[Array, "s a"] | None
    terminal: Bool[Array, " s"]
    start: Float[Array, " s"]
    structure: Structure
    entropy: str = eqx.field(static=True)

    def __init__(
        self, kernel: Any, cost: Any = "sqeuclidean", *, state_params: Any,
        unknown_states: Any = None, action_params: Any = None, unknown_actions: Any = None,
        start: Any = None, discount: Any = 1.0, terminal: Any = None, permitted: Any = None,
        prior: Any = None, entropy: str = "prior", extra_costs: Any = None,
    ) -> None:  # fmt: skip
        if not isinstance(kernel, AbstractKernel):
            raise TypeError(
                f"{_OWNER}: `kernel` must be a transition kernel such as mdp.Deterministic(next); "
                f"got {type(kernel).__name__}."
            )
        if entropy not in ENTROPIES:
            raise ValueError(f"{_OWNER}: `entropy` must be one of {ENTROPIES}; got {entropy!r}.")
        n, a = kernel.n_states, kernel.n_actions
        self.kernel, self.entropy = kernel, entropy
        self.unknowns = as_unknowns(
            state_params, unknown_states, action_params, unknown_actions, (n, a)
        )
        dtype = self.unknowns.states.dtype
        self.step = arrays.cast_floats(
            as_step(cost, self.unknowns.states, self.unknowns.actions), dtype
        )
        self.discount = as_discount(_OWNER, discount, dtype)
        self.terminal = as_terminal(_OWNER, terminal, n)
        self.permitted = as_permitted(_OWNER, permitted, kernel)
        self.prior = self._table("prior", prior)
        self.extra_costs = self._table("extra_costs", extra_costs)
        if start is None:
            start = self._default_start()
        self.start = arrays.as_data_like("start", start, dtype)
        if self.start.shape != (n,):
            raise ValueError(
                f"{_OWNER}: `start` must have shape ({n},), a probability for every state; "
                f"got {self.start.shape}."
            )
        checks.enforce(self.checks())
        self.structure = find_structure(
            kernel, self.terminal, self.permitted, self.discount, self.prior
        )
        refuse_earning_extra(self)

    def _table(self, name: str, value: Any) -> Float[Array, "s a"] | None:
        if value is None:
            return None
        shape = (self.kernel.n_states, self.kernel.n_actions)
        value = arrays.as_data_like(name, value, self.unknowns.states.dtype)
        if value.shape != shape:
            raise ValueError(f"{_OWNER}: `{name}` must have shape {shape}; got {value.shape}.")
        return value

    def _default_start(self) -> Any:
        xp: Any = np if checks.is_concrete(self.terminal, self.unknowns.state_index) else jnp
        on = xp.asarray(~self.terminal, self.unknowns.states.dtype)
        index = self.unknowns.state_index
        if index is not None:
            known = jnp.ones(on.shape, on.dtype).at[index].set(0.0)
            on = xp.asarray(on * known)
        return on / xp.maximum(xp.sum(on), 1)

    def checks(self) -> tuple[checks.Check, ...]:
        """Finite data, rows that sum to one, a discount in (0, 1], an action in every state."""
        found = [checks.check_finite(_OWNER, "state_params", self.unknowns.states)]
        if self.unknowns.actions is not None:
            found += [checks.check_finite(_OWNER, "action_params", self.unknowns.actions)]
        found += self.kernel.checks(_OWNER)
        found += [
            checks.check_finite(_OWNER, "cost", leaf)
            for leaf in jax.tree.leaves(eqx.filter(self.step, eqx.is_inexact_array))
        ]
        if self.extra_costs is not None:
            found += [checks.check_finite(_OWNER, "extra_costs", self.extra_costs)]
        if self.prior is not None:
            found += [
                checks.check_range(_OWNER, "prior", self.prior, low=0.0),
                checks.check_rows_sum_to_one(_OWNER, "prior", self.prior),
            ]
        found += [
            checks.check_range(_OWNER, "discount", self.discount, low=0.0, high=1.0, open_low=True),
            checks.check_finite(_OWNER, "start", self.start),
            checks.check_range(_OWNER, "start", self.start, low=0.0),
            checks.check_rows_sum_to_one(_OWNER, "start", self.start),
        ]
        return (*found, *check_permitted(_OWNER, self.permitted, self.terminal))

    # What the problem is.

    @property
    def convex_at_zero(self) -> bool:
        """For squared distance relative to a prior; of others nothing is known."""
        return self.step.squared and self.entropy == "prior"

    @property
    def n_slots(self) -> int:
        """Number of unknown parameters of states and actions."""
        return self.unknowns.count

    @property
    def references(self) -> tuple[str, ...]:
        """Deterministic annealing, and the thesis on parameterised decisions."""
        return (*super().references, "parameterised_decisions")

    @property
    def _dtype(self) -> Any:
        return self.unknowns.states.dtype

    def parameters(self, params: Any) -> tuple[Float[Array, "s d"], Float[Array, "a e"] | None]:
        """Parameters of all states and of all actions, known ones included."""
        return self.unknowns.filled(params)

    def costs(self, params: Any) -> Float[Array, "s a"]:
        """Mean cost of every action in every state; finite also where it is not permitted."""
        expected = self.step.expected(self.kernel, *self.parameters(params))
        return expected if self.extra_costs is None else expected + self.extra_costs

    def log_prior(self) -> Float[Array, "s a"]:
        """Log of the prior, -inf where an action is not permitted."""
        n, a = self.kernel.n_states, self.kernel.n_actions
        if self.prior is None:
            return uniform_prior(n, a, self.permitted, self._dtype)
        some = self.prior > 0
        log_prior = jnp.where(some, jnp.log(jnp.where(some, self.prior, 1.0)), -jnp.inf)
        if self.permitted is None:
            return log_prior
        return jnp.where(self.permitted, log_prior, -jnp.inf)

    def _energy(self, costs: Float[Array, "s a"], beta: Scalar) -> Float[Array, ""]:
        return self.start @ decide(self, costs, beta).values

    def traffic(self, params: Any, beta: Scalar) -> Float[Array, "s a"]:
        """Expected discounted number of times every action is taken: dF / d cost."""
        return jax.grad(self._energy)(self.costs(params), beta)

    def state_values(self, params: Any, beta: Scalar) -> Float[Array, " s"]:
        """Free energy from every state on."""
        return decide(self, self.costs(params), beta).values

    # The contract.

    def init(self, key: Any) -> Any:
        """Where squared steps are least under the prior policy, the minimiser as beta -> 0.

        For other costs one step of Newton's method towards it from the mean of known parameters;
        places are then spread by 1 % of the data's size, since a distance has no derivative where
        they coincide.
        """
        start = middle(self.unknowns, among_states=self.step.cost is not None)
        flow = prior_traffic(self, self.costs(start))
        placed = Motion(self, start, flow).best()
        if self.step.squared:
            return placed
        kick = trees.normal_like(key, placed)
        return trees.axpy(0.01 * self._size(), kick, placed)

    def free_energy(self, params: Any, beta: Scalar) -> Float[Array, ""]:
        """Mean over the start distribution of the soft values."""
        return self._energy(self.costs(params), beta)

    def _motion(self, params: Any, beta: Scalar) -> Motion:
        return Motion(self, params, self.traffic(params, beta))

    def update(self, params: Any, beta: Scalar) -> Any:
        """The best places for the present traffic; for other costs than squared a Newton step."""
        return self._motion(params, beta).best()

    def residual(self, params: Any, beta: Scalar) -> Any:
        """grad F; a parameter without traffic is undetermined, stays, and has no derivative."""
        return self._motion(params, beta).equation()

    def metric(self, params: Any, beta: Scalar) -> lx.AbstractLinearOperator:
        """Hessian of the expected cost at fixed traffic, made positive definite.

        For squared distance twice the Laplacian of the traffic, in every coordinate.
        """
        return self._motion(params, beta).operator()

    def residual_and_metric(
        self, params: Any, beta: Scalar
    ) -> tuple[Any, lx.AbstractLinearOperator]:
        """`residual` and `metric` from one solve for the traffic."""
        motion = self._motion(params, beta)
        return motion.equation(), motion.operator()

    def precondition(self, params: Any, beta: Scalar, vector: Any) -> Any:
        """Solve with `metric`: one small factorisation."""
        return self._motion(params, beta).solve(vector)

    def policy(self, params: Any, beta: Scalar) -> Float[Array, "s a"]:
        """Log probability of every action in every state; the prior where all ends."""
        return decide(self, self.costs(params), beta).policy

    def terms(self, params: Any, beta: Scalar) -> Terms:
        """F, and discounted cost and entropy of the policy, summed along its traffic."""
        costs = self.costs(params)

        def energy(costs: Array) -> tuple[Array, Array]:
            solved = decide(self, costs, beta)
            return self.start @ solved.values, solved.policy

        (value, policy), traffic = jax.value_and_grad(energy, has_aux=True)(costs)
        used = ~jnp.isneginf(policy)
        surprise = jnp.where(used, policy, 0.0)
        if self.entropy == "prior":
            surprise = surprise - jnp.where(used, self.log_prior(), 0.0)
        elif self.entropy == "paths":
            surprise = surprise - self.kernel.entropy()
        entropy = -jnp.sum(traffic * surprise)
        return Terms(value, jnp.sum(traffic * costs), entropy)

    def harden(self, params: Any) -> HardPlan:
        """The plan of least cost at these places, by policy iteration without entropy."""
        solved = decide(self, self.costs(params), 1.0, hard=True)
        return HardPlan(solved.policy, solved.values, self.start @ solved.values, solved.code)

    def routes(self, params: Any) -> Int[Array, "s steps"]:
        """States visited after every state by the hard plan, -1 after the end.

        **Raises:** `TypeError` unless the kernel is deterministic.
        """
        if not isinstance(self.kernel, Deterministic):
            raise TypeError(
                f"{_OWNER}: only a Deterministic kernel has routes; this one is "
                f"{type(self.kernel).__name__}."
            )
        steps = self.structure.inner.shape[0] + 1
        return routes(self.kernel.next, self.harden(params).actions, self.terminal, steps)

    def sensitivities(self, params: Any, beta: Scalar) -> PlanSensitivities:
        """What the free energy of a solution at `beta` depends on most.

        **Returns:** `PlanSensitivities` to parameters of states and actions, costs, start and
        discount; its method `ranked` puts the most influential first.
        """
        return find_plan_sensitivities(self, params, beta)

    def at(self, values: Any) -> Any:
        """Params at given places, shaped as `init` has them."""
        expected = self.unknowns.structure
        dtype = self._dtype
        values = jax.tree.map(lambda v: arrays.as_float_array("places", v, dtype), values)
        got, wanted = (jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (values, expected))
        if got != wanted:
            raise ValueError(f"{_OWNER}: places must have shape {wanted}; got {got}.")
        return values

    def eliminate(self, params: Any, beta: Scalar) -> Any:
        """Params as they are: the values are solved for wherever they are needed."""
        del beta
        return params

    def constraint_code(self, params: Any, beta: Scalar) -> Int[Array, ""]:
        """The code of the Bellman equation; UNBOUNDED where counted entropy has no limit."""
        code = decide(self, self.costs(params), beta).code
        if self.entropy == "prior":
            return code
        endless = (self.discount == 1) & is_failing(code)
        return jnp.where(endless, as_code(Code.UNBOUNDED), code)

    def _size(self) -> Float[Array, ""]:
        """Root mean square distance of known states from their mean; 1 for none."""
        states = jax.lax.stop_gradient(self.unknowns.states)
        known = jnp.ones((states.shape[0],), states.dtype)
        if self.unknowns.state_index is not None:
            known = known.at[self.unknowns.state_index].set(0.0)
        total = jnp.maximum(jnp.sum(known), 1)
        mean = known @ states / total
        spread = known @ jnp.sum((states - mean) ** 2, axis=1) / total
        return jnp.where(spread > 0, jnp.sqrt(jnp.where(spread > 0, spread, 1.0)), 1.0)

    def params_scale(self, params: Any) -> Any:
        """The size of the data."""
        size = self._size()
        return jax.tree.map(lambda _: size, params)

    def beta_scale(self) -> Float[Array, ""]:
        """Where the curvature at `init` first vanishes, 1 if it does not."""
        still = trees.stop_gradient(self)
        params = still.init(jax.random.key(0))
        cost = jnp.abs(still.start @ jnp.mean(still.costs(params), axis=1))
        guess = jnp.where(cost > 0, 1 / jnp.where(cost > 0, cost, 1.0), 1.0)
        vector = random_start(still, params, jax.random.key(0))
        found = find_critical_beta(still, params, guess, vector, SpectrumOptions())
        return jnp.where(jnp.isfinite(found), found, 1.0)

    def default_solver(self) -> AbstractSolver:
        """`FixedPoint` for squared distance, whose alternation never raises F, else `Armijo`."""
        return FixedPoint() if self.step.squared else Armijo()
