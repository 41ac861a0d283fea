"""Clustered value iteration and the split backup, against agent by agent and the joint kernel.

`python -m benchmarks steering:sweeps,ten,fourteen,channels` runs parts; all are in `PARTS`.
"""

import time
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax import mdp
from mepjax.mdp.arrangement import arrange, check_labels
from mepjax.mdp.clustered import ClusteredMDP
from mepjax.reproduce import Setting
from mepjax.reproduce.cvi import SECTION_1, _joint_iteration, _system, by_clusters
from mepjax.reproduce.cvi_channels import AS_READ, CHOICES, SCENARIOS, chosen
from mepjax.reproduce.numbers import CVI_FIGURE_5

from .measure import clocked, peak_megabytes, timed

_EPSILON, _DISCOUNT = 1e-5, 0.9


def _operator(model: mdp.FactoredMDP, clusters: int) -> ClusteredMDP:
    labels = np.sort(np.arange(model.n_agents) % clusters)
    full, count = check_labels(model, labels, None)
    return ClusteredMDP(model, arrange(model, full, count))


def _tables(model: mdp.FactoredMDP) -> tuple[Any, ...]:
    """Rows of every agent."""
    behaviours: Any = model.behaviours
    return tuple(behaviour.p for behaviour in behaviours)


def _earned(model: mdp.FactoredMDP) -> jax.Array:
    """Rewards of states."""
    reward: Any = model.reward
    return reward.table


def _agent_by_agent(model: mdp.FactoredMDP) -> Any:
    """The exact backup that contracts one agent after the other, C = N.

    It does half as many products as the split one, in thinner matrices.
    """
    tables = _tables(model)

    @jax.jit
    def backup(tables: Any, reward: jax.Array, values: jax.Array) -> jax.Array:
        left = jnp.broadcast_to(values, (model.n_states, 1, model.n_states))
        for table in tables:
            grid = left.reshape(*left.shape[:2], 2, -1)
            left = jnp.einsum("xsky,xmk->xsmy", grid, table)
            left = left.reshape(model.n_states, -1, grid.shape[-1])
        return reward + _DISCOUNT * jnp.max(left[..., 0], 1)

    return lambda values: backup(tables, _earned(model), values)


def _joint(model: mdp.FactoredMDP) -> Any:
    kernel = np.ones((1, model.n_states, 1))
    for table in _tables(model):
        rows = np.asarray(table).transpose(1, 0, 2)
        kernel = kernel[:, None, :, :, None] * rows[None, :, :, None, :]
        kernel = kernel.reshape(-1, model.n_states, kernel.shape[-2] * 2)
    flat = jnp.asarray(kernel.reshape(-1, model.n_states))
    backup = jax.jit(lambda k, r, v: r + _DISCOUNT * jnp.max((k @ v).reshape(-1, r.shape[0]), 0))
    return lambda values: backup(flat, _earned(model), values)


def _value_iteration(operator: ClusteredMDP) -> Any:
    """Exact sweeps until values move by at most epsilon, as the paper stops."""

    @eqx.filter_jit
    def solve(operator: ClusteredMDP) -> jax.Array:
        operator, earned = operator.with_rows(), _earned(operator.model)
        go = lambda s: jnp.max(jnp.abs(s[0] - s[1])) > _EPSILON  # noqa: E731
        return jax.lax.while_loop(
            go, lambda s: (operator.backup(s[0])[0], s[0]), (earned, earned - 1)
        )[0]

    return lambda: solve(operator)


def _cvi(model: mdp.FactoredMDP, clusters: int) -> Any:
    solve = eqx.filter_jit(
        lambda model: mdp.steer(
            model, np.sort(np.arange(model.n_agents) % clusters),
            method=mdp.CVI(atol=_EPSILON), certificate="none",
        )
    )  # fmt: skip
    return lambda: solve(model)


def one_agent(sizes: Any = (100, 1_000, 4_000)) -> Iterator[dict[str, Any]]:
    """One agent is a dense process: modified policy iteration beside QuantEcon's (apart)."""
    try:
        from quantecon.markov import DiscreteDP  # type: ignore
    except ImportError:
        yield {"case": "one agent", "peer": "quantecon is not installed"}
        return
    for n in sizes:
        rng = np.random.default_rng(n)
        p, rewards = rng.uniform(size=(n, 4, n)), rng.uniform(size=(n, 4))
        p /= p.sum(-1, keepdims=True)
        peer = DiscreteDP(rewards, p, 0.95)
        theirs = timed(
            lambda peer=peer: peer.solve(method="modified_policy_iteration", epsilon=1e-8).v, 5
        )["best_s"]
        best = peer.solve(method="policy_iteration").v
        with jax.enable_x64(True), mj.compile_options("full"):
            model = mdp.FactoredMDP(
                [p], mdp.Separable([rewards]), sizes=[n], signals=4, discount=0.95
            )
            solve = eqx.filter_jit(
                lambda model: (
                    mdp.steer(
                        model, [0], method=mdp.ModifiedPolicyIteration(), certificate="none"
                    ).values
                )
            )
            ours = timed(lambda solve=solve, model=model: solve(model), 5)["best_s"]
            apart = float(np.max(np.abs(np.asarray(solve(model)) - best)))
        yield {
            "case": f"one agent, |X| = {n}", "ms": 1e3 * ours, "over QuantEcon": ours / theirs,
            "apart": apart,
        }  # fmt: skip


def _clusterings(agents: int = 14) -> dict[str, Any]:
    """The best clustering for all numbers of clusters, as in section 6.2, compiling included."""
    with jax.enable_x64(True):
        model = _system(0, True, True, agents)
        start, busy = time.perf_counter(), time.process_time()
        found = mdp.best_clustering(model, method="subsets")
        return {
            "case": f"best clustering for all C, N = {agents}, local separable, compiling included",
            "ms": 1e3 * (time.perf_counter() - start), "CPU s": time.process_time() - busy,
            "steps": int(found.solved),
        }  # fmt: skip


def sweeps() -> Iterator[dict[str, Any]]:
    """One exact sweep by halves, agent by agent and on the joint kernel; CVI and value iteration.

    Random coupled systems, 3 signals, discount .9, epsilon 1e-5, float64; best of 5.
    """
    with jax.enable_x64(True), mj.compile_options("full"):
        model = _system(0, False, False, 7)
        operator = eqx.filter_jit(lambda op: op.with_rows())(_operator(model, 7))
        values = jnp.asarray(np.random.default_rng(1).uniform(size=model.n_states))
        split = eqx.filter_jit(lambda op, v: op.backup(v)[0])
        calls = {
            "split": lambda: split(operator, values),
            "agent by agent": lambda at=_agent_by_agent(model): at(values),
            "joint kernel": lambda at=_joint(model): at(values),
        }
        taken = {name: timed(sweep, 5)["best_s"] for name, sweep in calls.items()}
        for name, seconds in taken.items():
            yield {"case": f"sweep, N = C = 7, {name}", "ms": 1e3 * seconds,
                   "over split": seconds / taken["split"]}  # fmt: skip
        cvi = {clusters: timed(_cvi(model, clusters), 5)["best_s"] for clusters in (1, 7)}
        exact = timed(_value_iteration(_operator(model, 7)), 5)["best_s"]
        joint = timed(_joint_iteration(model), 2)["best_s"]
        for name, seconds in (
            ("CVI, C = 7", cvi[7]), ("CVI, C = 1", cvi[1]), ("VI, split sweeps, C = 7", exact),
            ("VI, joint kernel, C = 7", joint),
        ):  # fmt: skip
            yield {"case": name, "ms": 1e3 * seconds, "over CVI": seconds / cvi[7]}


def ten() -> Iterator[dict[str, Any]]:
    """Ten agents: CVI to its end, one exact sweep, and what all sweeps would take."""
    with jax.enable_x64(True), mj.compile_options("full"):
        model = _system(0, False, False, 10)
        seconds = timed(_cvi(model, 10), 5)["best_s"]
        operator = eqx.filter_jit(lambda op: op.with_rows())(_operator(model, 10))
        split = eqx.filter_jit(lambda op, v: op.backup(v)[0])
        values = jnp.ones(model.n_states) * _earned(model)
        sweep = timed(lambda: split(operator, values), 2)["best_s"]
        yield {"case": "CVI, N = C = 10", "ms": 1e3 * seconds}
        yield {"case": "one split sweep, N = C = 10", "ms": 1e3 * sweep,
               "over CVI": sweep / seconds}  # fmt: skip
        # Sweeps to the end are counted on seven agents, whose discount and rewards are alike.
        count = _sweeps(_system(0, False, False, 7))
        yield {"case": f"VI of {count} split sweeps, N = C = 10", "ms": 1e3 * count * sweep,
               "over CVI": count * sweep / seconds}  # fmt: skip


def _sweeps(model: mdp.FactoredMDP) -> int:
    """Exact sweeps until values move by at most epsilon."""
    operator = eqx.filter_jit(lambda op: op.with_rows())(_operator(model, model.n_agents))
    split = eqx.filter_jit(lambda op, v: op.backup(v)[0])
    values, before, count = _earned(model), _earned(model) - 1, 0
    while float(jnp.max(jnp.abs(values - before))) > _EPSILON:
        values, before, count = split(operator, values), values, count + 1
    return count


def fourteen() -> Iterator[dict[str, Any]]:
    """Fourteen agents, where no exact sweep fits: CVI in both precisions."""
    for double in (True, False):
        with jax.enable_x64(double), mj.compile_options("full"):
            solve = _cvi(_system(0, False, False, 14), 14)
            jax.block_until_ready(solve())
            found, seconds = clocked(solve)
            yield {"case": f"CVI, N = C = 14, float{64 if double else 32}", "ms": 1e3 * seconds,
                   "steps": int(found.cluster_steps),
                   "peak MB of the process": peak_megabytes()}  # fmt: skip


def channels() -> Iterator[dict[str, Any]]:
    """Figure 5 by what the paper leaves open, one draw each: largest distance to its print."""
    for number, words, options in (*AS_READ, *CHOICES):
        found = chosen(Setting("medium"), SCENARIOS[number - 1], options)
        apart = np.abs(np.subtract(found["value"], CVI_FIGURE_5[number - 1]))
        yield {"case": f"Figure 5, scenario {number}, {words}", "apart": float(apart.max()),
               "apart from C = 2 on": float(apart[1:].max())}  # fmt: skip


def section_1() -> Iterator[dict[str, Any]]:
    """Section 6.1 at the paper's scale: up to 60 clusterings of each number of clusters."""
    for key, (separable, local) in reversed(SECTION_1.items()):
        found = by_clusters(Setting("paper"), separable, local)
        yield {"case": key, "clusterings in all": sum(found["clusterings"]),
               "worst CVI": min(found["worst"]), "largest share missed": max(found["missed"]),
               **found}  # fmt: skip


PARTS = {
    "sweeps": sweeps, "ten": ten, "fourteen": fourteen, "channels": channels,
    "section_1": section_1,
    "clusterings": lambda: iter([_clusterings()]), "one_agent": one_agent,
}  # fmt: skip


def run(parts: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Every part, or those named."""
    for part in parts or PARTS:
        for row in PARTS[part]():
            yield {"part": part} | row
