"""`report.html`: one page that needs nothing else, with the answers a person asks for first."""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .cluster import Result
from .points import Points
from .words import describe_autonomy, largest_probabilities, shares

_COLUMNS = 12
_SURE = (0.99, 0.9, 0.5)

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto;
  max-width: 60rem; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #bbb; }
p.lead { color: #444; margin: 0 0 1rem; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem;
  margin: 1rem 0; padding: 0; }
.facts div { border: 1px solid #bbb; border-radius: .4rem; padding: .6rem .8rem; }
.facts dt { color: #444; font-size: .85rem; }
.facts dd { margin: 0; font-size: 1.2rem; font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th { border-bottom: 1px solid #666; font-weight: 600; }
td.text, th.text { text-align: left; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
figcaption { color: #444; font-size: .9rem; }
.bad { font-weight: 600; color: #a03000; }
@media print { h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


def render(result: Result, points: Points, facts: dict[str, Any], drawn: dict[str, bytes]) -> str:
    """The page as text.

    **Arguments:** `facts`, what `report.json` says; `drawn`, PNG files by name. All that comes
    from the user is escaped.
    """
    sections = [
        _head(result, points, facts),
        _centres(result, points),
        _belonging(result, drawn),
        _sure(result, drawn),
        *([_autonomy(result, facts, drawn)] if result.options.is_aware else []),
        _convergence(facts, drawn),
        _settings(facts),
    ]
    title = _text(f"mepjax cluster: {facts['input']['file']}")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # The page may not fetch anything, from anywhere.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def _text(value: object) -> str:
    """Escaped, and without characters that no page may hold."""
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return html.escape(text)


def _number(value: float | None, form: str = ".6g") -> str:
    return "unknown" if value is None else format(value, form)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]], words: Sequence[int]) -> str:
    """A table; columns in `words` hold text, others numbers."""

    def line(tag: str, cells: Sequence[object]) -> str:
        return "".join(
            f"<{tag}{' class=text' if index in words else ''}>{_text(cell)}</{tag}>"
            for index, cell in enumerate(cells)
        )

    body = "\n".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table>\n<thead><tr>{line("th", header)}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _figure(drawn: dict[str, bytes], name: str, caption: str) -> str:
    if name not in drawn:
        return ""
    data = base64.b64encode(drawn[name]).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{_text(caption)}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _head(result: Result, points: Points, facts: dict[str, Any]) -> str:
    n, d = points.x.shape
    chosen, ignoring = facts["chosen"], facts["cost_of_ignoring_autonomy"]
    cards = [
        ("clusters used", f"{chosen['clusters_used']} of {result.problem.k}"),
        ("hard cost" + _scaled(result), _number(chosen["hard_cost"])),
    ]
    if ignoring is not None:
        cards.append(("ignoring autonomy costs", _percent(ignoring["percent"])))
    cards.append(("converged", f"{'yes' if chosen['code'] == 'OK' else chosen['code']}"))
    items = "".join(f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in cards)
    weighted = ", weighted" if points.weights is not None else ""
    return (
        f"<h1>{_text(facts['input']['file'])}</h1>\n"
        f'<p class="lead">{n} points of {d} {"column" if d == 1 else "columns"}{weighted}; '
        f"k = {result.problem.k}, {_text(describe_autonomy(result))}. Written "
        f"{_text(facts['written'])} by mepjax {_text(facts['versions']['mepjax'])}.</p>\n"
        f'<dl class="facts">{items}</dl>'
    )


def _scaled(result: Result) -> str:
    return "" if result.scaling.kind == "none" else " (scaled units)"


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.2f}%"


def _centres(result: Result, points: Points) -> str:
    names = points.names[:_COLUMNS]
    sizes = np.bincount(result.assignments, minlength=result.problem.k)
    rows = (
        [
            index,
            *(f"{value:.6g}" for value in centre[:_COLUMNS]),
            size,
            f"{100 * told:.1f}%",
            f"{100 * ends:.1f}%",
        ]
        for index, (centre, size, told, ends) in enumerate(
            zip(result.centres, sizes, *shares(result), strict=True)
        )
    )
    more = len(points.names) - len(names)
    note = f" The other {more} columns are in centres.csv." if more else ""
    degrees = (
        " Coordinates are degrees; distances are those of a flat map on which a degree of "
        "longitude is as long as one of latitude."
        if points.lonlat is not None
        else ""
    )
    return (
        "<h2>What are the centres?</h2>\n"
        + _table(
            ["cluster", *names, "points told to join", "weight told", "weight ending there"],
            rows, (),
        )
        + f"\n<p>Centres are in the units of the input.{note}{degrees}</p>"
    )  # fmt: skip


def _belonging(result: Result, drawn: dict[str, bytes]) -> str:
    ends = (
        "A point has the colours of the centres where it ends up after overrides."
        if result.options.is_aware
        else "A point has the colour of its centre."
    )
    borders = (
        "Where a new point would be told to go at the last β. Lines are the borders between "
        "clusters; between dashed ones the best cluster has less than 90 %."
    )
    return (
        "<h2>Who belongs where?</h2>\n"
        + _figure(drawn, "clusters", ends)
        + _figure(drawn, "map", borders)
        + "\n<p>assignments.csv has the cluster of every point.</p>"
    )


def _sure(result: Result, drawn: dict[str, bytes]) -> str:
    weights = np.asarray(result.problem.weights, np.float64)
    weights = weights / np.sum(weights)
    found = largest_probabilities(result)
    rows = [
        [f"at least {limit:g}"]
        + [f"{100 * np.sum(weights[largest >= limit]):.1f}%" for _, largest in found]
        for limit in _SURE
    ]
    return (
        "<h2>How sure is that?</h2>\n"
        "<p>The probability with which the soft assignment tells a point to join its most probable "
        "cluster. Hard assignments are the limit of large β, so near 1 is usual at the last β; at "
        "the last transition the finest clusters are just told apart.</p>\n"
        + _table(["largest probability", *(f"weight {name}" for name, _ in found)], rows, (0,))
        + _figure(drawn, "sure", "Distribution of the largest soft probability.")
    )


def _autonomy(result: Result, facts: dict[str, Any], drawn: dict[str, bytes]) -> str:
    ignoring = facts["cost_of_ignoring_autonomy"]
    if result.ignored is None:
        return (
            "<h2>What did autonomy change?</h2>\n<p>Unknown: no run without autonomy converged.</p>"
        )
    rows = [
        ["found with autonomy known", _number(ignoring["hard_cost_aware"]), result.best.n_used],
        ["found without it", _number(ignoring["hard_cost_ignored"]), result.ignored.n_used],
    ]
    told, ends = shares(result)
    return (
        "<h2>What did autonomy change?</h2>\n"
        f"<p>Centres found as if nobody strayed cost {_text(_percent(ignoring['percent']))} "
        "when points stray as they do. With the centres of this page "
        f"{100 * float(np.sum(np.abs(told - ends))) / 2:.1f}% of the weight shifts between "
        "clusters, net, from where it is told to go to where it ends.</p>\n"
        + _table(
            ["centres", "hard cost under autonomy" + _scaled(result), "clusters used"], rows, (0,)
        )
        + _figure(drawn, "ignoring", "Hard cost of both, measured under the same autonomy.")
    )


def _convergence(facts: dict[str, Any], drawn: dict[str, bytes]) -> str:
    chosen = facts["chosen"]
    codes = ", ".join(f"{name} {count}" for name, count in chosen["stage_codes"].items())
    betas = ", ".join(f"{beta:.4g}" for beta in chosen["transitions"]) or "none"
    unplaced = chosen["transitions_met"] - len(chosen["transitions"])
    more = f" and {unplaced} more" if unplaced else ""
    rows = [
        [
            run["run"], run["restart"], run["code"], _number(run["hard_cost"]),
            run["clusters_used"], run["stages"], run["steps"], run["transitions_met"],
            f"{run['seconds']:.1f}",
        ]
        for run in facts["runs"]
    ]  # fmt: skip
    failed = [run for run in facts["runs"] if run["code"] not in ("OK", "NEAR_CRITICAL")]
    warning = (
        f'\n<p class="bad">{len(failed)} of {len(rows)} runs did not converge and were not '
        "chosen.</p>"
        if failed
        else ""
    )
    return (
        "<h2>Did it converge?</h2>\n"
        f"<p><strong>{_text(chosen['code'])}</strong>: {_text(chosen['message'])} Chosen: "
        f"{_text(chosen['run'])}, restart {chosen['restart']}, the lowest hard cost. Stages by "
        f"code: {_text(codes)}. Centres separated at β = {_text(betas + more)}.</p>{warning}\n"
        + _figure(
            drawn, "tree",
            "Where the centres are as β rises: one line as long as they coincide, parting at "
            "transitions.",
        )
        + _figure(
            drawn, "transitions",
            "How far centres move from stage to stage, and the curvature, which is zero where "
            "they lose stability.",
        )
        + _table(
            [
                "run", "restart", "code", "hard cost", "clusters used", "stages", "steps",
                "transitions", "seconds",
            ],
            rows, (0, 2),
        )
    )  # fmt: skip


def _settings(facts: dict[str, Any]) -> str:
    options, scale = facts["options"], facts["scale"]
    rows = [
        ["columns", ", ".join(facts["input"]["columns"][:40])],
        *([name, value] for name, value in options.items() if name != "autonomy"),
        ["autonomy", ", ".join(f"{k} {v}" for k, v in options["autonomy"].items() if k != "p")],
        ["scale", scale["kind"]],
        ["units", scale["units"]],
        *([f"version of {name}", value] for name, value in facts["versions"].items()),
    ]
    return "<h2>Settings</h2>\n" + _table(["setting", "value"], rows, (0, 1))
