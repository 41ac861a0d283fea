"""Values of joint states from a few numbers: what fitted iteration asks, and linear values.

Values that are a sum over clusters keep the choice of signals cheap: what is expected of them one
step later is a sum over clusters too, each of which needs the next states of its own agents only.
The joint states of a large population are then never enumerated.
"""

import abc
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core.arrays import as_parameter
from .._core.checks import Check, check_finite
from .behaviours import Place
from .clustered import ClusteredMDP

# Numbers that expected features of all sampled states may hold (2 GiB in float64).
_MOST = 2**28


class AbstractAhead(eqx.Module):
    """Expected values one step after each of some states."""

    @abc.abstractmethod
    def under(self, policy: Int[Array, "states clusters"]) -> Float[Array, " states"]:
        """Under signals of all clusters."""

    @abc.abstractmethod
    def choices(
        self, policy: Int[Array, "states clusters"], cluster: Int[Array, ""]
    ) -> Float[Array, "states signals"]:
        """Under every signal of one cluster, all others as in `policy`."""


class AbstractValues(eqx.Module):
    """A family of functions of the joint state, fitted to targets in sampled states.

    `params` are any pytree of arrays. `LinearValues` is solved by least squares;
    `mepjax.learn.NetworkValues` by descent.
    """

    @property
    def differentiable(self) -> bool:
        """Whether `fit` finds the one minimiser, so that solutions have a derivative."""
        return False

    @abc.abstractmethod
    def tolerance(self, dtype: Any) -> float:
        """Change of values, relative to their size, at which iteration ends by default."""

    @abc.abstractmethod
    def init(self, operator: ClusteredMDP, key: Any) -> Any:
        """Params to start from."""

    @abc.abstractmethod
    def at(self, params: Any, operator: ClusteredMDP, place: Place) -> Float[Array, " states"]:
        """Values of some states."""

    @abc.abstractmethod
    def ahead(self, params: Any, operator: ClusteredMDP, place: Place, key: Any) -> AbstractAhead:
        """Expected values one step after some states; a `key` for those who sample them."""

    @abc.abstractmethod
    def prepare(
        self, operator: ClusteredMDP, place: Place, weights: Float[Array, " states"]
    ) -> Any:
        """What `fit` needs and no iteration changes; weights sum to one."""

    @abc.abstractmethod
    def fit(self, params: Any, prepared: Any, targets: Float[Array, " states"]) -> Any:
        """Params near these whose values are nearest to the targets, by weighted squares."""

    def checks(self, owner: str, operator: ClusteredMDP, states: int) -> list[Check]:
        """Conditions on its numbers; raises at once where shapes disagree or do not fit memory."""
        del owner, operator, states
        return []


class LinearValues(AbstractValues):
    """V(x) = w_0 + sum_c features_c(x_c) . w_c, by weighted least squares.

    x_c is the joint state of the agents of cluster c. Expected features are exact.

    **Arguments:** `features`, one of

    - "agents" (default): the state of every agent (or group) on its own, V(x) = sum_n v_n(x_n);
    - "clusters": the joint state of every cluster, V(x) = sum_c v_c(x_c). That is exact for local
        separable systems, and needs |X_c| weights per cluster;
    - one array (|X_c|, features) per cluster; the last agent's state runs fastest. Agents that
        are not steered, if there are any, take one array more, the last.

    The constant is always added. Features are taken as they are: no derivative is taken in them.

    Source: clustered control of transition-independent MDPs, section 3.5.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> mdp.LinearValues("clusters").features
    'clusters'

    ```
    """

    features: str = eqx.field(static=True)
    tables: tuple[Float[Array, "own features"], ...]

    def __init__(self, features: str | Sequence[Any] = "agents"):
        if isinstance(features, str):
            if features not in ("agents", "clusters"):
                raise ValueError(
                    'LinearValues: `features` must be "agents", "clusters" or one array per '
                    f"cluster; got {features!r}."
                )
            self.features, self.tables = features, ()
        else:
            self.features = "given"
            self.tables = tuple(as_parameter("features", table) for table in features)

    @property
    def differentiable(self) -> bool:
        """Yes: least squares have one solution of least norm."""
        return True

    def tolerance(self, dtype: Any) -> float:
        """1e-9 in float64, 1e-5 in float32."""
        return 1e-9 if dtype == jnp.float64 else 1e-5

    def init(self, operator: ClusteredMDP, key: Any) -> Float[Array, " weights"]:
        """Parameters at which all values are zero."""
        del key
        count = 1 + sum(table.shape[1] for _, _, table in self._parts(operator))
        return jnp.zeros(count, operator.model.dtype)

    def at(self, params: Array, operator: ClusteredMDP, place: Place) -> Array:
        """Values of some states."""
        return self._design(operator, place) @ params

    def ahead(
        self, params: Array, operator: ClusteredMDP, place: Place, key: Any
    ) -> "_LinearAhead":
        """Expected values of every cluster under each of its signals."""
        del key
        arrangement, model = operator.arrangement, operator.model
        most = max(arrangement.choices, default=1)
        states = place.index.shape[0]
        heard = jnp.broadcast_to(jnp.arange(most)[:, None], (states, most, model.n_agents))
        heard = jnp.where(jnp.asarray(arrangement.labels) >= 0, heard, 0)
        # A signal that a cluster does not have is looked up at its last one, and never chosen.
        heard = jnp.minimum(heard, jnp.asarray(model.signals) - 1).astype(jnp.int32)
        constant = jnp.broadcast_to(params[0], (states,))
        by_cluster = [jnp.zeros((states, most), params.dtype)] * arrangement.clusters
        start = 1
        for cluster, factors, table in self._parts(operator):
            of_part = params[start : start + table.shape[1]]
            start += table.shape[1]
            count = 1 if cluster < 0 else most
            expected = operator.rows_of(place, factors, heard[:, :count]) @ (table @ of_part)
            if cluster < 0:
                constant = constant + expected[:, 0]
            else:
                by_cluster[cluster] = by_cluster[cluster] + expected
        return _LinearAhead(constant, jnp.stack(by_cluster))

    def prepare(self, operator: ClusteredMDP, place: Place, weights: Array) -> Array:
        """The weighted pseudo-inverse of the features, (weights, states)."""
        root = jnp.sqrt(weights)[:, None]
        return jnp.linalg.pinv(root * self._design(operator, place)) * root[:, 0]

    def fit(self, params: Array, prepared: Array, targets: Array) -> Array:
        """The solution of least norm."""
        del params
        return prepared @ targets

    def checks(self, owner: str, operator: ClusteredMDP, states: int) -> list[Check]:
        """One table per cluster, of its states; all of it fits memory."""
        model, labels = operator.model, operator.arrangement.labels
        most = max(operator.arrangement.choices, default=1)
        clusters = _clusters(operator)
        given = self.features == "given"
        if given and len(self.tables) != len(clusters):
            raise ValueError(
                f"{owner}: `features` must be one array for each of {len(clusters)} clusters"
                + (" (agents that are not steered last)" if np.any(np.asarray(labels) < 0) else "")
                + f"; got {len(self.tables)}."
            )
        rows = 0
        for place, (_, factors) in enumerate(clusters):
            agents = [agent for f in factors for agent in model.factors[f]]
            size = _product([model.sizes[agent] for agent in agents])
            if self.features != "agents":
                rows = max(rows, size)
            if given:
                table = self.tables[place]
                if table.ndim != 2 or table.shape[0] != size:
                    raise ValueError(
                        f"{owner}: `features` of cluster {place} must have shape ({size}, "
                        f"features), one row per joint state of its agents; got {table.shape}."
                    )
        if states * most * rows > _MOST:
            raise ValueError(
                f"{owner}: expected features hold {states * most * rows:.3g} numbers "
                f"({states * most * rows * 8 / 2**30:.3g} GiB), more than {_MOST:.3g}: the largest "
                f'cluster has {rows} joint states. Use features="agents", fewer `samples`, or '
                "more clusters."
            )
        return [
            check_finite(owner, f"features of cluster {place}", table)
            for place, table in enumerate(self.tables)
        ]

    def _parts(self, operator: ClusteredMDP) -> list[tuple[int, list[int], Array]]:
        """(cluster, factors, features of their joint states) of all terms of the sum."""
        model, dtype = operator.model, operator.model.dtype

        def indicators(factors: list[int]) -> Array:
            agents = [agent for f in factors for agent in model.factors[f]]
            # The first state is told by the constant.
            return jnp.eye(_product([model.sizes[agent] for agent in agents]), dtype=dtype)[:, 1:]

        clusters = _clusters(operator)
        if self.features == "agents":
            return [(c, [f], indicators([f])) for c, factors in clusters for f in factors]
        if self.features == "clusters":
            return [(c, factors, indicators(factors)) for c, factors in clusters]
        tables = [jnp.asarray(table, dtype) for table in self.tables]
        tables = jax.lax.stop_gradient(tables)
        return [(c, f, table) for (c, f), table in zip(clusters, tables, strict=True)]

    def _design(self, operator: ClusteredMDP, place: Place) -> Float[Array, "states weights"]:
        columns = [jnp.ones((place.index.shape[0], 1), operator.model.dtype)]
        for _, factors, table in self._parts(operator):
            agents = [agent for f in factors for agent in operator.model.factors[f]]
            columns.append(table[place.within(agents)])
        return jnp.concatenate(columns, 1)


class _LinearAhead(AbstractAhead):
    """A sum over clusters: what no signal changes, and a table for every cluster."""

    constant: Float[Array, " states"]
    by_cluster: Float[Array, "clusters states signals"]

    def under(self, policy: Array) -> Array:
        """The sum of the entries of the policy."""
        return self.constant + jnp.sum(self._chosen(policy), 0)

    def choices(self, policy: Array, cluster: Array) -> Array:
        """The sum with one cluster's row in place of its entry."""
        chosen = self._chosen(policy)
        others = self.constant + jnp.sum(chosen, 0) - chosen[cluster]
        return others[:, None] + self.by_cluster[cluster]

    def _chosen(self, policy: Array) -> Float[Array, "clusters states"]:
        return jnp.take_along_axis(self.by_cluster, policy.T[:, :, None], 2)[..., 0]


def _clusters(operator: ClusteredMDP) -> list[tuple[int, list[int]]]:
    """(cluster, its factors), last those that are not steered if there are any, as cluster -1."""
    model, labels = operator.model, np.asarray(operator.arrangement.labels)
    heard = [int(labels[agents[0]]) for agents in model.factors]
    numbers = [*range(operator.arrangement.clusters), *([-1] if -1 in heard else [])]
    return [(c, [f for f, label in enumerate(heard) if label == c]) for c in numbers]


def _product(numbers: Sequence[int]) -> int:
    return int(np.prod(np.asarray(numbers, dtype=object)))
