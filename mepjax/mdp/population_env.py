"""A population to steer as a Gymnasium environment."""

from typing import Any

import jax
import numpy as np

from .arrangement import arrange, check_labels
from .clustered import ClusteredMDP
from .factored import FactoredMDP
from .population import transition


def environment(model: FactoredMDP, labels: Any, *, max_steps: int = 200) -> Any:
    """A `gymnasium.Env` whose actions are the signals of the clusters.

    Observations are the states of all agents, actions one signal per cluster, both
    `MultiDiscrete`; the first state is drawn uniformly, and an episode is cut after `max_steps`.

    **Arguments:** `model` and `labels` as for `steer`; `max_steps`.

    **Raises:** `ImportError` without gymnasium, naming the command that installs it.

    **Example:**

    ```python
    >>> from mepjax import datasets, mdp
    >>> env = mdp.environment(datasets.channel_game(3), [0, 0, 1])
    >>> env.action_space
    MultiDiscrete([3 3])

    ```
    """
    try:
        import gymnasium
    except ImportError as error:
        raise ImportError(
            "mdp.environment needs gymnasium, which is not installed; run: "
            'pip install "mepjax[mdp]"'
        ) from error
    full, count = check_labels(model, np.asarray(labels), None)
    operator = ClusteredMDP(model, arrange(model, full, count))

    class Population(gymnasium.Env):
        """Agents that react to the signals of their clusters."""

        observation_space = gymnasium.spaces.MultiDiscrete(list(model.sizes))
        action_space = gymnasium.spaces.MultiDiscrete(list(operator.arrangement.choices))

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            """Draw a first state."""
            super().reset(seed=seed, options=options)
            self.steps = 0
            self.states = np.array([self.np_random.integers(size) for size in model.sizes])
            return self.states.copy(), {}

        def step(self, action: Any) -> Any:
            """Send signals, and let all agents move."""
            index = np.ravel_multi_index(tuple(self.states), model.sizes)
            key = jax.random.key(int(self.np_random.integers(2**31)))
            states, reward = transition(operator, np.asarray(action, np.int32), key, index)
            self.states, self.steps = np.asarray(states, np.int64), self.steps + 1
            return self.states.copy(), float(reward), False, self.steps >= max_steps, {}

    return Population()
