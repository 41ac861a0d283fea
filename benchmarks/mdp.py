"""Dense discounted processes beside QuantEcon, pymdptoolbox and NumPy; learning beside numba.

`python -m benchmarks mdp`; parts `grid`, `solve`, `policies`, `learn`. Peers are installed apart.
Kernels are dense and random, discount .95, float64; learning is on the grid of 65 cells.
"""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax import mdp
from mepjax.datasets import gridworld

from .measure import clocked, first_call, in_turns, peak_megabytes

SIZES = ((100, 4), (100, 16), (1_000, 4), (1_000, 16), (4_000, 4), (4_000, 16))
_DISCOUNT = 0.95
# QuantEcon's error of values, as small as ours: both end by the span of a backup.
_EPSILON = 1e-8
_EPISODES, _STEPS = 200, 200


def kernel(n: int, a: int) -> tuple[np.ndarray, np.ndarray]:
    """Transitions (states, actions, states) whose rows are dense, and costs."""
    rng = np.random.default_rng(n + a)
    p = rng.random((n, a, n))
    p /= p.sum(axis=-1, keepdims=True)
    return p, rng.random((n, a))


def value_iteration(p: np.ndarray, costs: np.ndarray, change: float) -> tuple[np.ndarray, int]:
    """Plain sweeps until no value changes by more; also how many."""
    values, sweeps = np.zeros(len(costs)), 0
    while True:
        new = (costs + _DISCOUNT * (p @ values)).min(axis=1)
        sweeps += 1
        if np.max(np.abs(new - values)) <= change:
            return new, sweeps
        values = new


def _peer(p: np.ndarray, costs: np.ndarray) -> Any:
    try:
        from quantecon.markov import DiscreteDP  # type: ignore
    except ImportError:
        return None
    return DiscreteDP(-costs, p, _DISCOUNT)


def solved(n: int, a: int) -> dict[str, Any]:
    """One kernel by `mdp.solve` with its default method, QuantEcon's, and plain sweeps."""
    p, costs = kernel(n, a)
    repeats = 15 if n <= 100 else 7 if n <= 1_000 else 3
    with jax.enable_x64(True):
        model, building = clocked(lambda: mdp.MDP(mdp.Dense(p), costs, discount=_DISCOUNT))
        first = first_call(lambda: mdp.solve(model).values)
        sweeps = mdp.ModifiedPolicyIteration()
        compiled = eqx.filter_jit(lambda model: mdp.solve(model, method=sweeps))
        first_within = first_call(lambda: compiled(model).values)
        calls = {
            "ours": lambda: mdp.solve(model).values,
            "MPI": lambda: mdp.solve(model, method=sweeps).values,
            "in jit": lambda: compiled(model).values,
        }
        peer = _peer(p, costs)
        if peer is not None:
            calls["theirs"] = lambda: peer.solve("modified_policy_iteration", epsilon=_EPSILON).v
            calls["loose"] = lambda: peer.solve("modified_policy_iteration").v
        answers, told = in_turns(calls, repeats)
        ms = {name: 1e3 * seconds["median_s"] for name, seconds in told.items()}
        found = mdp.solve(model)
        found.raise_if_failed()
        values, policy = np.asarray(found.values), np.asarray(found.actions)
        width = float(jnp.max(found.upper - found.lower))
    (plain, count), seconds = clocked(value_iteration, p, costs, 1e-8)
    row: dict[str, Any] = {
        "part": "solve", "states": n, "actions": a, "ms": ms["ours"], "ms MPI": ms["MPI"],
        "ms MPI in jit": ms["in jit"], "steps": int(found.steps), "first call s": first,
        "first call in jit s": first_within, "building s": building, "certified width": width,
        "NumPy VI over ours": 1e3 * seconds / ms["ours"], "NumPy sweeps": count,
        "NumPy apart": float(np.max(np.abs(values - plain))),
    }  # fmt: skip
    if peer is None:
        return row | {"QuantEcon": "not measured: quantecon is not installed"}
    theirs = peer.solve("modified_policy_iteration", epsilon=_EPSILON)
    row |= {"QuantEcon ms": ms["theirs"], "QuantEcon ms, its own epsilon": ms["loose"]}
    row |= {f"{name} over QuantEcon": ms[name] / ms["theirs"] for name in ("ours", "MPI", "in jit")}
    return row | {
        "apart": max(float(np.max(np.abs(found + theirs.v))) for found in _ours(answers)),
        "policies differ": int(np.sum(policy != theirs.sigma)),
    }


def policies(n: int, a: int) -> dict[str, Any]:
    """Policies and values of pymdptoolbox, by its own stopping, beside those of `mdp.solve`."""
    row: dict[str, Any] = {"part": "policies", "states": n, "actions": a}
    try:
        from mdptoolbox import mdp as theirs  # type: ignore
    except ImportError:
        return row | {"pymdptoolbox": "not measured: pymdptoolbox is not installed"}
    p, costs = kernel(n, a)
    with jax.enable_x64(True):
        found = mdp.solve(mdp.MDP(mdp.Dense(p), costs, discount=_DISCOUNT))
        found.raise_if_failed()
        values, chosen = np.asarray(found.values), np.asarray(found.actions)
    turned = np.ascontiguousarray(np.swapaxes(p, 0, 1))
    for name, method in (
        ("PI", theirs.PolicyIteration),
        ("MPI", theirs.PolicyIterationModified),
        ("VI", theirs.ValueIteration),
    ):
        solver = method(turned, -costs, _DISCOUNT)
        _, seconds = clocked(solver.run)
        row |= {
            f"{name} s": seconds,
            f"{name} policies differ": int(np.sum(chosen != np.asarray(solver.policy))),
            f"{name} apart": float(np.max(np.abs(values + np.asarray(solver.V)))),
        }
    return row


def grid(side: int = 1_000) -> dict[str, Any]:
    """A grid of so many cells squared, by its edges alone: memory of the process, and error."""
    rows = ["." * side] * (side - 1) + ["." * (side - 1) + "T"]
    before = peak_megabytes()
    model, building = clocked(lambda: gridworld(rows, slip=(0.0, 0.0), discount=_DISCOUNT))
    made = peak_megabytes() - before
    found, seconds = clocked(mdp.solve, model)
    found.raise_if_failed()
    # Nothing slips and a step costs one: so many steps of the king away.
    place = np.arange(side)
    away = np.maximum(*np.meshgrid(side - 1 - place, side - 1 - place, indexing="ij")).ravel()
    exact = (1 - _DISCOUNT**away) / (1 - _DISCOUNT)
    edges = jax.tree.leaves((model.kernel.p, model.kernel.pair, model.kernel.next))
    return {
        "part": "grid", "states": side**2, "edges": edges[0].size,
        "MB of edges": sum(each.nbytes for each in edges) / 1e6,
        "MB to make": made, "MB in all": peak_megabytes() - before,
        "building s": building, "with compiling s": seconds,
        "steps": int(found.steps), "code": int(found.code),
        "apart, relative": float(np.max(np.abs(np.asarray(found.values) - exact)) / exact.max()),
    }  # fmt: skip


def _ours(answers: dict[str, Any]) -> list[np.ndarray]:
    return [np.asarray(answers[name]) for name in ("ours", "MPI", "in jit")]


def _tables(env: mdp.Environment) -> tuple[np.ndarray, ...]:
    found = env.next, env.cumulated, env.costs, env.terminal, np.cumsum(env.start)
    return tuple(np.asarray(table) for table in found)


def loop(
    after: Any, cumulated: Any, costs: Any, terminal: Any, starts: Any, soft: bool,
    episodes: int, sigma: float, discount: float, omega: float,
) -> tuple[int, Any]:  # fmt: skip
    """One seed of the same learning, step by step in plain Python; also what numba compiles."""
    n, a = costs.shape[0], costs.shape[1]
    values, visits, taken = np.zeros((n, a)), np.zeros((n, a)), 0
    weights = np.empty(a)
    for episode in range(episodes):
        beta = sigma * (episode + 1)
        state = np.searchsorted(starts, np.random.random() * starts[-1], side="right")
        for _ in range(_STEPS):
            if terminal[state]:
                break
            action = 0
            if soft:
                least = values[state].min()
                total = 0.0
                for i in range(a):
                    weights[i] = np.exp(-beta * (values[state, i] - least))
                    total += weights[i]
                left = np.random.random() * total
                while action < a - 1 and left >= weights[action]:
                    left -= weights[action]
                    action += 1
            elif np.random.random() < 0.1:
                action = np.random.randint(a)
            else:
                action = values[state].argmin()
            row = cumulated[state, action]
            place = min(np.searchsorted(row, np.random.random(), side="right"), len(row) - 1)
            new = after[state, action, place]
            worth = 0.0
            if not terminal[new]:
                worth = values[new].min()
                if soft:
                    total = 0.0
                    for i in range(a):
                        total += np.exp(-beta * (values[new, i] - worth))
                    worth -= np.log(total) / beta
            target = costs[state, action, place] + discount * worth
            visits[state, action] += 1
            step = visits[state, action] ** -omega
            values[state, action] += step * (target - values[state, action])
            state = new
            taken += 1
    return taken, values


def _a_second(call: Callable[[], tuple[Any, Any]]) -> tuple[float, float]:
    """Millions of steps a second of the median of three calls, and seconds of a first one."""
    first = first_call(call)
    rates = []
    for _ in range(3):
        (taken, _), seconds = clocked(call)
        rates.append(float(np.sum(taken)) / seconds / 1e6)
    return statistics.median(rates), first


def learned(name: str, lanes: int) -> dict[str, Any]:
    """Steps a second of `mdp.learn` over seeds, and of one loop of numba and of Python."""
    rule = mdp.SoftQ(prior=None) if name == "soft Q" else mdp.QLearning()
    env = mdp.Environment(gridworld(discount=_DISCOUNT))
    keys = jax.random.split(jax.random.key(0), lanes)
    options = {"episodes": _EPISODES, "beta": 0.1, "max_steps": _STEPS, "omega": 0.6}

    @jax.jit
    def ours(keys: Any) -> tuple[Any, Any]:
        found = jax.vmap(lambda key: mdp.learn(env, rule, key=key, **options))(keys)
        return found.steps, jnp.mean(found.action_values, axis=0)

    rate, first = _a_second(lambda: ours(keys))
    row = {"part": "learn", "rule": name, "lanes": lanes, "M steps/s": rate, "first call s": first}
    tables = _tables(env)

    def one_stream(call: Callable[..., Any], episodes: int) -> float:
        rest = name == "soft Q", episodes, 0.1, _DISCOUNT, 0.6
        return _a_second(lambda: call(*tables, *rest))[0]

    plain = one_stream(loop, 5)
    row |= {"Python M steps/s": plain, "over Python": rate / plain}
    try:
        import numba  # type: ignore
    except ImportError:
        return row | {"numba": "not measured: numba is not installed"}
    theirs = one_stream(numba.njit(loop), _EPISODES)
    return row | {"numba M steps/s": theirs, "over numba, one stream": rate / theirs}


def run(parts: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """A row a kernel, then a row a rule and number of seeds."""
    parts = parts or ["grid", "solve", "policies", "learn"]
    if "grid" in parts:  # first, as memory that a process has had stays counted
        yield grid()
    if "solve" in parts:
        with mj.compile_options("full"):
            yield from (solved(n, a) for n, a in SIZES)
    if "policies" in parts:
        yield from (policies(n, a) for n, a in SIZES if n <= 1_000)
    if "learn" in parts:
        yield from (learned(name, lanes) for name in ("Q", "soft Q") for lanes in (64, 1_024))
