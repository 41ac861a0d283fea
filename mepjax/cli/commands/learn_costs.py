"""`mepjax learn --learner aden`: from a log of what was paid to average costs and centres."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mepjax as mj

from ..._core.scaling import Scaling
from ..console import say
from ..errors import SOLVE, CommandError
from ..options.clustering import Request
from ..options.learning import LearningOptions
from ..options.output import OutputOptions
from ..options.reading import ReadingOptions
from ..progress import interruptible
from ..report import facts, folder, sections, terminal
from ..report.model import Card, Column, Heading, Report, Section, Table, Text, percent
from ..tables.interactions import read_centres, read_log
from ..tables.points import Points


@dataclass(frozen=True)
class Result:
    """What was learnt, and where that leads; `outside`, how many centres the log does not cover."""

    fitted: Any
    solution: mj.Solution
    schedule: mj.Geometric
    scaling: Scaling
    centres: np.ndarray
    told: np.ndarray
    costs: np.ndarray
    outside: int


def learn_costs(
    points: Path | None,
    log: Path | None,
    request: Request,
    learning: LearningOptions,
    reading: ReadingOptions,
    output: OutputOptions,
) -> None:
    """Train a network on the costs of a log, and place the centres with it."""
    if points is None or log is None:
        raise CommandError("--learner: got aden without POINTS and LOG; expected both.")
    if learning.centres is None:
        raise CommandError(
            "--learner: got aden without --centres; expected the centres in force, of many rounds."
        )
    if request.anneal.scale not in (None, "none"):
        raise CommandError(
            f"--scale: got {request.anneal.scale} beside --learner aden; expected none, as costs "
            "are in the units of the input."
        )
    if learning.share != "pooled":
        raise CommandError(f"--share: got {learning.share} beside --learner aden; expected pooled.")
    data = reading.read(points, "POINTS")
    sets, rounds = read_centres(learning.centres, data, request.k)
    rows = read_log(log, data, request.k, rounds, learnt="cost")
    request.check_size(len(data.x))
    output.check()
    result = interruptible(lambda: solve(data, rows, sets, request, learning.steps))
    found = report(result, request, data, str(points), len(rows["entity"]), learning.steps)
    with request.anneal.computing():
        files = folder.write(output.out, found)
    say(*terminal.lines(found, files, output.out))


def solve(
    data: Points, rows: dict[str, Any], sets: np.ndarray, request: Request, steps: int
) -> Result:
    """Train on the costs of the log, and anneal what was learnt.

    **Raises:** `CommandError` for a log that does not fit, a package that is missing, and where
    network or anneal broke down.
    """
    anneal = request.anneal
    scaling = Scaling.of("none", data.x, data.weights, data.lonlat)
    with anneal.computing():
        x, flat = anneal.scaled(scaling, data.x, sets.reshape(-1, sets.shape[-1]))
        places = flat.reshape(sets.shape)
        columns = dict(rows)
        for name in ("cost", "propensity"):
            if name in columns:
                columns[name] = columns[name].astype(anneal.dtype)
        learn, place = jax.random.split(jax.random.key(anneal.seed))
        try:
            log = mj.learn.Interactions(**columns, centres=places)
            problem = mj.Clustering(x, request.k, weights=anneal.shares(data.weights))
            fitted = mj.learn.fit_costs(problem, log, steps=steps, key=learn).raise_if_failed()
            schedule = anneal.schedule(fitted.problem)
            solution = mj.solve(
                fitted.problem, schedule, key=place, starts=request.starts, adjoint=mj.NoGrad()
            ).solution.raise_if_failed()
        except ImportError as error:
            raise CommandError(str(error)) from None
        except ValueError as error:
            raise CommandError(f"LOG: {error}") from None
        except mj.SolveError as error:
            raise CommandError(f"learning failed: {error}", SOLVE) from None
        found = np.asarray(solution.params, np.float64)
        costs = np.asarray(fitted.problem.average_distances(solution.params), np.float64)
    low, high = flat.min(axis=0), flat.max(axis=0)
    outside = int(np.sum(np.any((found < low) | (found > high), axis=1)))
    told = costs.argmin(axis=1)
    return Result(fitted, solution, schedule, scaling, scaling.invert(found), told, costs, outside)


def report(
    result: Result, request: Request, points: Points, source: str, m: int, steps: int
) -> Report:
    """What the result says; `source` is the name of the input, `m` the size of the log."""
    fitted, k, told = result.fitted, request.k, result.told
    error, base = float(fitted.error), float(fitted.error_of_base)
    least = result.costs[np.arange(len(told)), told]
    weights = np.full(len(told), 1.0) if points.weights is None else points.weights
    shares = np.bincount(told, weights, minlength=k) / weights.sum()
    cost = float(weights @ least / weights.sum())
    used = int(np.sum(shares > 0))
    better = 100 * (1 - error / base) if base > 0 else 0.0
    options = {
        "k": k, "learner": "aden", "steps": steps, "restarts": request.starts,
        "seed": request.anneal.seed, "beta_min": float(result.schedule.beta_min),
        "beta_max": float(result.solution.beta), "factor": float(result.schedule.factor),
        "precision": "float64" if request.anneal.float64 else "float32",
    }  # fmt: skip
    found = {
        **facts.heading(points, source),
        "options": options,
        "scale": facts.scale(result.scaling, "Beta, costs and free energy", "Centres"),
        "learnt": {
            "interactions": m, "held_out": fitted.n_held_out, "error": error,
            "error_of_distance": base, "centres_outside_the_log": result.outside,
        },
        "chosen": {
            "code": mj.Code(int(result.solution.code)).name, "clusters_used": used,
            "cost_as_learnt": cost, "beta": float(result.solution.beta),
        },
    }  # fmt: skip
    foretold = (
        f"Of {fitted.n_held_out} interactions that the network did not see it foretold costs with "
        f"a mean squared error of {error:.4g}; the distance to the cluster told has {base:.4g}. "
        "The noise of single costs is in both."
    )
    blocks: list[Any] = [Text(foretold, is_warning=error >= base)]
    if result.outside:
        blocks.append(
            Text(
                f"{result.outside} of {k} centres lie outside the box of the centres in the log, "
                "where the network has learnt nothing. Ask around them, and learn again.",
                is_warning=True,
            )
        )
        say(blocks[-1].sentence)
    centres = Table(
        "centres",
        [
            Column("cluster", np.arange(k)),
            *sections.coordinates(points.names, result.centres),
            Column("share_told", shares, ".7g", "weight told", percent()),
        ],
        None if points.lonlat is None else result.centres[:, points.lonlat],
        page_rows=k,
        on_terminal=True,
        note="Centres are in the units of the input.",
    )
    assignments = Table(
        "assignments",
        [
            *sections.names_of_rows(points.ids, len(told)),
            Column("cluster", told),
            Column("cost", least, ".7g", "average cost as learnt"),
        ],
        None if points.lonlat is None else points.x[:, points.lonlat],
        page_rows=0,
    )
    lead = f"{sections.describe(points, 'points')}; k = {k}, average costs by a network"
    return Report(
        Heading("learn", source, lead),
        [
            Card("clusters used", f"{used} of {k}"),
            Card("cost as learnt", f"{cost:.6g}", ", no true cost"),
            Card("error on held-out costs", f"{-better:+.1f}%", " beside the distance alone"),
        ],
        [
            Section("What was learnt from the log?", blocks),
            Section("What are the centres?", [centres]),
            Section("Who belongs where?", [assignments]),
            sections.settings(found, options),
        ],
        found,
    )
