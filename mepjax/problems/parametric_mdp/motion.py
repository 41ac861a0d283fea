"""How places respond to traffic: the Hessian of the expected cost at fixed traffic."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..._core import trees
from ..._core.linear import solve_scaled
from ..costs import weighted_sum
from .step_costs import flow_of, squared_stiffness

if TYPE_CHECKING:
    from .problem import ParametricMDP

_HIGHEST = jax.lax.Precision.HIGHEST


class Motion(eqx.Module):
    """The parameterised process `problem` at `params`, with its traffic held."""

    problem: "ParametricMDP"
    params: Any
    traffic: Float[Array, "s a"]

    def slope(self) -> Any:
        """Gradient of the expected cost in the parameters."""
        return jax.vjp(self.problem.costs, self.params)[1](self.traffic)[0]

    def live(self) -> Any:
        """Which unknown parameters some traffic depends on."""
        still = jax.lax.stop_gradient(self.traffic)
        kernel, unknowns = self.problem.kernel, self.problem.unknowns
        flow, after = flow_of(kernel, still), kernel.outcomes().next
        leaving, of_action = jnp.sum(still, axis=1), jnp.sum(still, axis=0)
        entering = jnp.zeros_like(leaving).at[jnp.broadcast_to(after, flow.shape)].add(flow)
        tiny = float(jnp.finfo(still.dtype).tiny) ** 0.5

        def of(index: Any, amount: Any) -> Any:
            # NaN and negative numbers count as traffic, to be seen.
            return None if index is None else ~(jnp.abs(amount[index]) <= tiny)

        at_states = of(unknowns.state_index, leaving + entering)
        return unknowns.join(at_states, of(unknowns.action_index, of_action))

    def equation(self) -> Any:
        """The slope; a parameter without traffic is undetermined, stays, and has no derivative."""

        def of(slope: Array, value: Array, live: Array) -> Array:
            stays = value - jax.lax.stop_gradient(value)
            return jnp.where(live[:, None], slope, stays)

        return jax.tree.map(of, self.slope(), self.params, self.live())

    def operator(self) -> lx.AbstractLinearOperator:
        """The Hessian, positive definite; for squared distance twice a Laplacian per coordinate."""
        structure = self.problem.unknowns.structure
        if self.problem.step.squared:
            stiffness, unknowns = self._stiffness(), self.problem.unknowns

            def apply(v: Any) -> Any:
                product = jnp.matmul(stiffness, unknowns.rows(v), precision=_HIGHEST)
                return unknowns.from_rows(2 * product)

        else:
            hessian, restore = self._hessian()

            def apply(v: Any) -> Any:
                return restore(jnp.matmul(hessian, ravel_pytree(v)[0], precision=_HIGHEST))

        return lx.FunctionLinearOperator(apply, structure, lx.positive_semidefinite_tag)

    def solve(self, vector: Any) -> Any:
        """Solve with `operator`: one small factorisation."""
        if self.problem.step.squared:
            unknowns = self.problem.unknowns
            return unknowns.from_rows(solve_scaled(2 * self._stiffness(), unknowns.rows(vector)))
        hessian, restore = self._hessian()
        return restore(solve_scaled(hessian, ravel_pytree(vector)[0][:, None])[:, 0])

    def best(self) -> Any:
        """Where the cost at this traffic is least; a Newton step unless distance is squared."""
        return trees.subtract(self.params, self.solve(self.slope()))

    def _stiffness(self) -> Float[Array, "n n"]:
        kernel, step = self.problem.kernel, self.problem.step
        of_states, of_actions, n = self.problem.unknowns.numbers()
        if step.towards_action and of_actions is not None:
            return squared_stiffness(self.traffic, (of_states[:, None], of_actions[None, :]), n)
        state, _, after = kernel.outcomes()
        return squared_stiffness(
            flow_of(kernel, self.traffic), (of_states[state], of_states[after]), n
        )

    def _hessian(self) -> tuple[Float[Array, "m m"], Callable[[Array], Any]]:
        flat, restore = ravel_pytree(self.params)

        def paid(flat: Array) -> Array:
            return jnp.sum(self.traffic * self.problem.costs(restore(flat)))

        hessian = jax.hessian(paid)(flat)
        live = jax.tree.map(
            lambda on, leaf: jnp.broadcast_to(on[:, None], leaf.shape), self.live(), self.params
        )
        on = ravel_pytree(live)[0].astype(bool)
        identity = jnp.eye(flat.size, dtype=flat.dtype)
        hessian = jnp.where(on[:, None] & on[None, :], hessian, identity)
        return weighted_sum.positive_definite(hessian[None])[0], restore
