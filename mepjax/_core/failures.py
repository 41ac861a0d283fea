"""Raising, on the host, for what a code says of a computation."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .checks import InputReport
from .codes import Code, SolveError, told_critical
from .types import Tracer


def raise_failed(
    code: Any,
    input_report: InputReport,
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
    index = int(np.broadcast_to(np.asarray(input_report.index), codes.shape).flat[lane])
    bad_input = index < len(input_report.sentences)
    if bad_input:
        got = float(np.broadcast_to(np.asarray(input_report.got), codes.shape).flat[lane])
        text = input_report.message(index, got)
    if np.ndim(code) > 0:
        where = np.unravel_index(lane, codes.shape)
        place = ", ".join(str(int(i)) for i in where)
        text = f"{failed.size} of {codes.size} lanes failed; lane {place}: {text}"
    if bad_input:
        raise ValueError(text)
    raise SolveError(f"[{worst.name}] {text}")
