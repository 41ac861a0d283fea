"""What clusterings of a population are worth, many at a time."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core.codes import Code, SolveError
from .._core.programs import program
from .._core.types import Scalar
from ..solvers.base import AbstractSolver
from ..solvers.loop import solve_stage
from .behaviours import AbstractBehaviour, Group, Local, Scoped
from .bellman import AbstractBellman, AbstractChain
from .factored import FactoredMDP
from .methods import ValueIteration
from .permuted import permute, reorder_states, same_shape
from .rewards import Separable
from .steer import steer

# Models solved by one call, and numbers that its lanes may hold together.
_AT_ONCE = 64
_LANES = 2**20

Labels = tuple[int, ...]


class Judge:
    """What clusterings are worth: weights . V, or a norm of V, remembered by clustering.

    Host code. Agents of a `Group` are one unit, which no clustering cuts; clusterings here are
    labels of units.

    **Attributes:** `units`, agents of every unit; `solved`, how many solves it took.
    """

    def __init__(self, model: FactoredMDP, method: AbstractSolver, weights: Any):
        self.model, self.method = model, method
        steered = set(model.steered)
        self.units = [agents for agents in model.factors if agents[0] in steered]
        self.norm = isinstance(weights, str)
        self.weights = _check_weights(model, weights)
        self._uniform = self.weights is not None and np.all(self.weights == self.weights[0])
        self.solved = 0
        self._known: dict[Any, float] = {}
        self.subsets = model.local_separable and not self.norm
        if self.subsets:
            self._own = _own_numbers(model)
            self._rest = sum(
                self._solve_subsets([(agents,)])[0]
                for agents in model.factors
                if agents[0] not in steered
            )

    def allowed(self, units: Sequence[int]) -> bool:
        """Whether these units can share a signal."""
        return len({self.model.signals[self.units[unit][0]] for unit in units}) == 1

    def of_agents(self, labels: Labels) -> np.ndarray:
        """Labels of all steered agents from those of units."""
        by_agent = {
            agent: label
            for agents, label in zip(self.units, labels, strict=True)
            for agent in agents
        }
        return np.array([by_agent[agent] for agent in self.model.steered])

    def __call__(self, clusterings: Iterable[Labels]) -> list[float]:
        """What each is worth; those not seen before are solved together."""
        clusterings = [canonical(labels) for labels in clusterings]
        if self.subsets:
            parts = [clusters_of(labels) for labels in clusterings]
            values = self.of_subsets({part for of_one in parts for part in of_one})
            return [self._rest + sum(values[part] for part in of_one) for of_one in parts]
        new = sorted(set(clusterings) - self._known.keys())
        self._known.update(zip(new, self._solve(new), strict=True))
        return [self._known[labels] for labels in clusterings]

    def of_subsets(self, subsets: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], float]:
        """What clusters of a local separable system are worth, each on its own."""
        wanted = set(subsets)
        new = sorted(wanted - self._known.keys())
        units = [tuple(self.units[unit] for unit in subset) for subset in new]
        self._known.update(zip(new, self._solve_subsets(units), strict=True))
        return {subset: self._known[subset] for subset in wanted}

    # --- Whole clusterings. -------------------------------------------------------------------

    def _solve(self, clusterings: list[Labels]) -> list[float]:
        """Solve them, those of equal cluster sizes by one program."""
        groups: dict[Any, list[tuple[int, FactoredMDP, Any]]] = {}
        for place, labels in enumerate(clusterings):
            order, sorted_labels = self._sorted(labels)
            model = permute(self.model, order)
            key = (sorted_labels, same_shape(model))
            weights = None
            if self.weights is not None:
                weights = reorder_states(self.weights, self.model.sizes, order)
            groups.setdefault(key, []).append((place, model, weights))
        worth = [np.nan] * len(clusterings)
        for (sorted_labels, _), members in groups.items():
            for start in range(0, len(members), _AT_ONCE):
                some = members[start : start + _AT_ONCE]
                # The last ones are repeated, so that all calls of a group share a program.
                filled = some + some[-1:] * (_full(len(members)) - len(some))
                stacked = _stack([(model, weights) for _, model, weights in filled])
                found, codes = _worth(*stacked, sorted_labels, self.method)
                _raise_on(codes)
                for (place, _, _), value in zip(some, np.asarray(found), strict=False):
                    worth[place] = float(value)
        self.solved += len(clusterings)
        return worth

    def _sorted(self, labels: Labels) -> tuple[list[int], tuple[int, ...]]:
        """Agents with large clusters first, and their labels in that order."""
        parts = sorted(clusters_of(labels), key=lambda part: (-len(part), part))
        order = [agent for part in parts for unit in part for agent in self.units[unit]]
        sizes = [sum(len(self.units[unit]) for unit in part) for part in parts]
        rest = [agent for agent in range(self.model.n_agents) if agent not in order]
        of_agents = tuple(label for label, size in enumerate(sizes) for _ in range(size))
        return order + rest, of_agents

    # --- Clusters of systems that fall apart. -------------------------------------------------

    def _solve_subsets(self, subsets: list[tuple[tuple[int, ...], ...]]) -> list[float]:
        """Solve clusters, given by the agents of their units; those of equal sizes together."""
        groups: dict[Any, list[int]] = {}
        for place, units in enumerate(subsets):
            sizes = tuple(self._own[agents][0].shape for agents in units)
            groups.setdefault(sizes, []).append(place)
        worth = np.full(len(subsets), np.nan)
        for sizes, places in groups.items():
            members = [subsets[place] for place in places]
            tables, rewards = (
                tuple(
                    np.stack([self._own[units[position]][which] for units in members])
                    for position in range(len(sizes))
                )
                for which in (0, 1)
            )
            weights = np.stack([self._marginal([a for u in units for a in u]) for units in members])
            discount = np.broadcast_to(np.asarray(self.model.discount), (len(members),))
            clusters = jax.tree.map(jnp.asarray, (discount, tables, rewards))
            found, codes = _worth_of_clusters(LocalCluster(*clusters), jnp.asarray(weights))
            _raise_on(codes)
            worth[places] = np.asarray(found)
        self.solved += len(subsets)
        return worth.tolist()

    def _marginal(self, agents: Sequence[int]) -> np.ndarray:
        """Weights of the joint states of some agents, in the order given."""
        sizes = [self.model.sizes[agent] for agent in agents]
        count = int(np.prod(sizes))
        assert self.weights is not None
        if self._uniform:
            return np.full(count, self.weights[0] * self.model.n_states / count)
        table = self.weights.reshape(self.model.sizes)
        others = tuple(n for n in range(self.model.n_agents) if n not in agents)
        kept = sorted(agents)
        left = table.sum(others).transpose([kept.index(agent) for agent in agents])
        return left.reshape(-1)


def canonical(labels: Sequence[int]) -> Labels:
    """Labels in the order in which clusters first appear."""
    seen: dict[int, int] = {}
    return tuple(seen.setdefault(label, len(seen)) for label in labels)


def clusters_of(labels: Sequence[int]) -> list[tuple[int, ...]]:
    """Members of every cluster."""
    return [
        tuple(unit for unit, label in enumerate(labels) if label == cluster)
        for cluster in range(max(labels) + 1)
    ]


def _stack(trees: list[Any]) -> Any:
    """Trees of numbers along a new first axis, through NumPy: thousands of small arrays."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)


def _full(members: int) -> int:
    """How many lanes a call has: a power of two, so that few programs are compiled."""
    return min(_AT_ONCE, 1 << max(0, members - 1).bit_length())


def _check_weights(model: FactoredMDP, weights: Any) -> np.ndarray | None:
    if isinstance(weights, str):
        if weights != "norm":
            raise ValueError(
                f'`weights` must be an array over joint states, None or "norm"; got {weights!r}.'
            )
        return None
    if weights is None:
        return np.full(model.n_states, 1 / model.n_states)
    array = np.asarray(weights, float)
    if array.shape != (model.n_states,) or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(
            f"`weights` must be {model.n_states} finite numbers >= 0, one per joint state; got "
            f"shape {array.shape}, smallest {array.min(initial=np.inf):.7g}."
        )
    return array


def _raise_on(codes: Any) -> None:
    worst = Code(int(np.max(np.asarray(codes))))
    if worst.is_failing:
        raise SolveError(f"[{worst.name}] A clustering was not solved: {worst.message}")


@program
def _worth(
    models: FactoredMDP, weights: Array | None, labels: tuple[int, ...], method: AbstractSolver
) -> tuple[Array, Array]:
    """Worth and code of every model, one after the other."""

    def one(model_and_weights: Any) -> tuple[Array, Array]:
        model, weights = model_and_weights
        found = steer(model, np.array(labels), method=method, certificate="none")
        if weights is None:
            return jnp.linalg.norm(found.values), found.code
        return weights.astype(found.values.dtype) @ found.values, found.code

    return jax.lax.map(one, (models, weights))


class LocalChain(AbstractChain):
    """A local cluster under a fixed policy, with costs = -rewards."""

    cluster: "LocalCluster"
    policy: Int[Array, " states"]

    def sweep(self, values: Float[Array, " states"]) -> Float[Array, " states"]:
        """One step under the policy, then `values`."""
        returns = self.cluster.returns(values)
        return jnp.take_along_axis(returns, self.policy[None], 0)[0]

    def values(self, guess: Float[Array, " states"]) -> Float[Array, " states"]:
        """Not needed: value iteration on clusters that mix is faster."""
        raise NotImplementedError("LocalChain: use a method of values.")


class LocalCluster(AbstractBellman):
    """Units that share one signal and otherwise move on their own, with costs = -rewards.

    The expected value is one small product per unit and signal, |X| M sum |X_n| in all.

    **Fields:** `discount`; `tables`, (|X_n|, M, |X_n|) per unit; `rewards`, (|X_n|, M) per unit.
    """

    discount: Float[Array, ""]
    tables: tuple[Float[Array, "own signals own"], ...]
    rewards: tuple[Float[Array, "own signals"], ...]

    def returns(self, values: Float[Array, " states"]) -> Float[Array, "signals states"]:
        """Cost of every signal in every state."""
        sizes = tuple(table.shape[0] for table in self.tables)
        signals = self.tables[0].shape[1]
        expected = jnp.broadcast_to(values, (signals, values.shape[0]))
        earned = jnp.zeros((signals, 1), values.dtype)
        for place, (table, reward) in enumerate(zip(self.tables, self.rewards, strict=True)):
            before = int(np.prod(sizes[:place], dtype=np.int64))
            grid = expected.reshape(signals, before, sizes[place], -1)
            expected = jnp.einsum("mbka,jmk->mbja", grid, table).reshape(signals, -1)
            earned = (earned[:, :, None] + reward.T[:, None, :]).reshape(signals, -1)
        return self.discount * expected - earned

    def backup(
        self, values: Float[Array, " states"], beta: Scalar
    ) -> tuple[Float[Array, " states"], Int[Array, " states"]]:
        """T values and the greedy policy."""
        del beta
        returns = self.returns(values)
        return jnp.min(returns, 0), jnp.argmin(returns, 0)

    def under(self, policy: Any, beta: Scalar) -> LocalChain:
        """The cluster under a policy."""
        del beta
        return LocalChain(self, policy)


def _own_numbers(model: FactoredMDP) -> dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]]:
    """Rows and rewards of every unit of a local separable system, by its agents."""
    reward = model.reward
    assert isinstance(reward, Separable)
    numbers = {}
    for agents, behaviour in zip(model.factors, model.behaviours, strict=True):
        total = np.zeros((1, model.signals[agents[0]]))
        for agent in agents:
            table = np.asarray(reward.tables[agent])
            total = (total[:, None] + table[None]).reshape(-1, table.shape[1])
        numbers[agents] = np.asarray(_own_table(behaviour)), total.astype(model.dtype)
    return numbers


def _own_table(behaviour: AbstractBehaviour) -> Any:
    if isinstance(behaviour, Group):
        return _own_table(behaviour.behaviour)
    assert isinstance(behaviour, Local | Scoped)
    return behaviour.p


@program
def _worth_of_clusters(clusters: LocalCluster, weights: Array) -> tuple[Array, Array]:
    """Worth and code of every cluster, as many at a time as fit."""
    method = ValueIteration()
    dtype = clusters.discount.dtype
    rtol = jnp.asarray(1e-10 if dtype == jnp.float64 else 1e-6, dtype)

    def one(cluster_and_weights: Any) -> tuple[Array, Array]:
        cluster, weights = cluster_and_weights
        earned = -cluster.returns(jnp.zeros(weights.shape[0], dtype))
        least = -jnp.min(earned) / (1 - cluster.discount)
        result = solve_stage(
            cluster,
            least + 0 * earned[0],
            jnp.asarray(jnp.inf, dtype),
            method,
            rtol=rtol,
            max_steps=jnp.asarray(method.max_steps, jnp.int32),
        )
        return -weights.astype(dtype) @ result.params, result.code

    each = weights.shape[1] * clusters.tables[0].shape[2]
    count = max(1, min(weights.shape[0], _LANES // each))
    return jax.lax.map(one, (clusters, weights), batch_size=count)
