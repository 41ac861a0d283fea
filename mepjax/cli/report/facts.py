"""What the reports of all commands say of input, options, units and runs, as JSON has it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import jax
import numpy as np

import mepjax as mj

from ..._core.scaling import Scaling
from ...select.starts import Run
from ..options.anneal import AnnealOptions
from ..tables.points import Points
from .model import finite_or_none


def heading(points: Points, source: str) -> dict[str, Any]:
    """Versions, the time, and what was read; `source` is the name of the input."""
    return {
        "versions": {"mepjax": mj.__version__, "jax": jax.__version__, "numpy": np.__version__},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": {
            "file": source,
            "shape": list(points.x.shape),
            "columns": list(points.names),
            "weighted": points.weights is not None,
            "ids": points.ids is not None,
            "note": points.note or None,
            "lonlat": None
            if points.lonlat is None
            else [points.names[index] for index in points.lonlat],
        },
    }


def anneal_options(
    options: AnnealOptions, schedule: mj.Geometric, restarts: int, best: Run
) -> dict[str, Any]:
    """The options that all anneals have, defaults filled in; an open end is where `best` ended."""
    return {
        "restarts": restarts,
        "seed": options.seed,
        "beta_min": float(schedule.beta_min),
        "beta_max": float(best.solution.beta if schedule.open_ended else schedule.beta_max),
        "factor": float(schedule.factor),
        "precision": "float64" if options.float64 else "float32",
    }


# Runs.


def _transitions(run: Run) -> list[float]:
    betas = np.asarray(run.solution.transitions)
    return [float(beta) for beta in betas[np.isfinite(betas)]]


def describe(run: Run, used: str) -> dict[str, Any]:
    """One run; `used` is the name of the number of centres or facilities in use."""
    solution = run.solution
    stages = int(solution.n_stages)
    codes = [mj.Code(code) for code in np.asarray(solution.trace.code)[:stages].tolist()]
    names = [code.name for code in codes]
    return {
        "run": run.name,
        "restart": run.restart + 1,
        "code": run.code.name,
        "message": run.code.message,
        "hard_cost": finite_or_none(run.cost),
        "soft_cost": finite_or_none(solution.distortion),
        "free_energy": finite_or_none(solution.free_energy),
        "entropy": finite_or_none(solution.entropy),
        "sampling_gap": finite_or_none(solution.sampling_gap),
        used: run.n_used,
        "stages": stages,
        "steps": int(np.sum(np.asarray(solution.trace.steps)[:stages])),
        "stage_codes": {name: names.count(name) for name in dict.fromkeys(names)},
        "transitions": _transitions(run),
        "transitions_met": int(solution.n_transitions),
        "seconds": round(run.seconds, 3),
    }


def describe_chosen(run: Run, scaling: Scaling, used: str) -> dict[str, Any]:
    """The run that was kept, with the runs that led to it, and its costs in `cost_unit`."""
    chosen = describe(run, used)
    chosen["beta"] = float(run.solution.beta)
    chosen["transitions"] = [beta for each in run.path for beta in _transitions(each)]
    chosen["transitions_met"] = sum(int(each.solution.n_transitions) for each in run.path)
    factor, unit = scaling.cost_factor, scaling.cost_unit.replace(" ", "_")
    if factor is not None:
        for name in ("hard_cost", "soft_cost", "free_energy", "sampling_gap"):
            value = chosen[name]
            chosen[f"{name}_in_{unit}"] = None if value is None else finite_or_none(value * factor)
    return chosen


def course(best: Run, runs: Sequence[Run], used: str) -> dict[str, Any]:
    """The betas of the run that was kept, all runs, and how long they took."""
    betas = [np.asarray(run.solution.trace.beta)[: int(run.solution.n_stages)] for run in best.path]
    return {
        "beta_path": [float(beta) for part in betas for beta in part],
        "runs": [describe(run, used) for run in runs],
        "seconds": round(sum(run.seconds for run in runs), 3),
    }


# Units.


def scale(scaling: Scaling, scaled: str, places: str) -> dict[str, Any]:
    """Between input and scaled units; `scaled` and `places` say which numbers are in which."""
    return {
        "kind": scaling.kind,
        "shift": scaling.shift.tolist(),
        "factor": scaling.factor.tolist(),
        "cost_factor": scaling.cost_factor,
        "units": _units(scaling, scaled, places),
    }


def _units(scaling: Scaling, scaled: str, places: str) -> str:
    if scaling.kind == "none":
        if scaling.is_map:
            return (
                f"{scaled} are in {scaling.cost_unit} (beta in one over that), on a flat map true "
                f"to scale at the mean latitude. {places} are in degrees."
            )
        return "All numbers are in input units."
    how = {
        "unit": "x -> (x - shift) / factor, the longest side of the bounding box becoming 1",
        "zscore": "x -> (x - shift) / factor, each column's standard deviation becoming 1",
    }[scaling.kind]
    if scaling.is_map:
        how += ", on a flat map true to scale at the mean latitude"
    return (
        f"{scaled} are in scaled units: {how}; costs in {scaling.cost_unit} "
        + ("are cost_factor times as large." if scaling.cost_factor else "do not exist.")
        + f" {places} are in input units."
    )
