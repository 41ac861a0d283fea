"""What `mepjax track` says: ways, baselines, and what happened on the way."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mepjax as mj

from ...control import Frames, Track
from ...control.trajectory import MESSAGES
from ...plot.scenes import scene_view
from ..options.tracking import TrackingOptions
from ..tables.scene import Scene
from . import json
from .model import Block, Column, Extra, Figure, Table, Text, finite_or_none


@dataclass(frozen=True)
class Result:
    """What was solved: the `problem` at the start, the `followed` scene, and the baselines."""

    problem: Any
    followed: Track
    warm: Frames
    cold: Frames | None

    @property
    def code(self) -> mj.Code:
        """The worst of all rows."""
        return mj.Code(int(np.max(self.followed.code)))

    @property
    def told(self) -> str:
        """What the worst code means."""
        rows = np.asarray(self.followed.code)
        if self.code.is_failing:
            return MESSAGES.get(self.code, self.code.message)
        count = int(np.sum(rows == int(mj.Code.NEAR_CRITICAL)))
        return f"the scene was followed to its end; {count} of {len(rows)} rows at a transition"

    @property
    def outcomes(self) -> dict[str, Any]:
        """All there are, by name."""
        cold = {} if self.cold is None else {"cold anneal": self.cold}
        return {"control law": self.followed, "warm re-solve": self.warm, **cold}


def ways(result: Result, scene: Scene, options: TrackingOptions) -> list[Block]:
    """Pictures, the film, and all places as JSON."""
    units = scene.scaling.unroll if scene.nodes.shape[1] <= 2 else None

    def draw(figure: Any) -> None:
        from ...plot import track as draw_track

        grid = figure.add_gridspec(2, 2, width_ratios=(1.15, 1))
        axes = [figure.add_subplot(grid[:, 0])]
        axes += [figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])]
        others = {k: v for k, v in result.outcomes.items() if k != "control law"}
        draw_track(result.followed, others=others, axes=axes, units=units)

    def film(path: Path) -> None:
        from ...plot import animate

        animate(result.problem, result.followed, path, units=units)

    caption = "Rings are where facilities started, discs where they came to; points are grey."
    return [
        Figure("track", draw, caption, (12, 5.6), is_file=True),
        *([Extra("track.gif", film)] if options.film else []),
        Extra("track.json", lambda path: json.write(path, _places(result, scene))),
    ]


def _places(result: Result, scene: Scene) -> dict[str, Any]:
    """Where everything was at every row that was reached."""
    seen = scene_view(result.followed)
    invert = scene.scaling.invert
    times = np.asarray(result.followed.times)[: len(seen.points)]
    return {
        "ids": list(scene.ids),
        "columns": list(scene.names),
        "times": times.tolist(),
        "nodes": invert(seen.points).tolist(),
        "destination": invert(seen.ends).tolist(),
        "facilities": invert(seen.found).tolist(),
    }


def baselines(facts: dict[str, Any]) -> list[Block]:
    """Law and baselines side by side."""
    names = [name for name in ("control law", "warm re-solve", "cold anneal") if name in facts]
    of = [facts[name] for name in names]
    columns = [
        Column("way", names, is_text=True),
        Column("frames", [row["frames"] for row in of]),
        Column("mean F", [row["mean_free_energy"] for row in of]),
        Column("mean distortion", [row["mean_distortion"] for row in of]),
        Column("largest speed", [row["largest_speed"] for row in of]),
    ]
    words = (
        "A law moves facilities without jumps. Solving every frame may end in another minimum than "
        "the frame before, and then asks for the speed that is shown."
    )
    return [words, Table("ways", columns, is_file=False, on_terminal=True)]


def events(result: Result, scene: Scene) -> list[Block]:
    """Row by row, and what happened on the way."""
    run, warm = result.followed, result.warm
    found = scene.scaling.invert(scene_view(run).found)
    codes = [mj.Code(code).name for code in np.asarray(run.code).tolist()]
    blank = np.full((len(codes) - len(found), *found.shape[1:]), np.nan)
    places = np.concatenate([found, blank])
    known = lambda values: [finite_or_none(v) for v in np.asarray(values).tolist()]  # noqa: E731
    columns = [
        Column("time", np.asarray(run.times)),
        *(Column(name, known(getattr(run, name)), ".9g", shown=".5g")
          for name in ("free_energy", "distortion", "speed", "lag", "curvature", "jump")),
        Column("code", codes, is_text=True),
        *(Column(f"warm_{name}", known(getattr(warm, name)), ".9g", where=("csv",))
          for name in ("free_energy", "distortion", "speed")),
        *(Column(f"facility_{slot}_{name}", known(places[:, slot, axis]), ".9g", where=("csv",))
          for slot in range(places.shape[1]) for axis, name in enumerate(scene.names)),
    ]  # fmt: skip
    blocks: list[Block] = [Table("track", columns, page_rows=60)]
    if result.code.is_failing:
        blocks.insert(0, Text(f"The scene ended early. {result.told}", is_warning=True))
    solved = run.reanneals
    if len(solved.time):
        words = ", ".join(f"{time:.4g}" for time in solved.time[:20])
        blocks.insert(0, f"Solved anew, with a jump, at t = {words}.")
    return blocks


def facts(result: Result, scene: Scene, options: TrackingOptions, source: str) -> dict[str, Any]:
    """Everything that is not one number a row, as `report.json` has it."""
    told = {name: _numbers(run) for name, run in result.outcomes.items()}
    law, warm = told["control law"]["mean_distortion"], told["warm re-solve"]["mean_distortion"]
    more = 100 * (law / warm - 1) if law is not None and warm else None
    return {
        "versions": {"mepjax": mj.__version__, "jax": jax.__version__, "numpy": np.__version__},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": {"file": source, "nodes": len(scene.ids), "columns": list(scene.names)},
        "options": {
            "law": options.law, "gain": options.gain, "beta": float(result.followed.beta),
            "speed_limit": options.speed_limit, "reanneal": options.reanneal,
            "seed": options.seed, "from": scene.first, "until": scene.last,
        },
        "units": scene.scaling.cost_unit,
        **told,
        "percent_above_warm": more,
        "rows": int(result.followed.n_rows),
        "steps": int(result.followed.n_steps),
        "largest_lag": finite_or_none(np.nanmax(np.asarray(result.followed.lag))),
        "code": result.code.name,
        "reanneals": result.followed.reanneals.time.tolist(),
        "transitions": result.followed.transitions.time.tolist(),
    }  # fmt: skip


def _numbers(run: Any) -> dict[str, Any]:
    return {
        "frames": len(run.times),
        "mean_free_energy": finite_or_none(np.nanmean(np.asarray(run.free_energy))),
        "mean_distortion": finite_or_none(np.nanmean(np.asarray(run.distortion))),
        "largest_speed": finite_or_none(np.nanmax(np.asarray(run.speed))),
        "codes": {
            mj.Code(code).name: int(count)
            for code, count in zip(
                *np.unique(np.asarray(run.code), return_counts=True), strict=True
            )
        },
    }
