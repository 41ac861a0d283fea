"""Figure 3.5: small cells for users anywhere in patches, learnt by a network from answers alone."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

import mepjax as mj

from .. import learn
from ..datasets import small_cells
from ..datasets.small_cells import SIDE, SmallCells
from .figure_3_4 import cheapest
from .reproduction import Claim, Reproduction, Setting, Task

# Betas from and to, in units of the first transition.
_FROM, _TO = 0.5, 1e3
# Steps of an episode at most, and episodes that judge a seed.
_LONGEST, _EPISODES = 12, 4_000


class Patches(learn.AbstractVectorProcess):
    """Packets of users who are anywhere in the patches of a network; params are places of cells.

    A state is a place, whether a user is there, and which cell is: all zero at the base. A network
    is shown where that is, the ways to all cells and to the base, and their squared lengths; what
    they cost it has to learn.
    """

    corners: Float[Array, "p 2"]
    base: Float[Array, "2"]
    n_cells: int = eqx.field(static=True)
    n_actions: int = eqx.field(static=True)

    def __init__(self, network: SmallCells) -> None:
        assert network.patches is not None
        self.corners, self.base = network.patches, network.base
        self.n_cells, self.n_actions = network.n_cells, network.n_cells + 1

    def reset(self, key: Any) -> Float[Array, " d"]:
        """A user, uniform over the patches."""
        which, where = jax.random.split(key)
        corner = self.corners[jax.random.randint(which, (), 0, self.corners.shape[0])]
        place = corner + SIDE * jax.random.uniform(where, (2,), corner.dtype)
        return jnp.concatenate([place, jnp.ones(1), jnp.zeros(self.n_cells)])

    def _place(self, state: Float[Array, " d"], params: Float[Array, "m 2"]) -> Float[Array, "2"]:
        away = 1 - jnp.sum(state[2:])
        return state[2] * state[:2] + state[3:] @ params + away * self.base

    def step(
        self, key: Any, state: Float[Array, " d"], action: Int[Array, ""], params: Any
    ) -> tuple[Float[Array, " d"], Float[Array, ""], Bool[Array, ""]]:
        """To the cell of that number, or to the base, for the squared distance."""
        del key
        ends = action == self.n_cells
        to = jnp.where(ends, self.base, params[jnp.minimum(action, self.n_cells - 1)])
        cost = jnp.sum((self._place(state, params) - to) ** 2)
        cell = jax.nn.one_hot(action, self.n_cells, dtype=state.dtype)
        return jnp.concatenate([jnp.zeros(3, state.dtype), cell]), cost, ends

    def permitted(self, state: Float[Array, " d"]) -> Bool[Array, " actions"]:
        """Users send to cells only."""
        return (state[2] == 0) | (jnp.arange(self.n_actions) < self.n_cells)

    def observe(self, state: Float[Array, " d"], params: Any) -> Float[Array, " features"]:
        """Who it is, where, all ways from there with their squared lengths, and all places."""
        ways = jnp.concatenate([params, self.base[None]]) - self._place(state, params)
        squared = jnp.sum(ways**2, axis=1)
        return jnp.concatenate([state[2:], state[:2], ways.ravel(), squared, params.ravel()])


@eqx.filter_jit
def _learnt(env: Patches, init: Any, beta: Any, keys: Any, rounds: int) -> tuple[Any, Any]:
    """What each key learns, and its sampled cost; one program for all layouts."""

    def run(key: Any) -> tuple[Any, Any]:
        found = learn.deep_soft_q(
            env, init, key=key, beta=beta, rounds=rounds, max_steps=_LONGEST
        )  # fmt: skip
        cost = found.action_values.sampled_cost(
            found.params, beta[-1], key=key, episodes=_EPISODES, max_steps=_LONGEST
        )
        return found, cost

    return jax.lax.map(run, keys)


def _compute(setting: Setting, seed: int) -> dict[str, Any]:
    users, cells = setting.pick((120, 3), (600, 5), (600, 5))
    network = small_cells(users, cells, seed=seed, layout="patches")
    problem, key = network.problem(), jax.random.key(seed)
    known = mj.anneal(problem, key=key, repair=mj.Repair(), adjoint=mj.NoGrad())
    best = float(problem.harden(known.raise_if_failed().params).cost)
    scale = float(problem.beta_scale())
    beta = jnp.geomspace(_FROM * scale, _TO * scale, setting.pick(24, 40, 40))

    keys = jax.random.split(key, setting.pick(8, 4, 8))
    rounds = setting.pick(60, 80, 80)
    found, sampled = _learnt(Patches(network), problem.init(key), beta, keys, rounds)
    chosen = cheapest(found.code, sampled)
    asked = np.asarray(found.interactions) + _EPISODES * _LONGEST
    costs = [float(problem.harden(places).cost) for places in found.params]
    return {
        "above": 100 * (costs[chosen] / best - 1),
        "best": 100 * (min(costs) / best - 1),
        "learnt": float(sampled[chosen]),
        "model": best,
        "interactions": float(np.sum(asked)),
        "users": np.asarray(network.users).tolist(),
        "places": np.asarray(found.params[chosen]).tolist(),
        "known": np.asarray(known.params).tolist(),
    }


def _key(seed: int) -> str:
    return f"layout {seed}"


def _tasks(setting: Setting) -> list[Task]:
    seeds = range(setting.pick(2, 5, 5))
    return [Task(_key(seed), lambda s=seed: _compute(setting, s)) for seed in seeds]


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    above = [row["above"] for row in rows.values()]
    if not above:
        return []
    mean = float(np.mean(above))
    found = f"{mean:.2f} % ({min(above):.2f} to {max(above):.2f} %) over {len(above)} layouts"
    return [
        Claim(
            "cost above that of the model's own anneal", "a picture; at most 2 %", found, mean <= 2
        )
    ]


def _draw(rows: dict[str, Any], setting: Setting) -> dict[str, Any]:
    del setting
    if not rows:
        return {}

    def panels(figure: Any) -> None:
        axes = figure.subplots(1, len(rows), squeeze=False)[0]
        for ax, (name, row) in zip(axes, rows.items(), strict=True):
            ax.plot(*np.asarray(row["users"]).T, ".", markersize=1, color="0.7")
            ax.plot(*np.asarray(row["known"]).T, "s", fillstyle="none", label="with the model")
            ax.plot(*np.asarray(row["places"]).T, "x", label="learnt")
            ax.set_title(name, fontsize=9)
            ax.set_aspect("equal")
        axes[0].legend(fontsize=7, frameon=False)

    return {"places": panels}


REPRODUCTION = Reproduction(
    "figure_3_5",
    "small cells for users in patches, without the model",
    "parameterized sequential decision making, Figure 3.5",
    _tasks,
    {
        "above": "above the model's, %",
        "best": "best seed, %",
        "learnt": "sampled cost",
        "model": "cost of the model's",
        "interactions": "interactions",
    },
    _claims,
    _draw,
    minutes={"small": 3, "medium": 10, "paper": 20},
)
