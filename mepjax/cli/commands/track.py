"""`mepjax track`: facilities that follow moving nodes, beside solving every frame."""

from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer

import mepjax as mj

from ...control import every_frame
from ...control import track as follow
from ...control.moving import needed_diffrax
from ..console import say
from ..errors import SOLVE, CommandError
from ..options import anneal
from ..options.output import OutputOptions
from ..options.tracking import TrackingOptions
from ..progress import interruptible
from ..report import folder, terminal, tracking
from ..report.model import Card, Heading, Report, Section, change
from ..tables.scene import HELP, Scene, example, read_scene

EXAMPLE = "bundled example: moving_network(60), 5 facilities, six links missing"


def track(
    scene: Annotated[Path | None, typer.Argument(help=HELP, show_default=False)] = None,
    options: TrackingOptions = TrackingOptions(),
    output: OutputOptions = OutputOptions(),
) -> None:
    """Let facilities follow nodes and a destination that move, by a control law.

    Writes track.csv, track.json, track.png, track.gif, report.html and report.json, and says what
    solving every frame would have given.
    """
    options.check()
    try:
        needed_diffrax()
    except ImportError:
        raise CommandError('track: needs diffrax; run: pip install "mepjax[control]"') from None
    with jax.enable_x64(True):
        if scene is None:
            found = example()
        else:
            found = read_scene(scene, options.destination)
        problem = _problem(options, found)
    output.check()
    anneal.keep_programs()
    if scene is None:
        say(f"No file given: running the {EXAMPLE}.")
    result = interruptible(lambda: solve(problem, found, options))
    source = EXAMPLE if scene is None else str(scene)
    with jax.enable_x64(True):
        made = report(result, found, options, source)
        files = folder.write(output.out, made)
    say(*terminal.lines(made, files, output.out))


def _problem(options: TrackingOptions, scene: Scene) -> Any:
    try:
        return options.problem(scene)
    except (TypeError, ValueError) as error:
        raise CommandError(f"SCENE: {error}") from None


def solve(problem: Any, scene: Scene, options: TrackingOptions) -> tracking.Result:
    """Anneal the first moment, follow, and solve every frame.

    **Raises:** `CommandError` for what does not fit, or if the law came nowhere.
    """
    with jax.enable_x64(True):
        key = jax.random.key(options.seed)
        beta = options.chosen_beta(problem)
        moves: dict[str, Any] = {"beta": beta, **scene.moves}
        times = np.linspace(scene.first, scene.last, options.rows)
        lowest = min(0.5 * float(problem.beta_scale()), beta)
        schedule = mj.Geometric(lowest, beta, 1.1) if lowest < beta else mj.Explicit([beta])
        try:
            start = mj.anneal(problem, schedule, key=key, adjoint=mj.NoGrad()).raise_if_failed()
            followed = follow(
                problem, start, times, **moves, law=options.chosen_law(), key=key,
                speed_limit=options.speed_limit, reanneal=options.chosen_reanneal(),
            )  # fmt: skip
            if int(followed.n_rows) == 0:
                followed.raise_if_failed()
            warm = every_frame(problem, times, **moves, init=start, key=key)
            cold = None
            if options.cold:
                few = np.linspace(scene.first, scene.last, options.cold)
                cold = every_frame(problem, few, **moves, start="cold", schedule=schedule, key=key)
        except ValueError as error:
            raise CommandError(f"SCENE: {error}") from None
        except mj.SolveError as error:
            raise CommandError(f"the solve failed: {error}", SOLVE) from None
        return tracking.Result(problem, followed, warm, cold)


def report(result: tracking.Result, scene: Scene, options: TrackingOptions, source: str) -> Report:
    """What the result says; `source` is the name of the input."""
    found = tracking.facts(result, scene, options, source)
    law, warm = found["control law"], found["warm re-solve"]
    n, d = scene.nodes.shape
    lead = (
        f"{n} {'points' if scene.destination is None else 'nodes'} x {d} "
        f"({', '.join(scene.names[:6])}) from t = {scene.first:g} to {scene.last:g}; law "
        f"{options.law}, beta = {found['options']['beta']:.4g}"
    )
    length = "km" if scene.scaling.is_map else "units of length"
    cards = [
        Card("largest speed", f"{law['largest_speed']:.4g}",
             f" {length} a unit of time; warm re-solve {warm['largest_speed']:.4g}"),
        Card("mean distortion", f"{law['mean_distortion']:.6g}",
             f"; {change(found['percent_above_warm'])} beside a warm re-solve"),
        Card("rows reached", f"{found['rows']} of {len(result.followed.times)}"),
        Card("code", result.code.name, f": {result.told}"),
    ]  # fmt: skip
    return Report(
        Heading("track", source, lead),
        cards,
        [
            Section("How do they move?", tracking.ways(result, scene, options)),
            Section("What would solving every frame give?", tracking.baselines(found)),
            Section("At which times?", tracking.events(result, scene)),
        ],
        found,
    )
