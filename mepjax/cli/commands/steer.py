"""`mepjax steer`: signals for the clusters of a population."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer

import mepjax as mj

from ... import mdp
from ...datasets import channel_game
from ..console import say
from ..errors import SOLVE, CommandError
from ..options import anneal
from ..options.output import OutputOptions
from ..options.steering import SteeringOptions
from ..progress import interruptible
from ..report import folder, terminal
from ..report.model import Block, Card, Column, Figure, Heading, Report, Section, Table, Text
from ..tables.game import HELP, read_game

EXAMPLE = "bundled example: channel_game()"

# States of a policy that the page shows.
_SHOWN = 60


@dataclass(frozen=True)
class Result:
    """The `model`, what was found with its `labels`, and the `splits` that led to them, if any."""

    model: mdp.FactoredMDP
    found: mdp.Steering
    splits: mdp.Clusterings | None

    @property
    def labels(self) -> list[int]:
        """The cluster of every steered agent."""
        return np.asarray(self.found.labels).tolist()

    @property
    def gap(self) -> float:
        """The largest distance that bounds leave to the best values."""
        return float(np.max(np.asarray(self.found.upper) - np.asarray(self.found.values)))


def steer(
    game: Annotated[Path | None, typer.Argument(help=HELP, show_default=False)] = None,
    options: SteeringOptions = SteeringOptions(),
    output: OutputOptions = OutputOptions(),
) -> None:
    """Find the signals that steer a population best, one for each cluster of its agents.

    Writes agents.csv, policy.csv, splits.csv, steered.png, report.html and report.json.
    """
    output.check()
    anneal.keep_programs()
    with jax.enable_x64(True):
        model = channel_game() if game is None else read_game(game)
    if game is None:
        say(f"No file given: running the {EXAMPLE}.")
    result = interruptible(lambda: solve(model, options))
    source = EXAMPLE if game is None else str(game)
    with jax.enable_x64(True):
        made = report(result, options.method, source)
        files = folder.write(output.out, made)
    say(*terminal.lines(made, files, output.out))


def solve(model: mdp.FactoredMDP, options: SteeringOptions) -> Result:
    """Signals for these labels, or for those that greedy splitting finds.

    **Raises:** `CommandError` for what does not fit, or if the solve failed.
    """
    labels, method = options.given_labels, options.solver
    with jax.enable_x64(True):
        try:
            splits = None
            if labels is None:
                splits = mdp.split(model, clusters=options.n_clusters, method=method)
                labels = splits.labels[-1].tolist()
            found = mdp.steer(model, labels, method=method).raise_if_failed()
        except ValueError as error:
            option = "--clusters" if labels is None else "--labels"
            raise CommandError(f"{option}: {error}") from None
        except mj.SolveError as error:
            raise CommandError(f"the solve failed: {error}", SOLVE) from None
        return Result(model, jax.tree.map(np.asarray, found), splits)


def report(result: Result, method: str, source: str) -> Report:
    """What the result says; `source` is the name of the input."""
    model, found = result.model, result.found
    count = found.policy.shape[1]
    mean = float(np.mean(found.values))
    lead = (
        f"{model.n_agents} agents, {model.n_states} joint states, signals "
        f"{', '.join(map(str, model.signals))}; discount {float(model.discount):g}"
    )
    sure = "optimal" if found.certified else "no cluster alone does better"
    cards = [
        Card("mean value", f"{mean:.6g}", " over first states"),
        Card("clusters", str(count), f": {','.join(map(str, result.labels))}"),
        Card("best possible is above by at most", f"{result.gap:.3g}", f"; {sure}"),
        Card("code", mj.Code(int(found.code)).name),
    ]
    return Report(
        Heading("steer", source, lead),
        cards,
        [
            Section("Who shares a signal?", _clusters(result)),
            Section("What does steering change?", [_picture(result)]),
            Section("Which signal, in which state?", [_policy(result)]),
            Section("How sure is that?", _certainty(result, method)),
        ],
        _facts(result, method, source),
    )


def _clusters(result: Result) -> list[Block]:
    blocks: list[Block] = [
        Table(
            "agents",
            [
                Column("agent", np.asarray(result.model.steered)),
                Column("cluster", np.asarray(result.labels)),
            ],
            on_terminal=True,
        )
    ]
    splits = result.splits
    if splits is not None and len(splits.values) > 1:
        gains = [None, *splits.gains.tolist()]
        blocks += [
            "Clusters were split greedily, each time the one whose split gains most. Gains need "
            "not fall: a small one does not prove that the next is small.",
            Table(
                "splits",
                [
                    Column("clusters", splits.clusters),
                    Column("mean_value", splits.values, title="mean value"),
                    Column("gain", gains, lambda gain: "" if gain is None else f"{gain:.6g}"),
                    Column("looked_at", splits.examined, title="clusterings looked at"),
                    Column("all", list(splits.exhaustive), title="of"),
                ],
                on_terminal=True,
            ),
        ]
    return blocks


def _picture(result: Result) -> Figure:
    def draw(figure: Any) -> None:
        from ...plot import steered

        axes = figure.add_subplot()
        steered(result.model, result.labels, result.found.policy, ax=axes)

    caption = (
        "Expected reward along time from a uniformly drawn first state, under the policy and under "
        "each signal sent to all for ever."
    )
    return Figure("steered", draw, caption, (7, 4), is_file=True, is_plain=True)


def _policy(result: Result) -> Table:
    found, model = result.found, result.model
    states = np.stack(np.unravel_index(np.arange(model.n_states), model.sizes), -1)
    return Table(
        "policy",
        [
            *(Column(f"agent_{n}", states[:, n]) for n in range(model.n_agents)),
            *(
                Column(f"signal_{c}", np.asarray(found.policy[:, c]))
                for c in range(found.policy.shape[1])
            ),
            Column("value", np.asarray(found.values)),
            Column("lower", np.asarray(found.lower)),
            Column("upper", np.asarray(found.upper)),
        ],
        page_rows=_SHOWN,
    )


def _certainty(result: Result, method: str) -> list[Block]:
    found = result.found
    how = {
        "exact": "one backup over all joint signals",
        "relaxed": "a backup that maximises cluster by cluster",
        "none": "nothing",
    }[found.certificate]
    words = (
        f"Method {method}: {int(found.cluster_steps)} backups of one cluster and "
        f"{int(found.full_sweeps)} of all clusters at once. Bounds come from {how}: the best "
        f"values are above these by at most {result.gap:.6g}."
    )
    if found.certified:
        return [words + " The policy is optimal for these clusters, within the tolerance."]
    warning = "No cluster alone can do better; several together may. Use --method hybrid."
    return [words, Text(warning, is_warning=True)]


def _facts(result: Result, method: str, source: str) -> dict[str, Any]:
    model, found, splits = result.model, result.found, result.splits
    residual = float(found.residual)
    return {
        "versions": {"mepjax": mj.__version__, "jax": jax.__version__, "numpy": np.__version__},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": {
            "file": source,
            "sizes": list(model.sizes),
            "signals": list(model.signals),
            "discount": float(model.discount),
            "local_separable": model.local_separable,
        },
        "options": {"method": method, "clusters": int(found.policy.shape[1])},
        "labels": result.labels,
        "mean_value": float(np.mean(found.values)),
        "largest_gap": result.gap if np.isfinite(result.gap) else None,
        "residual": residual if np.isfinite(residual) else None,
        "certificate": found.certificate,
        "certified": bool(found.certified),
        "cluster_steps": int(found.cluster_steps),
        "full_sweeps": int(found.full_sweeps),
        "loose_tolerance": bool(found.loose),
        "code": mj.Code(int(found.code)).name,
        "splits": None
        if splits is None
        else {
            "clusters": splits.clusters.tolist(),
            "labels": splits.labels.tolist(),
            "mean_values": splits.values.tolist(),
            "gains": splits.gains.tolist(),
            "gains_fall": splits.gains_fall,
            "looked_at": splits.examined.tolist(),
            "of": list(splits.exhaustive),
            "solved": splits.solved,
        },
    }
