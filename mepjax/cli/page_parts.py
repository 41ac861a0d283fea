"""What the pages of all commands are made of. All that comes from the user is escaped."""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

import mepjax as mj

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


def frame(title: str, sections: Iterable[str]) -> str:
    """The whole page, which needs nothing else."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # The page may not fetch anything, from anywhere.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def head(facts: dict[str, Any], lead: str, cards: Iterable[tuple[str, str]]) -> str:
    """The name of the input, a sentence on it, and the first numbers, each with its name."""
    items = "".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in cards)
    return (
        f"<h1>{text(facts['input']['file'])}</h1>\n"
        f'<p class="lead">{text(lead)} Written '
        f"{text(facts['written'])} by mepjax {text(facts['versions']['mepjax'])}.</p>\n"
        f'<dl class="facts">{items}</dl>'
    )


def text(value: object) -> str:
    """Escaped, and without characters that no page may hold."""
    return html.escape("".join(c if c.isprintable() else " " for c in str(value)))


def number(value: float | None, form: str = ".6g") -> str:
    """A number, or what to say where there is none."""
    return "unknown" if value is None else format(value, form)


def table(header: Sequence[str], rows: Iterable[Sequence[object]], words: Sequence[int]) -> str:
    """A table; columns in `words` hold text, others numbers."""

    def line(tag: str, cells: Sequence[object]) -> str:
        return "".join(
            f"<{tag}{' class=text' if index in words else ''}>{text(cell)}</{tag}>"
            for index, cell in enumerate(cells)
        )

    body = "\n".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table>\n<thead><tr>{line("th", header)}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def figure(drawn: dict[str, bytes], name: str, caption: str) -> str:
    """A picture, if it was drawn, inside the page itself."""
    if name not in drawn:
        return ""
    data = base64.b64encode(drawn[name]).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{text(caption)}">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def convergence(
    facts: dict[str, Any],
    drawn: dict[str, bytes],
    places: str,
    used: str,
    cost: str = "hard_cost",
) -> str:
    """How the solves ended.

    **Arguments:** `places`: centres or facilities; `used`: the key of their number; `cost`: the
    key of the cost by which the run was chosen.
    """
    chosen_by = cost.replace("_", " ")
    chosen = facts["chosen"]
    codes = ", ".join(f"{name} {count}" for name, count in chosen["stage_codes"].items())
    betas = ", ".join(f"{beta:.4g}" for beta in chosen["transitions"]) or "none"
    unplaced = chosen["transitions_met"] - len(chosen["transitions"])
    more = f" and {unplaced} more" if unplaced else ""
    rows = [
        [
            run["run"], run["restart"], run["code"], number(run[cost]),
            run[used], run["stages"], run["steps"], run["transitions_met"],
            f"{run['seconds']:.1f}",
        ]
        for run in facts["runs"]
    ]  # fmt: skip
    failed = [run for run in facts["runs"] if mj.Code[run["code"]].is_failing]
    warning = (
        f'\n<p class="bad">{len(failed)} of {len(rows)} runs did not converge and were not '
        "chosen.</p>"
        if failed
        else ""
    )
    return (
        "<h2>Did it converge?</h2>\n"
        f"<p><strong>{text(chosen['code'])}</strong>: {text(chosen['message'])} Chosen: "
        f"{text(chosen['run'])}, restart {chosen['restart']}, the lowest {chosen_by}. Stages by "
        f"code: {text(codes)}. {places.capitalize()} separated at β = {text(betas + more)}.</p>"
        f"{warning}\n"
        + figure(
            drawn, "tree",
            f"Where the {places} are as β rises: one line as long as they coincide, parting at "
            "transitions.",
        )
        + figure(
            drawn, "transitions",
            f"How far {places} move from stage to stage, and the curvature, which is zero where "
            "they lose stability.",
        )
        + table(
            [
                "run", "restart", "code", chosen_by, used.replace("_", " "), "stages", "steps",
                "transitions", "seconds",
            ],
            rows, (0, 2),
        )
    )  # fmt: skip


def settings(facts: dict[str, Any], options: Iterable[Sequence[object]]) -> str:
    """Options, each with its name, between the columns that were read and the versions."""
    scale = facts["scale"]
    rows = [
        ["columns", ", ".join(facts["input"]["columns"][:40])],
        *options,
        ["scale", scale["kind"]],
        ["units", scale["units"]],
        *([f"version of {name}", value] for name, value in facts["versions"].items()),
    ]
    return "<h2>Settings</h2>\n" + table(["setting", "value"], rows, (0, 1))
