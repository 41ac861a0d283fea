"""Transition-independent MDPs: agents that move independently given the state and the signals."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._core.arrays import as_float_array, cast_floats, default_float
from .._core.checks import Check, enforce, is_count, on_host
from .behaviours import AbstractBehaviour, Group, Scoped, Table, check_scope, name_agents
from .rewards import AbstractReward, as_reward

# States are numbered with 32-bit integers.
_LARGEST = 2**31 - 1


class FactoredMDP(eqx.Module):
    """A population of agents under signals of a planner, never written as one kernel.

    Agent n is in one of |X_n| states; given the joint state x and its signal it moves by its own
    behaviour, independently of the others (Definition 4 of the paper). The planner earns
    r(x, signals), discounted, and chooses the signals; `mdp.steer` finds them, one signal for each
    cluster of agents.

    Values start at the smallest reward over (1 - discount), which is what shifting negative
    rewards to zero, and values back, would do; rewards of any sign are fine.

    **Arguments:**

    - `behaviours`: one per agent, in order, with shapes that suit `sizes` and `signals`: `Table`
        (or its array), `Local`, `Scoped`, `NextState`, `Rows`; a `Group` stands for its agents.
    - `reward`: `Separable`, an array (|X|,) over joint states, or a function of states and
        signals of all agents.
    - `sizes`: |X_n| for every agent. Joint states are numbered with the last agent fastest.
    - `signals`: how many signals there are, one number or one per agent. Agents with one signal
        only (an environment, a turn) are not steered and belong to no cluster.
    - `discount`: in (0, 1).

    **Raises:** `ValueError` for shapes that disagree, rows that do not sum to one (agent, state
    and signal named), next states out of range, rewards that are not finite, a discount outside
    (0, 1), groups that overlap. Traced numbers give the code of the solve instead.

    Source: clustered control of transition-independent MDPs, section 2.

    **Example:**

    ```python
    >>> import numpy as np
    >>> from mepjax import mdp
    >>> follow = np.eye(2)[None].repeat(2, 0)  # next state = signal, whatever the own state
    >>> mixed = [0, 1, 1, 1, 1, 1, 1, 0]  # earned where not all agents are in the same state
    >>> model = mdp.FactoredMDP(
    ...     [mdp.Local(follow)] * 3, mixed, sizes=[2] * 3, signals=2, discount=0.9
    ... )
    >>> model.n_states, model.n_agents
    (8, 3)

    ```
    """

    behaviours: tuple[AbstractBehaviour, ...]
    reward: AbstractReward
    discount: Float[Array, ""]
    sizes: tuple[int, ...] = eqx.field(static=True)
    signals: tuple[int, ...] = eqx.field(static=True)
    factors: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def __init__(
        self,
        behaviours: Sequence[Any],
        reward: Any,
        *,
        sizes: Sequence[int],
        signals: int | Sequence[int],
        discount: Any,
    ):
        self.sizes = _counts("sizes", sizes)
        each = [signals] * len(self.sizes) if is_count(signals) else signals
        self.signals = _counts("signals", each)
        if len(self.signals) != len(self.sizes):
            raise ValueError(
                f"FactoredMDP: `signals` must be one number or one per agent ({len(self.sizes)}); "
                f"got {len(self.signals)}."
            )
        states = 1
        for size in self.sizes:
            states *= size
        if states > _LARGEST:
            raise ValueError(
                f"FactoredMDP: `sizes` make {states:.3g} joint states, more than can be "
                f"numbered (2^31); their values alone take {states * 8 / 2**30:.3g} GiB. Model "
                "fewer agents at once."
            )
        self.behaviours, self.factors = _in_order(behaviours, len(self.sizes))
        numbers = (self.behaviours, as_reward(reward))
        self.behaviours, self.reward = cast_floats(numbers, _dtype(numbers))
        self.discount = as_float_array("discount", discount, self.dtype)
        if self.discount.shape != ():
            raise ValueError(
                f"FactoredMDP: `discount` must be a number; got shape {self.discount.shape}."
            )
        for agents in self.factors:
            if len({self.signals[agent] for agent in agents}) > 1:
                raise ValueError(
                    f"FactoredMDP: {name_agents(agents)} form a group and must have the same "
                    f"`signals`; got {[self.signals[agent] for agent in agents]}."
                )
        enforce(self.checks())

    @property
    def n_agents(self) -> int:
        """N, the number of agents, steered or not."""
        return len(self.sizes)

    @property
    def n_states(self) -> int:
        """|X|, the product of `sizes`."""
        return int(np.prod(self.sizes))

    @property
    def steered(self) -> tuple[int, ...]:
        """Agents with more than one signal; labels of clusterings are theirs, in this order."""
        return tuple(n for n, signals in enumerate(self.signals) if signals > 1)

    @property
    def dtype(self) -> Any:
        """Floating dtype of its numbers."""
        return _dtype((self.behaviours, self.reward))

    @property
    def local(self) -> bool:
        """Whether every agent (or group) moves by its own state and signal alone."""
        return all(
            behaviour.local or (isinstance(behaviour, Scoped) and behaviour.parents == agents)
            for behaviour, agents in zip(self.behaviours, self.factors, strict=True)
        )

    @property
    def local_separable(self) -> bool:
        """Whether clusters do not interact at all, so that clustered value iteration is exact."""
        return self.local and self.reward.separable()

    def checks(self) -> list[Check]:
        """Conditions on all its numbers, for the host or for a result code."""
        owner = "FactoredMDP"
        _, discount = on_host(self.discount)
        inside = (discount > 0) & (discount < 1)
        checks = [Check(inside, discount, f"{owner}: `discount` must be in (0, 1); got {{got}}.")]
        for behaviour, agents in zip(self.behaviours, self.factors, strict=True):
            checks += behaviour.checks(owner, self.sizes, agents, self.signals[agents[0]])
        return checks + self.reward.checks(owner, self.sizes, self.signals)

    def state(self, *states: int) -> int:
        """Number of a joint state, from the states of all agents."""
        return int(np.ravel_multi_index(states, self.sizes))


def _counts(name: str, values: Any) -> tuple[int, ...]:
    counts = tuple(values)
    wrong = [value for value in counts if not is_count(value) or value < 1]
    if wrong or not counts:
        raise ValueError(
            f"FactoredMDP: `{name}` must be integers of at least 1; got {wrong or counts!r}."
        )
    return tuple(int(value) for value in counts)


def _in_order(
    behaviours: Sequence[Any], agents: int
) -> tuple[tuple[AbstractBehaviour, ...], tuple[tuple[int, ...], ...]]:
    """Behaviours and the agents each belongs to; groups take theirs, others what is left."""
    made = [b if isinstance(b, AbstractBehaviour) else Table(b) for b in behaviours]
    taken = [agent for b in made if isinstance(b, Group) for agent in b.agents]
    check_scope("FactoredMDP", "agents of groups", taken, agents)
    free = [agent for agent in range(agents) if agent not in taken]
    alone = sum(not isinstance(b, Group) for b in made)
    if alone != len(free):
        raise ValueError(
            f"FactoredMDP: `behaviours` must be one per agent outside groups, {len(free)}; "
            f"got {alone}."
        )
    rest = iter(free)
    factors = tuple(b.agents if isinstance(b, Group) else (next(rest),) for b in made)
    return tuple(made), factors


def _dtype(numbers: Any) -> Any:
    """That of its JAX arrays, to which all other numbers adapt."""
    leaves = [leaf for leaf in jax.tree.leaves(numbers) if eqx.is_inexact_array(leaf)]
    arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
    return jnp.result_type(*arrays) if arrays else default_float()
