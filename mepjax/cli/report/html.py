"""The report as a page that needs nothing else. All that comes from the user is escaped."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from .model import Block, Column, Extra, Figure, Report, Section, Table, Text

_COLUMNS = 40
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


def write(path: Path, report: Report, pictures: dict[str, bytes]) -> None:
    """Write the page; `pictures` are PNG files by the names of their figures."""
    # Names of files may hold bytes that are no text.
    path.write_text(render(report, pictures), encoding="utf-8", errors="backslashreplace")


def render(report: Report, pictures: dict[str, bytes]) -> str:
    """The page as text."""
    title = f"mepjax {report.heading.command}: {report.heading.source}"
    parts = [_head(report), *(_section(section, pictures) for section in report.sections)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # The page may not fetch anything, from anywhere.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _text(value: object) -> str:
    """Escaped, and without characters that no page may hold."""
    return html.escape("".join(c if c.isprintable() else " " for c in str(value)))


def _head(report: Report) -> str:
    """The name of the input, a sentence on it, and the first numbers, each with its name."""
    cards = "".join(
        f"<div><dt>{_text(card.name)}</dt><dd>{_text(card.value)}</dd></div>"
        for card in report.cards
        if "page" in card.where
    )
    versions = report.facts["versions"]
    return (
        f"<h1>{_text(report.heading.source)}</h1>\n"
        f'<p class="lead">{_text(report.heading.lead)}. Written '
        f"{_text(report.facts['written'])} by mepjax {_text(versions['mepjax'])}.</p>\n"
        f'<dl class="facts">{cards}</dl>'
    )


def _section(section: Section, pictures: dict[str, bytes]) -> str:
    blocks = (_block(block, pictures) for block in section.blocks)
    return "\n".join([f"<h2>{_text(section.question)}</h2>", *(b for b in blocks if b)])


def _block(block: Block, pictures: dict[str, bytes]) -> str:
    if isinstance(block, str):
        return f"<p>{_text(block)}</p>"
    if isinstance(block, Text):
        return f"<p{' class=bad' if block.is_warning else ''}>{_text(block.sentence)}</p>"
    if isinstance(block, Figure):
        return _picture(pictures[block.name], block.caption)
    if isinstance(block, Extra):
        return f"<p>{_text(block.name)} is beside this page.</p>"
    return _table(block)


def _picture(png: bytes, caption: str) -> str:
    """A picture inside the page itself."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{_text(caption)}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    """The first rows, and a sentence on the others and on what they are."""
    columns = table.shown("page")
    kept, more = min(len(table), table.page_rows), []
    if kept < len(table):
        left, rows = len(table) - kept, "rows" if kept == 0 else "others"
        where = f" {'is' if left == 1 else 'are'} in {table.name}.csv" if table.is_file else ""
        verb = "" if where else f" {'is' if left == 1 else 'are'} not shown"
        count = "one" if left == 1 and kept else f"{left} {rows}"
        more.append(f"The other {left}{where}{verb}." if kept else f"The {count}{where}{verb}.")
    if len(columns) > _COLUMNS:
        more.append(f"The other {len(columns) - _COLUMNS} columns are in {table.name}.csv.")
        columns = columns[:_COLUMNS]
    note = _text(" ".join([*([table.note] if table.note else []), *more]))
    note = f"\n<p>{note}</p>" if note else ""
    if kept == 0:
        return note.strip()
    head = _row("th", columns, [column.heading("page") for column in columns])
    cells = zip(*(column.cells("page", kept) for column in columns), strict=True)
    body = "\n".join(_row("td", columns, row) for row in cells)
    return (
        f'<div class="wide"><table>\n<thead>{head}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>{note}"
    )


def _row(tag: str, columns: Sequence[Column], cells: Sequence[object]) -> str:
    def align(column: Column) -> str:
        return " class=text" if column.is_text else ""

    return (
        "<tr>"
        + "".join(
            f"<{tag}{align(column)}>{_text(cell)}</{tag}>"
            for column, cell in zip(columns, cells, strict=True)
        )
        + "</tr>"
    )
