"""Raising, on the host, for what a code says of a computation."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from .checks import InputReport, is_concrete
from .codes import Code, SolveError, told_critical
from .types import Tracer


def raise_failed(
    code: Any,
    input_report: InputReport | None,
    messages: Mapping[Code, str] | None = None,
    beta_floor: Any = None,
) -> None:
    """Raise if any lane failed; warnings (NEAR_CRITICAL and the like) do not.

    `messages` stand for those of `Code` where causes and remedies are others. `beta_floor`, one or
    of every lane, is said where F is not finite below it.

    **Raises:** `TypeError` inside `jit`, `grad` and `vmap`; `ValueError` for bad input, with the
    sentence the constructor would have used; `SolveError` otherwise.
    """
    if isinstance(code, Tracer):
        raise TypeError(
            "`raise_if_failed` looks at numbers, so it must be called outside `jit`, `grad` "
            "and `vmap`; inside them use `.code`."
        )
    codes = np.atleast_1d(np.asarray(code))
    failed = np.flatnonzero(codes.reshape(-1) >= int(Code.MAX_STEPS))
    if failed.size == 0:
        return
    lane = int(failed[0])
    worst = Code(int(codes.reshape(-1)[lane]))
    text = (messages or {}).get(worst, worst.message)
    if worst == Code.UNBOUNDED and beta_floor is not None:
        floor = float(np.broadcast_to(np.asarray(beta_floor), codes.shape).flat[lane])
        if floor > 0:
            text += f" {told_critical(floor)}"
    refused = None if input_report is None else _refused(input_report, lane, codes.shape)
    text = text if refused is None else refused
    if np.ndim(code) > 0:
        where = np.unravel_index(lane, codes.shape)
        place = ", ".join(str(int(i)) for i in where)
        text = f"{failed.size} of {codes.size} lanes failed; lane {place}: {text}"
    if refused is not None:
        raise ValueError(text)
    raise SolveError(f"[{worst.name}] {text}")


def _refused(report: InputReport, lane: int, shape: tuple[int, ...]) -> str | None:
    """What is said of a lane's bad input; `None` if it is good."""
    index, got = (
        np.broadcast_to(np.asarray(value), shape).flat[lane] for value in (report.index, report.got)
    )
    return report.message(int(index), float(got)) if index < len(report.sentences) else None


def with_report(found: Any, report: InputReport) -> Any:
    """A record with its `input_report`, whose code comes before the record's own `code`."""
    code = found.code
    # What is concrete and bad was refused.
    if not is_concrete(report.index):
        code = jnp.where(report.code == int(Code.OK), code, report.code)
    return dataclasses.replace(found, code=code, input_report=report)
