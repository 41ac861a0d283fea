"""A neural network as the values of a population to steer."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core.checks import Check, check_count
from ..mdp.behaviours import Place
from ..mdp.clustered import ClusteredMDP
from ..mdp.values import AbstractAhead, AbstractValues

# Numbers that values of next states may take at once (1 GiB in float32).
_MOST = 2**28


class NetworkValues(AbstractValues):
    """V(x) = scale times a network of the states of all agents, one indicator each (flax.nnx).

    For `mepjax.mdp.steer_fitted` where agents interact too much for sums over clusters. Every
    fit takes `steps` steps of Adam (optax) from the params before it, so values settle to about a
    percent and no better, and solutions carry no derivative.

    Expected values of next states are sums over all |X| joint states, or, with `draws`, means
    over so many sampled ones, the same uniforms in every round.

    **Arguments:** `hidden`, widths of hidden layers; `steps` of a fit; `learning_rate`; `draws`,
    next states sampled for each signal (`None`: all).

    **Raises:** `ValueError` for sizes below 1; `ImportError` without flax and optax, naming the
    command that installs them, when it is used.

    **Example:**

    ```python
    >>> import mepjax as mj
    >>> mj.learn.NetworkValues(hidden=(32,), draws=16).steps
    50

    ```
    """

    hidden: tuple[int, ...] = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    learning_rate: float = eqx.field(static=True)
    draws: int | None = eqx.field(static=True)

    def __init__(
        self,
        hidden: Sequence[int] = (64, 64),
        *,
        steps: int = 50,
        learning_rate: float = 3e-3,
        draws: int | None = None,
    ):
        self.hidden = tuple(hidden)
        for width in self.hidden:
            check_count("NetworkValues", "hidden", width)
        check_count("NetworkValues", "steps", steps)
        check_count("NetworkValues", "draws", draws, optional=True)
        if not 0 < learning_rate < np.inf:
            raise ValueError(
                f"NetworkValues: `learning_rate` must be positive; got {learning_rate}."
            )
        self.steps, self.learning_rate, self.draws = steps, learning_rate, draws

    def tolerance(self, dtype: Any) -> float:
        """1e-2: steps of descent jitter."""
        del dtype
        return 1e-2

    def init(self, operator: ClusteredMDP, key: Any) -> dict[str, Any]:
        """Layers drawn by `key`, and the scale of values: the reward of signal 0 for ever."""
        clusters = operator.arrangement.clusters
        layers = _needs("flax.nnx").split(self._network(operator, key))[1]
        states = min(operator.model.n_states, 256)
        place = operator.place(jnp.arange(states) * (operator.model.n_states // states))
        heard = operator.heard_under(jnp.zeros((states, clusters), jnp.int32))
        earned = operator.reward(place, heard[:, None])
        scale = jnp.max(jnp.abs(earned)) / (1 - operator.model.discount)
        return {"layers": layers, "scale": jnp.where(scale > 0, scale, 1.0)}

    def at(self, params: Any, operator: ClusteredMDP, place: Place) -> Float[Array, " states"]:
        """Values of some states."""
        inputs = _indicators(place, operator.model.dtype)
        return params["scale"] * self._call(operator)(params["layers"], inputs)

    def ahead(self, params: Any, operator: ClusteredMDP, place: Place, key: Any) -> AbstractAhead:
        """Means over all next states, or over sampled ones."""
        if self.draws is None:
            every = operator.place(jnp.arange(operator.model.n_states))
            values = self.at(params, operator, every)
            return _Enumerated(operator, place, values)
        factors = len(operator.model.factors)
        drawn = jax.random.uniform(key, (place.index.shape[0], self.draws, factors))
        return _Sampled(operator, place, drawn, self, params)

    def prepare(self, operator: ClusteredMDP, place: Place, weights: Array) -> Any:
        """Indicators of the sampled states, and weights of their squares."""
        return operator, _indicators(place, operator.model.dtype), weights

    def fit(self, params: Any, prepared: Any, targets: Array) -> Any:
        """Steps of Adam on the weighted squares, relative to the scale of values."""
        optax = _needs("optax")
        operator, inputs, weights = prepared
        wanted = targets / params["scale"]
        rate = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        adam, network = optax.adam(rate), self._call(operator)

        def loss(layers: Any) -> Array:
            return weights @ (network(layers, inputs) - wanted) ** 2

        def step(_: Any, carry: Any) -> Any:
            layers, state = carry
            change, state = adam.update(jax.grad(loss)(layers), state)
            return optax.apply_updates(layers, change), state

        start = params["layers"], adam.init(params["layers"])
        layers, _ = jax.lax.fori_loop(0, self.steps, step, start)
        return {"layers": layers, "scale": params["scale"]}

    def checks(self, owner: str, operator: ClusteredMDP, states: int) -> list[Check]:
        """What is evaluated at once fits memory."""
        _needs("flax.nnx")
        model, widest = operator.model, max((sum(operator.model.sizes), *self.hidden))
        many = model.n_states
        if self.draws is not None:
            many = states * max(operator.arrangement.choices) * self.draws
        if many * widest > _MOST:
            raise ValueError(
                f"{owner}: values of {many:.3g} next states hold {many * widest:.3g} numbers, more "
                f"than {_MOST:.3g}. Use NetworkValues(draws=...) with fewer draws, or fewer "
                "`samples`."
            )
        return []

    def _network(self, operator: ClusteredMDP, key: Any) -> Any:
        nnx = _needs("flax.nnx")
        dtype = operator.model.dtype
        rngs = nnx.Rngs(params=jax.random.key(0) if key is None else key)
        widths = (sum(operator.model.sizes), *self.hidden, 1)
        from .networks.shapes import perceptron

        return perceptron(widths, dtype, rngs)

    def _call(self, operator: ClusteredMDP) -> Callable[[Any, Array], Array]:
        """The network as a function of its layers and of indicators."""
        nnx = _needs("flax.nnx")
        graph, _ = nnx.split(nnx.eval_shape(lambda: self._network(operator, None)))
        return lambda layers, inputs: nnx.merge(graph, layers)(inputs)[..., 0]


class _Enumerated(AbstractAhead):
    """Sums over all joint states, by the rows of the two halves."""

    operator: ClusteredMDP
    place: Place
    values: Float[Array, " all_states"]

    def under(self, policy: Int[Array, "states clusters"]) -> Float[Array, " states"]:
        """Under signals of all clusters."""
        signals = self.operator.heard_under(policy)[:, None]
        return self.operator.expected_under(self.place, signals, self.values)[:, 0]

    def choices(
        self, policy: Int[Array, "states clusters"], cluster: Int[Array, ""]
    ) -> Float[Array, "states signals"]:
        """Under every signal of one cluster."""
        return self.operator.expected_under(
            self.place, self.operator.variants(policy, cluster), self.values
        )


class _Sampled(AbstractAhead):
    """Means over next states drawn with fixed uniforms, one per state, draw and factor."""

    operator: ClusteredMDP
    place: Place
    drawn: Float[Array, "states draws factors"]
    network: NetworkValues
    params: Any

    def under(self, policy: Int[Array, "states clusters"]) -> Float[Array, " states"]:
        """Under signals of all clusters."""
        return self._mean(self.operator.heard_under(policy)[:, None])[:, 0]

    def choices(
        self, policy: Int[Array, "states clusters"], cluster: Int[Array, ""]
    ) -> Float[Array, "states signals"]:
        """Under every signal of one cluster."""
        return self._mean(self.operator.variants(policy, cluster))

    def _mean(self, signals: Int[Array, "states variants agents"]) -> Array:
        model = self.operator.model
        shape = (*signals.shape[:2], self.drawn.shape[1])
        digits = jnp.zeros((*shape, model.n_agents), jnp.int32)
        for factor, agents in enumerate(model.factors):
            below = jnp.cumsum(self.operator.rows_of(self.place, [factor], signals), -1)
            uniform = self.drawn[:, None, :, factor, None]
            # Rounding may leave the last sum below one.
            moved = jnp.sum(uniform >= below[:, :, None, :-1], -1)
            own = jnp.unravel_index(moved, tuple(model.sizes[agent] for agent in agents))
            digits = digits.at[..., np.asarray(agents)].set(jnp.stack(own, -1).astype(jnp.int32))
        flat = digits.reshape(-1, model.n_agents)
        place = Place(jnp.zeros(flat.shape[0], jnp.int32), flat, model.sizes)
        return self.network.at(self.params, self.operator, place).reshape(shape).mean(-1)


def _indicators(place: Place, dtype: Any) -> Float[Array, "states inputs"]:
    """One indicator for every state of every agent."""
    columns = [
        jax.nn.one_hot(place.digits[:, agent], size, dtype=dtype)
        for agent, size in enumerate(place.sizes)
    ]
    return jnp.concatenate(columns, 1)


def _needs(name: str) -> Any:
    """An optional package, or an `ImportError` that names the command which installs it."""
    try:
        if name == "optax":
            import optax

            return optax
        from flax import nnx

        return nnx
    except ImportError as error:
        raise ImportError(
            "NetworkValues needs flax and optax, of which one is not installed; run: "
            'pip install "mepjax[learn]"'
        ) from error
