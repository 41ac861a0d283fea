"""What was learnt from a log, as a section of a report."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..options.learning import Learnt
from .model import Column, Extra, Figure, Report, Section, Table, Text

# Tables of more numbers than this are left to autonomy.json.
_MOST_SHOWN = 400


def with_learning(report: Report, learnt: Learnt) -> Report:
    """The report of a clustering, what was learnt before all else."""
    fitted = learnt.fitted
    coverage = fitted.coverage
    assert coverage is not None
    names, values, errors, known = [], [], [], []
    for name, value in fitted.values.items():
        for place in np.ndindex(np.shape(value)):
            names.append(name + "".join(f"[{i}]" for i in place))
            values.append(float(np.asarray(value)[place]))
            error = float(np.asarray(fitted.standard_errors[name])[place])
            errors.append(error if np.isfinite(error) else None)
            known.append("yes" if np.isfinite(error) else "no")
    facts = {
        "model": type(fitted.autonomy).__name__,
        "numbers": {k: np.asarray(v).tolist() for k, v in fitted.values.items()},
        "standard_errors": {k: _finite(np.asarray(v)) for k, v in fitted.standard_errors.items()},
        "test": {
            name: float(value) if np.isfinite(value) else None
            for name in ("pearson", "pearson_p", "spread", "spread_p")
            for value in [np.asarray(getattr(fitted.test, name))]
        },
        "in_words": str(fitted.test),
        "coverage": str(coverage),
        "simulated_with": learnt.truth,
    }
    k = len(coverage.told)
    went = coverage.went if coverage.went is not None else np.zeros((k, k))
    went = went.sum(axis=0) if went.ndim == 3 else went
    rows = [(j, i) for j in range(k) for i in range(k)]
    table = Table(
        "coverage",
        [
            Column("prescribed", [j for j, _ in rows]),
            Column("realised", [i for _, i in rows]),
            Column("interactions", [went[j, i] for j, i in rows]),
        ],
        page_rows=k * k,
    )
    blocks: list[Any] = [
        Text(str(fitted.test), is_warning=bool(fitted.test.rejects)),
        f"Of the log: {coverage}",
    ]
    if len(names) <= _MOST_SHOWN:
        columns = [
            Column("number", names, is_text=True),
            Column("value", values, title="learnt"),
            Column("standard error", errors),
            Column("told by the log", known, is_text=True),
        ]
        blocks.append(Table("numbers", columns, is_file=False, on_terminal=True))
    blocks += [
        Figure(
            "learnt",
            lambda figure: _draw(figure, names, values, errors, learnt.truth),
            "Learnt numbers with 95 % intervals.",
            is_file=True,
        ),
        table,
        Extra("autonomy.json", lambda path: _write(path, facts)),
    ]
    section = Section("What was learnt from the log?", blocks)
    return replace(
        report, sections=[section, *report.sections], facts={**report.facts, "learnt": facts}
    )


def _draw(figure: Any, names: Any, values: Any, errors: Any, truth: Any) -> None:
    from ...plot import learnt_numbers

    learnt_numbers(names[:60], values[:60], errors[:60], truth=truth, ax=figure.add_subplot())


def _write(path: Path, facts: dict[str, Any]) -> None:
    path.write_text(json.dumps(facts, indent=1), "utf-8")


def _finite(values: np.ndarray) -> Any:
    """Nested lists with `None` for what is not finite."""
    if values.ndim:
        return [_finite(row) for row in values]
    return float(values) if np.isfinite(values) else None
