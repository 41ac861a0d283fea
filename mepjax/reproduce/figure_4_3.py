"""Figure 4.3: small cells that follow mobile users and a mobile base station."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj

from ..control import AbstractLaw, Euler, Follow, Lyapunov, every_frame, track
from ..datasets import small_cells
from .reproduction import Claim, Reproduction, Setting, Task

# The thesis prints the step alone: neither places, nor motion, nor gains, nor beta.
_STEP, _DURATION = 0.03, 3.0
_BETA = 20.0
_PANELS = 6
_PRINTED = "(4.8), guarded"


class _Moving(eqx.Module):
    """The process at a time: users go with their town, and stray; the base goes its own way.

    What is known of its kernel was found when `still` was built.
    """

    still: mj.ParametricMDP
    velocity: Any

    def __call__(self, time: Any) -> mj.ParametricMDP:
        places = lambda problem: problem.unknowns.states  # noqa: E731
        return eqx.tree_at(places, self.still, places(self.still) + time * self.velocity)


def _scene(setting: Setting) -> tuple[_Moving, int]:
    """The process in time, and how many of its states are users; the last is the base."""
    n, m = setting.pick((24, 3), (46, 5), (46, 5))
    problem = small_cells(n, m, seed=setting.seed).problem()
    rng = np.random.default_rng([setting.seed, 43])
    towns = 0.1 * rng.normal(size=(6, 2))
    users = towns[np.arange(n) % 6] + 0.02 * rng.normal(size=(n, 2))
    # Cells are unknown: what moves them is the law.
    velocity = np.concatenate([users, np.zeros((m, 2)), 0.1 * rng.normal(size=(1, 2))])
    return _Moving(problem, jnp.asarray(velocity, problem.unknowns.states.dtype)), n


def _compute(setting: Setting, name: str) -> dict[str, Any]:
    at, n = _scene(setting)
    problem, key = at(jnp.zeros(())), jax.random.key(setting.seed)
    first = float(problem.beta_scale())
    beta = _BETA * first
    schedule = mj.Geometric(0.5 * first, beta, 1.2)
    start = mj.anneal(problem, schedule, key=key, adjoint=mj.NoGrad()).raise_if_failed()
    # Two steps a row.
    times = np.linspace(0.0, _DURATION, round(_DURATION / (2 * _STEP)) + 1)
    if name.startswith("every"):
        cold: dict[str, Any] = {"init": start}
        if "cold" in name:
            cold = {"start": "cold", "schedule": schedule}
        run: Any = every_frame(problem, times, beta=beta, at=at, key=key, **cold)
    else:
        # No gain is printed. Eps is in units of the cost; with a hundredth of it instead of a tenth
        # the law is twelve times as fast here, and follows no better.
        law: AbstractLaw = Follow()
        if name == _PRINTED:
            law = Lyapunov(5.0, 0.1 * float(start.distortion))
        run = track(problem, start, times, beta=beta, at=at, law=law, integrator=Euler(_STEP))
    run.raise_if_failed()
    rows = np.linspace(0, len(times) - 1, _PANELS).round().astype(int).tolist()
    policies = [run.problem_at(row).policy(run.values_at(row), beta)[:n] for row in rows]
    chosen = np.stack([np.argmax(np.asarray(policy), axis=1) for policy in policies])
    return {
        "distortion": float(np.mean(run.distortion)),
        "speed": float(np.max(run.speed)),
        "end": float(run.free_energy[-1]),
        "changed": float(np.mean(np.any(chosen != chosen[0], axis=0))),
        "times": times[rows].tolist(),
        "cells": np.asarray(run.values)[rows].tolist(),
        "chosen": chosen.tolist(),
    }


_ROWS = (_PRINTED, "Follow", "every frame, warm", "every frame, cold")


def _tasks(setting: Setting) -> list[Task]:
    return [Task(name, lambda name=name: _compute(setting, name)) for name in _ROWS]


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    claims = []
    law, warm, cold = (rows.get(name) for name in (_PRINTED, _ROWS[2], _ROWS[3]))
    if law is not None:
        share = law["changed"]
        claims.append(
            Claim("users change the cell they send to", "some", f"{100 * share:.0f}%", share > 0)
        )
    if law is not None and warm is not None:
        ratio = law["distortion"] / warm["distortion"]
        claims.append(
            Claim("the law follows a local minimum", "as frame by frame", f"{ratio:.4f} times the "
                  "mean distortion of a warm re-solve", ratio < 1.05)
        )  # fmt: skip
    if law is not None and cold is not None:
        ratio = cold["speed"] / law["speed"]
        claims.append(
            Claim("frame by frame may need dynamics that are not viable", "jumps",
                  f"{ratio:.3g} times the largest speed of the law", ratio > 1)
        )  # fmt: skip
    return claims


def _draw(rows: dict[str, Any], setting: Setting) -> dict[str, Any]:
    row = rows.get(_PRINTED)
    if row is None:
        return {}

    def panels(figure: Any) -> None:
        from ..plot import style

        at, n = _scene(setting)
        axes = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
        for ax, time, cells, chosen in zip(
            axes, row["times"], row["cells"], row["chosen"], strict=True
        ):
            places = np.asarray(at(time).unknowns.states)
            users, base = places[:n], places[-1]
            for cell, place in enumerate(np.asarray(cells)):
                colour = style.PALETTE[cell % len(style.PALETTE)]
                marker = style.MARKERS[cell % len(style.MARKERS)]
                mine = np.asarray(chosen) == cell
                ax.scatter(*users[mine].T, s=14, color=colour, marker=marker)
                ax.scatter(*place, s=110, color=colour, marker=marker, edgecolors="black")
            ax.scatter(*base, s=110, c="black", marker="X")
            ax.set_title(f"t = {time:.2g} s", fontsize=9)
            ax.set_aspect("equal")

    return {"panels": panels}


REPRODUCTION = Reproduction(
    "figure_4_3",
    "small cells that follow mobile users and a mobile base station",
    "parameterized sequential decision making, Figure 4.3",
    _tasks,
    {
        "distortion": "mean distortion",
        "speed": "largest speed",
        "end": "F at the end",
        "changed": "users that changed their cell",
    },
    _claims,
    _draw,
    minutes={"small": 2, "medium": 4, "paper": 4},
)
