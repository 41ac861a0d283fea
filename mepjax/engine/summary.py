"""A solution in five lines, for people."""

from typing import Any

import numpy as np

from .._core.codes import Code


def summarise(solution: Any) -> str:
    """What a person asks first: did it converge, what does it cost, when did it separate.

    For a batch of solutions (from `jax.vmap`) numbers are given as ranges over its lanes.
    """
    codes = np.atleast_1d(np.asarray(solution.code)).reshape(-1)
    trace = solution.trace
    used = np.isfinite(np.asarray(trace.beta))
    return "\n".join(
        (
            _outcome(codes),
            f"  F = {_span(solution.free_energy)}, D = {_span(solution.distortion)}, "
            f"H = {_span(solution.entropy)} nats at beta = {_span(solution.beta)}",
            f"  stages: {_span(solution.n_stages)}, from beta = {_span(_first(trace.beta))}; "
            f"inner steps: {_span(np.sum(np.asarray(trace.steps), axis=-1))}; stages stopped "
            f"before their tolerance: {_span(_unfinished(trace.code, used))}",
            f"  phase transitions: {_span(solution.n_transitions)}{_betas(solution.transitions)}",
            *_sampling(solution.sampling_gap),
            f"  curvature at the end: {_curvature(trace.curvature, solution.n_stages)}",
        )
    )


def _outcome(codes: np.ndarray) -> str:
    if codes.size == 1:
        code = Code(int(codes[0]))
        return f"Solution: {code.name}. {code.message}"
    counts = {code: int(np.sum(codes == code)) for code in Code}
    told = ", ".join(f"{number} {code.name}" for code, number in counts.items() if number)
    return f"Solution: {codes.size} lanes: {told}."


def _span(values: Any) -> str:
    """One number, or the smallest and largest of several."""
    values = np.asarray(values)
    values = values[~np.isnan(values)] if values.size else values
    if values.size == 0:
        return "nan"
    low, high = np.min(values), np.max(values)
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"


def _first(betas: Any) -> np.ndarray:
    return np.asarray(betas)[..., 0]


def _unfinished(codes: Any, used: np.ndarray) -> np.ndarray:
    failing = np.asarray(codes) >= int(Code.MAX_STEPS)
    return np.sum(failing & used, axis=-1)


def _betas(transitions: Any) -> str:
    known = np.asarray(transitions)
    known = known[np.isfinite(known)]
    return f", at beta = {_span(known)}" if known.size else ""


def _sampling(gaps: Any) -> list[str]:
    """A line where early stages saw a sample and all data moved what came of it."""
    if not np.any(np.asarray(gaps) != 0):
        return []
    return [f"  early stages and repair on a sample; all data then lowered F by {_span(gaps)}"]


def _curvature(curvatures: Any, n_stages: Any) -> str:
    curvatures = np.asarray(curvatures)
    last = np.maximum(np.asarray(n_stages) - 1, 0)
    ends = np.take_along_axis(curvatures, np.expand_dims(last, -1), axis=-1)
    text = _span(ends)
    if text == "nan":
        return "not computed"
    return f"{text} (1: far from a transition, 0: at one, negative: a saddle)"
