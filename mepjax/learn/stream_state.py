"""Where a stream of batches is, and what it has come to."""

import equinox as eqx
from jaxtyping import Array, Float, Int

from .._core import checks
from .._core.codes import Code
from .._core.failures import raise_failed
from ..engine.branching.growth import Groups
from ..engine.schedules import Stage

_UNFINISHED = (
    "The schedule has not come to its last beta yet. The value stands, softer than it will be. "
    "Give more batches, or a schedule of fewer stages or less `patience`."
)


class StreamState(eqx.Module):
    """Where a stream is: plain arrays, whose number does not grow.

    **Fields:**

    - `centres` (K, d); `sums` (K, d + 1), running means of what each cluster receives, as sums of
        x - origin and mass.
    - `groups`: which slots stand at one place, and where they would part.
    - `stage`: of the schedule, that of the next batch; `age`: batches since it began, or since
        other centres took over.
    - `rivals` (2, K, d): centres that are tried on the next batch.
    - `free_energy`: running mean of the F of each batch before anything was learnt from it.
    - `n_batches`; `n_recoveries`: how often other centres took over.
    - `origin`, `spread`, `scale`: a constant near the first batch, its size, and the first
        transition there.
    - `input_report`: which check a traced batch failed.
    """

    centres: Float[Array, "k d"]
    sums: Float[Array, "k d+1"]
    groups: Groups
    stage: Stage
    age: Int[Array, ""]
    rivals: Float[Array, "2 k d"]
    free_energy: Float[Array, ""]
    n_batches: Int[Array, ""]
    n_recoveries: Int[Array, ""]
    origin: Float[Array, " d"]
    spread: Float[Array, ""]
    scale: Float[Array, ""]
    input_report: checks.InputReport


class OnlineSolution(eqx.Module):
    """What a stream has come to.

    **Fields:** `params`, centres (K, d); `beta`; `free_energy`, the running mean of the F of each
    batch before anything was learnt from it; `n_clusters`, places at which centres stand;
    `n_batches`; `n_recoveries`, how often centres found on one batch took over; `code`: OK at the
    schedule's last beta, MAX_STEPS before it, NON_FINITE_INPUT or INVALID_INPUT where a batch was
    bad and left out.
    """

    params: Float[Array, "k d"]
    beta: Float[Array, ""]
    free_energy: Float[Array, ""]
    n_clusters: Int[Array, ""]
    n_batches: Int[Array, ""]
    n_recoveries: Int[Array, ""]
    code: Int[Array, ""]
    input_report: checks.InputReport

    def raise_if_failed(self) -> "OnlineSolution":
        """Return self, or raise on the host.

        **Raises:** `ValueError` for a bad batch, `SolveError` before the schedule's last beta.
        """
        raise_failed(self.code, self.input_report, {Code.MAX_STEPS: _UNFINISHED})
        return self
