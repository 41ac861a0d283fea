"""Figure 3.3: learners with entropy on a grid of cells, and what their temperatures explain."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import mdp
from ..datasets import gridworld
from .reproduction import Claim, Reproduction, Setting, Task

# The thesis prints neither layout nor sigma, steps, starts, caps nor runs: own choices, made before
# any row was computed, after the measurements that the issue reports.
_SIGMA, _OMEGA, _MAX_STEPS = 0.1, 0.8, 200
_LEVEL = 0.1
_DISCOUNTS = (0.65, 0.75, 0.85, 0.95)
_RULES = {
    "MEP(sigma)": (mdp.MEP(), False),
    "soft Q(sigma)": (mdp.SoftQ(prior=None), False),
    "soft Q(sigma/discount)": (mdp.SoftQ(prior=None), True),
    "soft Q(prior)": (mdp.SoftQ(), False),
    "Q": (mdp.QLearning(), False),
    "double Q": (mdp.DoubleQ(), False),
}
# Straight moves, diagonal ones, and staying, of which nothing is said.
_NOISE = np.array([1.0] * 4 + [0.5] * 4 + [1.0])


def _model(part: str, discount: float) -> mdp.MDP:
    model = gridworld(discount=discount)
    if part != "b":
        return model
    # No end, and every step earns: the total is 1 / (1 - discount), whatever is done.
    return mdp.MDP(model.kernel, -jnp.ones_like(model.costs), discount=discount)


def _value_errors(found: mdp.Learned, rule: Any, model: mdp.MDP, best: Any) -> Any:
    """Mean relative error of the values that the tables say."""
    goes_on = ~model.terminal

    def error(table: Any, beta: Any) -> Any:
        values = jax.vmap(lambda row: rule.value(row, beta, model.discount))(table)
        off = jnp.where(goes_on, jnp.abs(values - best) / jnp.abs(best), 0.0)
        return jnp.sum(off) / jnp.sum(goes_on)

    return jax.lax.map(lambda pair: error(*pair), (found.history, found.beta), batch_size=64)


def _compute(setting: Setting, part: str, discount: float, name: str) -> dict[str, Any]:
    rule, rescaled = _RULES[name]
    model = _model(part, discount)
    best = mdp.solve(model).values
    env = mdp.Environment(model, noise=_NOISE if part == "c" else 0.0)
    sigma = _SIGMA / discount if rescaled else _SIGMA
    episodes, runs = setting.pick((200, 4), (400, 8), (800, 16))
    steps = setting.pick(50, 100, _MAX_STEPS) if part == "b" else _MAX_STEPS

    @jax.jit
    def run(key: Any) -> tuple[Any, Any]:
        found = mdp.learn(
            env, rule, key=key, episodes=episodes, beta=sigma, omega=_OMEGA, max_steps=steps,
            record=True,
        )  # fmt: skip
        policy = mdp.learning_curve(model, found, rule, optimal=best)
        return policy, _value_errors(found, rule, model, best)

    keys = jax.random.split(jax.random.key(setting.seed), runs)
    policy, value = (np.asarray(curves) for curves in jax.lax.map(run, keys))
    # Part c compares values, as the thesis does; b both, of which the policy's says nothing.
    curves = policy if part == "a" else value
    mean = curves.mean(axis=0)
    reached = np.flatnonzero(mean <= _LEVEL)
    return {
        "episodes": int(reached[0]) + 1 if reached.size else None,
        "end": float(mean[-1]),
        "policy_worst": float(policy.max()),
        "curve": mean[:: max(episodes // 100, 1)].tolist(),
    }


def _key(part: str, discount: float, name: str) -> str:
    return f"({part}) discount {discount:g}, {name}"


def _tasks(setting: Setting) -> list[Task]:
    discounts = setting.pick((0.65, 0.95), _DISCOUNTS, _DISCOUNTS)
    tasks = []
    for part in "abc":
        for discount in discounts if part != "b" else discounts[:1]:
            for name in _RULES:
                tasks.append(
                    Task(
                        _key(part, discount, name),
                        lambda p=part, d=discount, n=name: _compute(setting, p, d, n),
                    )
                )
    return tasks


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    def episodes(name: str) -> int | None:
        row = rows.get(_key("a", 0.65, name))
        return None if row is None else row["episodes"]

    claims = []
    ours = episodes("MEP(sigma)")
    for other, printed, holds in (
        ("soft Q(sigma)", "up to 1.5 times faster", lambda ratio: ratio > 1.1),
        ("soft Q(sigma/discount)", "1.00: one algorithm", lambda ratio: ratio == 1),
    ):
        theirs = episodes(other)
        if ours is not None and theirs is not None:
            ratio = theirs / ours
            claims.append(
                Claim(f"episodes of {other} over those of MEP, discount .65", printed,
                      f"{ratio:.2f}", holds(ratio))
            )  # fmt: skip
    prior, counted = episodes("soft Q(prior)"), episodes("soft Q(sigma)")
    if prior is not None and counted is not None:
        ratio = counted / prior
        claims.append(
            Claim("episodes of counted over prior-relative entropy", "not in the thesis; 2 to 5",
                  f"{ratio:.2f}", ratio >= 2)
        )  # fmt: skip
    endless = [row for key, row in rows.items() if key.startswith("(b)")]
    if endless:
        worst = max(row["policy_worst"] for row in endless)
        claims.append(
            Claim("without an end every policy is optimal", "faster convergence to J*",
                  f"largest error of any policy {worst:.1e}: only value estimates can differ",
                  worst < 1e-4)
        )  # fmt: skip
    return claims


def _draw(rows: dict[str, Any], setting: Setting) -> dict[str, Any]:
    del setting
    parts = {
        part: {key.split(", ")[1]: row["curve"] for key, row in rows.items()
               if key.startswith(f"({part}) discount 0.65,")}
        for part in "abc"
    }  # fmt: skip
    parts = {part: curves for part, curves in parts.items() if curves}
    if not parts:
        return {}

    def panels(figure: Any) -> None:
        axes = figure.subplots(1, len(parts), squeeze=False)[0]
        titles = {"a": "policy", "b": "values, no end", "c": "values, noisy costs"}
        for ax, (part, curves) in zip(axes, parts.items(), strict=True):
            for name, curve in curves.items():
                ax.semilogy(np.linspace(0, 1, len(curve)), curve, label=name, linewidth=1)
            ax.set_title(f"({part}) {titles[part]}", fontsize=9)
            ax.set_xlabel("share of the episodes")
        axes[0].set_ylabel("mean relative error, discount .65")
        axes[0].legend(fontsize=7, frameon=False)

    return {"curves": panels}


REPRODUCTION = Reproduction(
    "figure_3_3",
    "learners with entropy on a grid of cells",
    "parameterized sequential decision making, Figure 3.3",
    _tasks,
    {
        "episodes": "episodes to 10 % error",
        "end": "error at the end",
        "policy_worst": "largest policy error",
    },
    _claims,
    _draw,
    minutes={"small": 4, "medium": 20, "paper": 60},
)
