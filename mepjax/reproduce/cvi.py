"""Clustered control of transition-independent MDPs, section 6: CVI, the hybrid, GSA-R, channels."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import mdp
from .._core.programs import compile_options, program
from ..mdp.splitting import partitions
from .cvi_channels import channel_claims, channel_tasks
from .cvi_draw import drawn
from .numbers import CVI_FIGURE_3, CVI_TIMES
from .reproduction import Claim, Reproduction, Setting, Task

# What section 6.1 leaves open: the discount, p and r ~ U(0, 1), and the tolerances are absolute.
_AGENTS, _SIGNALS, _DISCOUNT, _EPSILON, _DELTA = 7, 3, 0.9, 1e-5, 1e-4
_CVI = mdp.CVI(atol=_EPSILON)
_HYBRID = mdp.Hybrid(atol=_DELTA, cluster_atol=_EPSILON)
# Value iteration here stops by the span of the change, in a tenth of the sweeps of the paper's.
_TIMED = {"cvi": _CVI, "split": mdp.ValueIteration(rtol=_EPSILON)}
_SUCCESSIVE = mdp.Hybrid(atol=_DELTA, cluster_atol=_EPSILON, stop="successive")


def _system(seed: int, separable: bool, local: bool, agents: int = _AGENTS) -> mdp.FactoredMDP:
    rng = np.random.default_rng(seed)
    states = 2 if local else 2**agents
    up = rng.uniform(size=(agents, states, _SIGNALS))
    kind = mdp.Local if local else mdp.Table
    behaviours = [kind(np.stack([1 - p, p], -1)) for p in up]
    reward: Any = rng.uniform(size=2**agents)
    if separable:
        own = rng.uniform(size=(agents, 2))
        reward = mdp.Separable([np.repeat(r[:, None], _SIGNALS, 1) for r in own])
    return mdp.FactoredMDP(
        behaviours, reward, sizes=[2] * agents, signals=_SIGNALS, discount=_DISCOUNT
    )


@program
def _measure(model: mdp.FactoredMDP, labels: jax.Array, clusters: int) -> dict[str, jax.Array]:
    """Norms and full sweeps of every clustering, one after the other."""

    def one(labels: jax.Array) -> dict[str, jax.Array]:
        best, near, again = (
            mdp.steer(model, labels, method=method, clusters=clusters, certificate="none")
            for method in (_HYBRID, _CVI, _SUCCESSIVE)
        )
        short = jnp.max(best.values - near.values) / jnp.max(jnp.abs(best.values))
        return {
            "best": jnp.linalg.norm(best.values),
            "cvi": jnp.linalg.norm(near.values),
            "missed": short > 10 * _DELTA / jnp.max(jnp.abs(best.values)),
            "sweeps": best.full_sweeps,
            "successive": again.full_sweeps,
            "code": jnp.maximum(jnp.maximum(best.code, near.code), again.code),
        }

    return jax.lax.map(one, labels)


def by_clusters(setting: Setting, separable: bool, local: bool) -> dict[str, Any]:
    """Section 6.1: means over clusterings for C = 1..7."""
    most = setting.pick(3, 12, 60)
    found: dict[str, Any] = {}
    with jax.enable_x64(True):
        model = _system(setting.seed, separable, local)
        rng = np.random.default_rng(setting.seed + 1)
        rows = []
        for clusters in range(1, _AGENTS + 1):
            every = list(partitions(_AGENTS, clusters))
            chosen = rng.permutation(len(every))[:most]
            labels = jnp.asarray([every[place] for place in chosen], jnp.int32)
            rows.append(jax.tree.map(np.asarray, _measure(model, labels, clusters)))
    if any(np.any(row["code"] != 0) for row in rows):
        raise RuntimeError("a clustering of section 6.1 was not solved")
    top = float(np.mean(rows[-1]["best"]))
    found["value"] = [float(np.mean(row["best"])) / top for row in rows]
    found["cvi"] = [float(np.mean(row["cvi"] / row["best"])) for row in rows]
    found["worst"] = [float(np.min(row["cvi"] / row["best"])) for row in rows]
    found["missed"] = [float(np.mean(row["missed"])) for row in rows]
    found["sweeps"] = [float(np.mean(row["sweeps"])) for row in rows]
    found["successive"] = [float(np.mean(row["successive"])) for row in rows]
    found["clusterings"] = [len(row["best"]) for row in rows]
    return found


def _times(setting: Setting) -> dict[str, Any]:
    """Section 6.1, C = 1 .. 7: CVI against value iteration with the same stop, both baselines."""
    repeats = setting.pick(3, 5, 5)
    numbers = setting.pick((1, _AGENTS), range(1, _AGENTS + 1), range(1, _AGENTS + 1))
    taken: dict[str, list[float]] = {"cvi": [], "split": [], "joint": []}
    with jax.enable_x64(True), compile_options("full"):
        model = _system(setting.seed, False, False)
        for clusters in numbers:
            labels = np.arange(_AGENTS) % clusters
            for name, method in _TIMED.items():
                solve = jax.jit(
                    lambda model, method=method, labels=labels: (
                        mdp.steer(model, labels, method=method, certificate="none").values
                    )
                )
                taken[name].append(_best(repeats, lambda: solve(model)))  # noqa: B023
            taken["joint"].append(_best(repeats, _joint_iteration(model, labels)))
    cvi, split, joint = (taken[name] for name in ("cvi", "split", "joint"))
    return {
        "times": [
            joint[-1] / cvi[-1], split[-1] / cvi[-1], cvi[-1] / cvi[0], split[-1] / split[0],
        ],
        "C": list(numbers),
        "split_over_cvi": np.divide(split, cvi).tolist(),
        "joint_over_cvi": np.divide(joint, cvi).tolist(),
    }  # fmt: skip


def _joint_iteration(model: mdp.FactoredMDP, labels: Any = None) -> Any:
    """Value iteration on the joint kernel until values move by at most epsilon, as in the paper.

    Its kernel, (3^C, 128, 128), takes 273 MiB for seven clusters.
    """
    leaves = jax.tree.leaves((model.behaviours, model.reward))
    tables, reward = [np.asarray(leaf) for leaf in leaves[:-1]], leaves[-1]
    labels = np.arange(len(tables)) if labels is None else np.asarray(labels)
    told = np.stack(np.unravel_index(np.arange(_SIGNALS ** (labels.max() + 1)),
                                     (_SIGNALS,) * int(labels.max() + 1)), -1)  # fmt: skip
    kernel = np.ones((len(told), model.n_states, 1))
    for table, label in zip(tables, labels, strict=True):
        rows = table.transpose(1, 0, 2)[told[:, label]]
        kernel = (kernel[..., None] * rows[:, :, None, :]).reshape(*kernel.shape[:2], -1)
    flat = jnp.asarray(kernel.reshape(-1, model.n_states))

    @jax.jit
    def solve(flat: jax.Array, earned: jax.Array) -> jax.Array:
        def step(state: Any) -> Any:
            values, _ = state
            new = earned + _DISCOUNT * jnp.max((flat @ values).reshape(-1, model.n_states), 0)
            return new, values

        start = earned, earned - 1
        go = lambda state: jnp.max(jnp.abs(state[0] - state[1])) > _EPSILON  # noqa: E731
        return jax.lax.while_loop(go, step, start)[0]

    return lambda: solve(flat, reward)


def _best(repeats: int, function: Any) -> float:
    jax.block_until_ready(function())
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        taken.append(time.perf_counter() - start)
    return min(taken)


def _greedy(setting: Setting) -> dict[str, Any]:
    """Section 6.2: ten binary agents, local and separable."""
    systems, agents = setting.pick(1, 5, 20), 10
    with jax.enable_x64(True):
        pairs = []
        for number in range(systems):
            model = _system(setting.seed + number, True, True, agents)
            pairs.append((mdp.split(model), mdp.best_clustering(model, method="subsets")))
    first = pairs[0][0]
    gaps = [1 - greedy.values / best.values for greedy, best in pairs]
    return {
        "value": (first.values / first.values[-1]).tolist(),
        "gains": (first.gains / first.values[-1]).tolist(),
        "looked": first.examined.tolist(),
        "all": list(first.exhaustive),
        "gap": np.mean(gaps, 0).tolist(),
        "fall": [float(np.mean([greedy.gains_fall for greedy, _ in pairs]))],
    }


def _growth(setting: Setting) -> dict[str, Any]:
    """How times grow with N = C: CVI to its end, and one exact sweep by halves."""
    most = setting.pick(7, 9, 10)
    agents = list(range(3, most + 1))
    taken: dict[str, list[float]] = {"cvi_ms": [], "sweep_ms": []}
    with jax.enable_x64(True), compile_options("full"):
        for n in agents:
            model = _system(setting.seed, False, False, n)
            near, sweep = (
                jax.jit(
                    lambda model, method=method, n=n: (
                        mdp.steer(model, np.arange(n), method=method, certificate="none").values
                    )
                )
                for method in (_CVI, mdp.ValueIteration(max_steps=1))
            )
            # Short calls are at the mercy of whatever else runs.
            repeats = 50 if n < 9 else 3
            taken["cvi_ms"].append(1e3 * _best(repeats, lambda: near(model)))  # noqa: B023
            taken["sweep_ms"].append(1e3 * _best(repeats, lambda: sweep(model)))  # noqa: B023
    return {"agents": agents, **taken}


SECTION_1 = {
    "6.1 coupled, not separable": (False, False),
    "6.1 coupled, separable": (True, False),
    "6.1 local, separable": (True, True),
}


def _tasks(setting: Setting) -> list[Task]:
    tasks = [
        Task(
            key,
            lambda separable=separable, local=local: by_clusters(setting, separable, local),
            {"successive": CVI_FIGURE_3} if key == "6.1 coupled, not separable" else {},
        )
        for key, (separable, local) in SECTION_1.items()
    ]
    tasks += [
        Task("6.1 times", lambda: _times(setting), {"times": CVI_TIMES}),
        Task("6.1 growth, N = C", lambda: _growth(setting)),
        Task("6.2 greedy splitting", lambda: _greedy(setting)),
    ]
    tasks += channel_tasks(setting)
    return tasks


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    claims = []
    local = rows.get("6.1 local, separable")
    if local is not None:
        missed = max(local["missed"])
        claims.append(
            Claim(
                "CVI is optimal with separable rewards (Theorem 5), where transitions are local",
                "always", f"missed {missed:.0%}", missed == 0,
            )
        )  # fmt: skip
    coupled = rows.get("6.1 coupled, separable")
    if coupled is not None:
        missed = max(coupled["missed"])
        claims.append(
            Claim(
                "the same where they are coupled, as in Definition 4",
                "always", f"missed up to {missed:.0%}", missed == 0,
            )
        )  # fmt: skip
    growth = rows.get("6.1 growth, N = C")
    if growth is not None:
        ratio = np.divide(growth["sweep_ms"], growth["cvi_ms"])
        claims.append(
            Claim(
                f"one exact sweep over the whole of CVI, N = C = {growth['agents'][0]} and "
                f"{growth['agents'][-1]}",
                "grows", f"{ratio[0]:.2g} and {ratio[-1]:.2g}", bool(ratio[-1] > ratio[0]),
            )
        )  # fmt: skip
    greedy = rows.get("6.2 greedy splitting")
    if greedy is not None:
        fewer = [c for c, pair in enumerate(zip(greedy["looked"], greedy["all"], strict=True), 1)
                 if pair[0] < pair[1]]  # fmt: skip
        claims.append(
            Claim(
                "numbers of clusters at which greedy splitting looks at fewer clusterings",
                "all", f"{fewer[0]} to {fewer[-1]}", len(fewer) == len(greedy["all"]),
            )
        )  # fmt: skip
        claims.append(
            Claim(
                "its largest mean gap to the best clustering", "-",
                f"{max(greedy['gap']):.2%}", max(greedy["gap"]) <= 0.005,
            )
        )  # fmt: skip
    claims += channel_claims(rows)
    return claims


REPRODUCTION = Reproduction(
    "cvi",
    "clustered value iteration, its hybrid, and greedy splitting",
    "clustered control of transition-independent MDPs, section 6, Figures 1 to 5",
    _tasks,
    {
        "value": "value by C",
        "cvi": "CVI by C",
        "worst": "CVI, worst",
        "missed": "share missed",
        "sweeps": "full sweeps (certificate)",
        "successive": "full sweeps (successive values)",
        "looked": "clusterings looked at",
        "all": "of",
        "gains": "gains",
        "gap": "gap of greedy",
        "cvi_ms": "CVI (ms)",
        "sweep_ms": "one split sweep (ms)",
        "fall": "share of draws in which gains fall",
        "times": "joint VI / CVI, split VI / CVI, CVI at 7 / at 1, VI at 7 / at 1",
        "split_over_cvi": "split VI / CVI by C",
        "joint_over_cvi": "joint VI / CVI by C",
        "lowest": "lowest state by C",
    },
    _claims,
    drawn,
    minutes={"small": 3, "medium": 12, "paper": 35},
)
