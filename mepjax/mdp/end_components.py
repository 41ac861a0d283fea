"""Where a process can stay for ever, and from which beta on counted entropy does not make it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import checks, gibbs, loops
from .._core.programs import own_arithmetic
from .kernels.base import AbstractKernel, Part
from .kernels.functional import Functional
from .model import MDP
from .transitions import DENSE_LIMIT

# Newton's method takes a handful of steps; where a cycle costs nothing it never ends.
_STEPS = 100


class EndComponents(eqx.Module):
    """States and actions that stay among themselves with probability one, in maximal sets.

    **Fields:** `states` (n,), those in some component; `stays` (n, actions), actions that do not
    leave it; `number` (n,) of the component; `first` (components,), a place in `states` of each;
    `part`, the kernel among `states`.
    """

    states: Int[Array, " n"]
    stays: Bool[Array, "n actions"]
    number: Int[Array, " n"]
    first: Int[Array, " components"]
    part: Part


def listed(kernel: AbstractKernel, terminal: Any, permitted: Any) -> bool:
    """Whether transitions can be read on the host."""
    return not isinstance(kernel, Functional) and checks.is_concrete(kernel, terminal, permitted)


def find_end_components(
    kernel: AbstractKernel, terminal: Any, permitted: Any
) -> EndComponents | None:
    """The maximal end components, on the host; `None` if there are none or they are not known.

    Strongly connected parts of the graph, less the actions that leave them, until none does. Not
    known where transitions are traced or `Functional`.
    """
    if not listed(kernel, terminal, permitted):
        return None
    with jax.ensure_compile_time_eval():
        allowed = None if permitted is None else np.asarray(permitted)
        return _find(kernel, np.asarray(terminal), allowed)


def _find(
    kernel: AbstractKernel, terminal: np.ndarray, permitted: np.ndarray | None
) -> EndComponents | None:
    from scipy import sparse
    from scipy.sparse import csgraph

    state, action, after = kernel.graph()
    n, a = kernel.n_states, kernel.n_actions
    pair = state.astype(np.int64) * a + action
    possible = ~terminal[state]
    if permitted is not None:
        possible &= permitted[state, action]
    kept = np.zeros(n * a, bool)
    kept[pair[possible]] = True
    while True:
        inside = kept[pair]
        ends = state[inside], after[inside]
        graph = sparse.csr_matrix((np.ones(len(ends[0]), np.int8), ends), (n, n))
        label = csgraph.connected_components(graph, directed=True, connection="strong")[1]
        stays = kept.copy()
        stays[pair[label[after] != label[state]]] = False
        if np.array_equal(stays, kept):
            break
        kept = stays
    table = kept.reshape(n, a)
    states = np.flatnonzero(table.any(axis=1))
    if len(states) == 0:
        return None
    _, first, number = np.unique(label[states], return_index=True, return_inverse=True)
    indices = (jnp.asarray(index, jnp.int32) for index in (states, number, first))
    where, number, first = indices
    part = kernel.part(states, states)
    return EndComponents(where, jnp.asarray(table[states]), number, first, part)


def lowest_beta(
    components: EndComponents | None,
    kernel: AbstractKernel,
    costs: Float[Array, "states actions"],
    noise: Float[Array, "states actions"] | None,
) -> Float[Array, ""]:
    """The beta above which counted entropy is finite without discount; a constant.

    That is the largest ratio of entropy to cost of staying in a component for ever, over all
    policies: by policy iteration, which raises it at every step. Zero where nothing can stay, inf
    where a component has a cycle that costs nothing, NaN above 2,000 states that can stay.

    **Arguments:** `noise`, the entropy of the next state where that is counted too.

    Source: the mean of cost less entropy / beta has to be positive on every end component, the
    exact form of the condition of a tilted spectral radius below one, which is sufficient only
    where transitions are noisy.
    """
    costs = jax.lax.stop_gradient(costs)
    if components is None:
        return jnp.zeros((), costs.dtype)
    n, m = components.states.shape[0], components.first.shape[0]
    if n > DENSE_LIMIT:
        return jnp.full((), jnp.nan, costs.dtype)
    stays, dtype = components.stays, costs.dtype
    among = jax.lax.stop_gradient(kernel).take(components.part)
    paid = jnp.where(stays, costs[components.states], 0.0)
    extra = jnp.zeros_like(paid)
    if noise is not None:
        extra = jnp.where(stays, jax.lax.stop_gradient(noise)[components.states], 0.0)
    member = jax.nn.one_hot(components.number, m, dtype=dtype)
    pinned = jax.nn.one_hot(components.first, n, dtype=dtype)
    # Means of cost below this are rounding.
    least = 64 * float(jnp.finfo(dtype).eps) * jnp.max(jnp.abs(paid))

    def improved(log_mu: Array) -> tuple[Array, Array]:
        mu = jnp.exp(log_mu)
        surprise = jnp.where(mu > 0, jnp.where(mu > 0, log_mu, 0.0), 0.0)
        cost = jnp.sum(mu * paid, axis=1)
        entropy = jnp.sum(mu * (extra - surprise), axis=1)
        # (I - P) v + mean = of a step, for cost and entropy; v is zero at the first of each.
        p = among.under(mu).matrix().astype(dtype)
        system = jnp.block(
            [[jnp.eye(n, dtype=dtype) - p, member], [pinned, jnp.zeros((m, m), dtype)]]
        )
        sides = jnp.concatenate([jnp.stack([cost, entropy], 1), jnp.zeros((m, 2), dtype)])
        found = jnp.linalg.solve(system, sides)
        ahead, mean = found[:n], found[n:]
        dear = mean[:, 0] > least
        beta = jnp.where(dear, mean[:, 1] / jnp.where(dear, mean[:, 0], 1.0), jnp.inf)
        at = jnp.where(dear, beta, 0.0)[components.number]
        values = at * ahead[:, 0] - ahead[:, 1]
        action_values = at[:, None] * paid - extra + among.expect(values)
        policy = gibbs.masked_log_policy(
            jnp.where(stays, action_values, jnp.inf), jnp.ones((), dtype)
        )
        return policy, beta

    tolerance = 16 * float(jnp.finfo(dtype).eps)

    def body(carry: Any) -> Any:
        step, log_mu, before, _ = carry
        log_mu, beta = improved(log_mu)
        # It only rises, but for rounding.
        still = jnp.isinf(beta) | (beta - before <= tolerance * beta)
        return step + 1, log_mu, jnp.maximum(beta, before), jnp.all(still)

    count = jnp.sum(stays, axis=1, keepdims=True).astype(dtype)
    start = jnp.where(stays, -jnp.log(count), -jnp.inf)
    first = jnp.zeros((), jnp.int32), start, jnp.zeros((m,), dtype), jnp.asarray(False)
    _, _, beta, settled = loops.while_loop(
        lambda carry: (carry[0] < _STEPS) & ~carry[3], body, first
    )
    return jnp.where(settled, jnp.max(beta), jnp.inf)


COUNTED = ("policy", "paths")


@own_arithmetic()
def critical_beta(model: MDP, *, entropy: str = "policy") -> Float[Array, ""]:
    """The beta above which entropy that is counted stays finite without discount.

    Below it, or at it, staying is worth more than it costs. `mdp.solve` is then `UNBOUNDED`, and
    says this number.

    **Arguments:** `model`, an `MDP`; its discount is not looked at. `entropy`, `"policy"` or
    `"paths"`.

    **Returns:** a scalar, in one over units of cost: zero where every way ends, inf where some
    cycle costs nothing, NaN where it is not known (`Functional` or traced transitions,
    more than 2,000 states in which one can stay). A constant for derivatives.

    **Raises:** `TypeError` or `ValueError` for bad arguments.

    Source: parameterized sequential decision making, section 3.2, whose assumption leaves it out.

    **Example:** two ways to stay, at a cost of 1: exp(-beta) + exp(-beta) < 1.

    ```python
    >>> import jax.numpy as jnp
    >>> from mepjax import mdp
    >>> kernel = mdp.Deterministic([[0, 0, 1], [1, 1, 1]])
    >>> model = mdp.MDP(kernel, jnp.ones((2, 3)), discount=1.0, terminal=[1])
    >>> print(f"{mdp.critical_beta(model):.4f}")
    0.6931

    ```
    """
    if not isinstance(model, MDP):
        raise TypeError(f"mdp.critical_beta: `model` must be an MDP; got {type(model).__name__}.")
    if entropy not in COUNTED:
        raise ValueError(
            f"mdp.critical_beta: `entropy` must be one of {COUNTED}; got {entropy!r}. "
            "Relative to a prior it is finite at every beta where costs are not negative."
        )
    components = find_end_components(model.kernel, model.terminal, model.permitted)
    if components is None and not listed(model.kernel, model.terminal, model.permitted):
        return jnp.full((), jnp.nan, model.costs.dtype)
    return _critical_beta(model, components, entropy)


@eqx.filter_jit
def _critical_beta(model: MDP, components: EndComponents | None, entropy: str) -> Float[Array, ""]:
    noise = model.kernel.entropy() if entropy == "paths" else None
    return lowest_beta(components, model.kernel, model.expected_costs(), noise)
