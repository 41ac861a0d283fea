"""Paper and measured, side by side: `report.md`, `report.json` and pictures."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .reproduction import Claim, Reproduction, Setting, Task


def write(
    folder: Path,
    reproduction: Reproduction,
    setting: Setting,
    tasks: Sequence[Task],
    rows: dict[str, dict[str, Any]],
    missing: dict[str, str],
) -> dict[str, Any]:
    """Write the report on finished `rows` by key; each file whole or not at all.

    **Arguments:** `missing`: why the others are not measured, by key.

    **Returns:** what `report.json` has.
    """
    values = {key: row["values"] for key, row in rows.items()}
    claims = list(reproduction.claims(values)) if values else []
    pictures = reproduction.draw(values, setting) if values else {}
    extras = reproduction.extras(values, setting) if values else {}
    found = {
        "name": reproduction.name,
        "title": reproduction.title,
        "source": reproduction.source,
        "scale": setting.scale,
        "seed": setting.seed,
        "seconds": round(sum(row["seconds"] for row in rows.values()), 3),
        "rows": [
            {
                "key": task.key,
                "printed": task.printed,
                "measured": values.get(task.key),
                "seconds": rows[task.key]["seconds"] if task.key in rows else None,
                "not_measured": missing.get(task.key),
            }
            for task in tasks
        ],
        "claims": [claim.__dict__ for claim in claims],
        "files": [*(f"{name}.png" for name in pictures), *extras],
    }
    for name, draw in pictures.items():
        _whole(folder / f"{name}.png", lambda path, draw=draw: path.write_bytes(_png(draw)))
    for name, make in extras.items():
        _whole(folder / name, make)
    text = json.dumps(found, indent=2, allow_nan=False) + "\n"
    _whole(folder / "report.json", lambda path: path.write_text(text, "utf-8"))
    page = markdown(reproduction, found, claims)
    _whole(folder / "report.md", lambda path: path.write_text(page, "utf-8"))
    return found


def markdown(reproduction: Reproduction, found: dict[str, Any], claims: Sequence[Claim]) -> str:
    """The report as Markdown."""
    head = ["row"]
    shown = list(reproduction.columns)
    printed = {name for row in found["rows"] for name in row["printed"]}
    for name, title in reproduction.columns.items():
        head += [f"{title}, paper", f"{title}, measured"] if name in printed else [title]
    head.append("seconds")
    lines = []
    for row in found["rows"]:
        cells = [row["key"]]
        if row["measured"] is None:
            why = f"not measured: {row['not_measured']}"
            width = sum(2 if name in printed else 1 for name in shown)
            lines.append([*cells, why, *[""] * width])
            continue
        for name in shown:
            if name in printed:
                cells.append(_cell(row["printed"].get(name)))
            cells.append(_cell(row["measured"].get(name)))
        lines.append([*cells, f"{row['seconds']:.1f}"])
    parts = [
        f"# {reproduction.name}: {reproduction.title}",
        f"Source: {reproduction.source}. Scale {found['scale']}, seed {found['seed']}, "
        f"{found['seconds']:.0f} seconds in all.",
        _table(head, lines),
    ]
    if claims:
        said = {None: "", True: "yes", False: "**no**"}
        rows = [[c.text, c.printed, c.found, said[c.holds]] for c in claims]
        parts += ["## Claims", _table(["claim", "paper", "measured", "holds"], rows)]
    parts += [f"![{name}]({name})" for name in found["files"] if name.endswith((".png", ".gif"))]
    return "\n\n".join(parts) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_cell(each) for each in value)
    return str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _png(draw: Callable[[Any], None]) -> bytes:
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    draw(figure)
    stream = io.BytesIO()
    # No date and no version: the same rows have the same bytes.
    figure.savefig(stream, dpi=120, format="png", metadata={"Software": None})
    return stream.getvalue()


def _whole(path: Path, make: Callable[[Path], Any]) -> None:
    """Let `make` write a file that takes its place when it is whole."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".mepjax-", suffix=path.suffix)
    os.close(handle)
    scratch = Path(name)
    try:
        make(scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
