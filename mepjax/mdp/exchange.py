"""Models from and to other libraries: Gymnasium's P and environments, QuantEcon's R and Q."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._core import checks
from .._core.arrays import default_float
from .kernels.dense import Dense
from .kernels.sparse import Sparse
from .learners import Environment
from .model import MDP

_FORBIDDEN = -np.inf


def from_gymnasium(table: Mapping[int, Any], *, discount: Any, start: Any = None) -> MDP:
    """A model from `env.unwrapped.P` of Gymnasium's toy-text environments.

    Where an entry says `terminated` all ends: every such transition leads to one more state, the
    last, which is terminal. Costs are minus the rewards.

    **Arguments:** `table`, `{state: {action: [(probability, next state, reward, terminated)]}}`;
    `discount`; `start`, distribution of the first state over the table's states, default uniform.

    **Returns:** an `MDP` of one state more than the table has.

    **Raises:** `ValueError` for states or actions that are not 0, 1, 2, ... or an action missing.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> table = {
    ...     0: {0: [(1.0, 1, 0.0, False)]},
    ...     1: {0: [(0.5, 1, -1.0, False), (0.5, 0, 2.0, True)]},
    ... }
    >>> print(mdp.solve(mdp.from_gymnasium(table, discount=1.0)).values)
    [-1. -1.  0.]

    ```
    """
    n, a = len(table), len(table.get(0, {}))
    rows = []
    for state in range(n):
        if state not in table or sorted(table[state]) != list(range(a)):
            raise ValueError(
                f"from_gymnasium: `table` must have states 0 to {n - 1} with actions 0 to {a - 1} "
                f"each; state {state} has {sorted(table.get(state, {}))}."
            )
        for action in range(a):
            for p, after, reward, ended in table[state][action]:
                if p > 0:
                    rows.append((state, action, n if ended else int(after), p, -reward))
    rows += [(n, action, n, 1.0, 0.0) for action in range(a)]
    state, action, after = (np.array([row[i] for row in rows], np.int32) for i in range(3))
    p, costs = (np.array([row[i] for row in rows], float) for i in (3, 4))
    dtype = default_float()
    kernel = Sparse(state, action, after, jnp.asarray(p, dtype), n_states=n + 1, n_actions=a)
    if start is not None:
        start = jnp.asarray(np.append(np.asarray(start, float), 0.0), dtype)
    return MDP(
        kernel, jnp.asarray(costs, dtype), discount=jnp.asarray(discount, dtype), terminal=[n],
        start=start,
    )  # fmt: skip


def from_quantecon(R: Any, Q: Any, beta: Any) -> MDP:
    """A model from the arrays of QuantEcon's `DiscreteDP(R, Q, beta)` in product form.

    **Arguments:** `R`, rewards (states, actions), -inf where an action is not permitted; `Q`,
    probabilities (states, actions, states); `beta`, the discount. Costs are minus the rewards.

    **Raises:** `ValueError` for other shapes.
    """
    rewards = np.asarray(R, float)
    permitted = rewards != _FORBIDDEN
    dtype = default_float()
    costs = jnp.asarray(-np.where(permitted, rewards, 0.0), dtype)
    return MDP(
        Dense(jnp.asarray(np.asarray(Q, float), dtype)), costs,
        discount=jnp.asarray(beta, dtype), permitted=None if permitted.all() else permitted,
    )  # fmt: skip


def to_quantecon(model: MDP) -> tuple[np.ndarray, np.ndarray, float]:
    """R, Q and beta for QuantEcon's `DiscreteDP`; terminal states stay and earn nothing.

    **Returns:** rewards (states, actions), -inf where not permitted; probabilities (states,
    actions, states); the discount.
    """
    n, a = model.n_states, model.n_actions
    rewards = -np.array(model.expected_costs(), float)
    if model.permitted is not None:
        rewards[~np.asarray(model.permitted)] = _FORBIDDEN
    found = model.kernel.outcomes()
    p = np.asarray(model.kernel.probabilities(), float)
    shape = np.broadcast_shapes(p.shape, *(i.shape for i in found))
    chances = np.zeros((n, a, n))
    index = tuple(np.broadcast_to(np.asarray(i), shape) for i in found)
    np.add.at(chances, index, np.broadcast_to(p, shape))
    ends = np.flatnonzero(np.asarray(model.terminal))
    rewards[ends] = 0.0
    chances[ends] = 0.0
    chances[ends[:, None], np.arange(a), ends[:, None]] = 1.0
    return rewards, chances, float(model.discount)


def as_gymnasium(model: MDP, *, noise: float = 0.0, max_steps: int = 200) -> Any:
    """A `gymnasium.Env` whose rewards are minus the costs.

    Observations are states and actions those of the model, both `Discrete`. An episode starts at a
    state drawn from the start distribution, is terminated where all ends, and truncated after
    `max_steps`. `info` has the mask of permitted actions, `"action_mask"`.

    **Arguments:** `model`, with concrete transitions; `noise`, standard deviation of the cost.

    **Raises:** `ImportError` without gymnasium, naming the command that installs it.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> from mepjax.datasets import frozen_lake
    >>> env = mdp.as_gymnasium(frozen_lake(["SF", "HG"], slippery=False))
    >>> env.reset(seed=0)[0], env.step(2)[:4]
    (0, (1, -1.0, False, False))

    ```
    """
    try:
        import gymnasium
    except ImportError as error:
        raise ImportError(
            "mdp.as_gymnasium needs gymnasium, which is not installed; run: "
            'pip install "mepjax[mdp]"'
        ) from error
    checks.check_count("mdp.as_gymnasium", "max_steps", max_steps)
    # On the host, one step is a look into these.
    tables = Environment(model, noise=noise)
    after, cumulated = np.asarray(tables.next), np.asarray(tables.cumulated, np.float64)
    costs, terminal = np.asarray(tables.costs, np.float64), np.asarray(model.terminal)
    start = np.cumsum(np.asarray(model.start, np.float64))
    allowed = None if model.permitted is None else np.asarray(model.permitted)
    sigma = float(noise)

    class Decisions(gymnasium.Env):
        """Steps of the model."""

        observation_space = gymnasium.spaces.Discrete(model.n_states)
        action_space = gymnasium.spaces.Discrete(model.n_actions)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            """Draw a first state."""
            super().reset(seed=seed, options=options)
            self.steps = 0
            drawn = self.np_random.uniform() * start[-1]
            self.state = int(min(np.searchsorted(start, drawn, side="right"), len(start) - 1))
            return self.state, self._info()

        def step(self, action: Any) -> Any:
            """Take an action."""
            if not self.action_space.contains(action):
                raise ValueError(
                    f"`action` must be an integer below {model.n_actions}, from 0 on; got {action}."
                )
            if allowed is not None and not (allowed[self.state, action] or terminal[self.state]):
                raise ValueError(
                    f"action {int(action)} is not permitted in state {self.state}; see "
                    '`info["action_mask"]`.'
                )
            self.steps += 1
            if terminal[self.state]:
                return self.state, 0.0, True, self.steps >= max_steps, self._info()
            chances = cumulated[self.state, action]
            place = min(int(np.sum(chances <= self.np_random.uniform())), len(chances) - 1)
            cost = costs[self.state, action, place] + sigma * self.np_random.normal()
            self.state = int(after[self.state, action, place])
            ended = bool(terminal[self.state])
            return self.state, -float(cost), ended, self.steps >= max_steps, self._info()

        def _info(self) -> dict[str, Any]:
            every = np.ones(model.n_actions, np.int8)
            if allowed is not None and not terminal[self.state]:
                every = allowed[self.state].astype(np.int8)
            return {"action_mask": every}

    return Decisions()
