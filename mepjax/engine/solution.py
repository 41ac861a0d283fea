"""What an anneal returns: plain data, without the problem."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Int

from .._core.checks import InputReport, is_concrete
from .._core.failures import raise_failed
from .summary import summarise


class Trace(eqx.Module):
    """One entry per stage, NaN after `n_stages` (steps and codes are 0 there).

    **Fields** (each of shape (max_stages,)): `beta`; `free_energy`, `distortion`, `entropy` of the
    stage's solution; `curvature` there; `displacement`, the Euclidean distance to the stage
    before; `steps` of the inner loop; `code` of the stage. `params` and `statistic` are what
    `Record` asked for, else `None`.
    """

    beta: Float[Array, "*stages"]
    free_energy: Float[Array, "*stages"]
    distortion: Float[Array, "*stages"]
    entropy: Float[Array, "*stages"]
    curvature: Float[Array, "*stages"]
    displacement: Float[Array, "*stages"]
    steps: Int[Array, "*stages"]
    code: Int[Array, "*stages"]
    params: Any = None
    statistic: Any = None


class Solution(eqx.Module):
    """The outcome of `anneal`.

    **Fields:**

    - `params`: the problem's params at the last beta, with the adjoint's derivative.
    - `beta`: the last beta.
    - `code`: see `Code`; check it or call `raise_if_failed`.
    - `free_energy`, `distortion`, `entropy`: F, D, H at `params` and `beta`, in the units of the
        cost (H in nats).
    - `trace`: one row per stage.
    - `n_stages`: stages run.
    - `transitions`: critical betas met on the way, one place per slot, padded with inf.
    - `n_transitions`: how many were met, including those without a place.
    - `sampling_gap`: how much solving on all data lowered their free energy after early stages on
        a sample (`Growth`); 0 where there was no sample.
    - `input_report`: which check a traced input failed.
    - `beta_floor`: the problem's, above which F is finite; zero for most, NaN where not known.
    """

    params: Any
    beta: Float[Array, ""]
    code: Int[Array, ""]
    free_energy: Float[Array, ""]
    distortion: Float[Array, ""]
    entropy: Float[Array, ""]
    trace: Trace
    n_stages: Int[Array, ""]
    transitions: Float[Array, " slots"]
    n_transitions: Int[Array, ""]
    sampling_gap: Float[Array, ""]
    input_report: InputReport
    beta_floor: Float[Array, ""]

    def summary(self) -> str:
        """Outcome, energies, stages, transitions and curvature in five lines; also `print`ed.

        **Raises:** `TypeError` inside `jit`, `grad` or `vmap`, where there are no numbers yet.

        **Example:**

        ```python
        >>> import jax, jax.numpy as jnp, mepjax as mj
        >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
        >>> solution = mj.anneal(problem, mj.Geometric(0.1, 10.0, 1.2), key=jax.random.key(0))
        >>> print(solution.summary().splitlines()[0])
        Solution: OK. The solve converged.

        ```
        """
        if not is_concrete(self):
            raise TypeError(
                "`summary` looks at numbers, so it must be called outside `jit`, `grad` and `vmap`."
            )
        return summarise(self)

    def __str__(self) -> str:
        return summarise(self) if is_concrete(self) else repr(self)

    def raise_if_failed(self) -> "Solution":
        """Return self, or raise on the host if any lane failed.

        **Raises:** `ValueError` for bad input, with the sentence the constructor would have used;
        `SolveError` otherwise. Warnings (NEAR_CRITICAL and the like) do not raise.
        """
        raise_failed(self.code, self.input_report, beta_floor=self.beta_floor)
        return self
