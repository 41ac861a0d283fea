"""Tables of override probabilities, by counting."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import checks
from ..problems.autonomy import AbstractAutonomy, Dense, Grouped, Matrix
from ..problems.autonomy.grouped import as_groups
from ..problems.clustering import Clustering
from .evidence import Evidence, ModelLearner, Uncertainty, as_evidence
from .interactions import Interactions
from .learner import Needs, forget_checks, group_count

# What `interact` leaves of older counts at every update.
_FADE = 0.95

_SHARES = ("pooled", "none")


class CountState(eqx.Module):
    """Weighted counts [group, told, went], and for each row what its squared weights sum to."""

    counts: Float[Array, "groups k k"]
    squares: Float[Array, "groups k"]


class Counts(ModelLearner):
    """p(k|j) is how often those told j went to k.

    Tables belong to the labels of clusters: they serve other centres without another interaction
    where overrides do not depend on where the centres are, and describe these centres alone where
    they do.

    **Arguments:**

    - `share`: `"pooled"`, one table for all entities (`autonomy.Matrix`); `"none"`, one for each
        (`autonomy.Dense`); or the group of each entity, shape (N,), one for each group
        (`autonomy.Grouped`).
    - `prior`: interactions of a prior that every row is given, >= 0. They are spread like the
        table of all entities, and that table's like a table without preference.
    - `forget`: what older counts are multiplied by at every update, in (0, 1]; below 1 the table
        follows an autonomy that drifts. In `interact`, which moves the centres, 1 becomes 0.95.
    - `reweight`: weigh interactions by 1 / (K propensity) where propensities are known and tables
        are shared, so that a table of entities that differ is their average, and not that of those
        who were told each cluster. Not in `interact`, whose solution needs the latter.

    Standard errors are those of multinomial proportions.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> log = mj.learn.Interactions([0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 1, 1])
    >>> fitted = mj.learn.fit(problem, log, mj.learn.Counts(prior=0.0))
    >>> [f"{p:.2f}" for p in fitted.autonomy.p[0]]
    ['0.67', '0.33']

    ```
    """

    group: Any
    prior: Any
    forget: Any
    share: str = eqx.field(static=True)
    n_groups: int = eqx.field(static=True)
    reweight: bool = eqx.field(static=True)

    def __init__(
        self, share: Any = "pooled", prior: Any = 1.0, forget: Any = 1.0, *, reweight: bool = True
    ) -> None:
        self.prior, self.forget, self.reweight = prior, forget, reweight
        self.group, self.n_groups = None, 0
        if isinstance(share, str):
            if share not in _SHARES:
                raise ValueError(
                    f"Counts: `share` must be one of {_SHARES} or the group of each entity; "
                    f"got {share!r}."
                )
            self.share = share
        else:
            self.share = "group"
            self.group = as_groups("Counts", "share", share)
            self.n_groups = group_count("Counts", "share", self.group)
        checks.enforce(
            (
                checks.check_range("Counts", "prior", np.asarray(prior), low=0.0)
                if checks.is_concrete(prior)
                else checks.Check(True, 0.0, ""),
                *forget_checks("Counts", forget),
            )
        )

    def in_motion(self) -> "Counts":
        """Older counts fade, as they are of other centres, and no weights.

        The table that a solution needs is that of the entities which are told each cluster by it.
        """
        kept = checks.is_concrete(self.forget) and float(self.forget) == 1
        share = self.share if self.group is None else self.group
        return Counts(share, self.prior, _FADE if kept else self.forget, reweight=False)

    @property
    def needs(self) -> Needs:
        """Where entities went, and no costs."""
        return Needs(realised=True)

    @property
    def saturated(self) -> bool:
        """True: tables can tell any probabilities."""
        return True

    def init(self, key: Any, problem: Clustering) -> CountState:
        """Tables of zeros."""
        del key
        n, k = problem.x.shape[0], problem.k
        self._check(n)
        groups = {"pooled": 1, "none": n, "group": self.n_groups}[self.share]
        dtype = problem.x.dtype
        return CountState(jnp.zeros((groups, k, k), dtype), jnp.zeros((groups, k), dtype))

    def _check(self, n: int) -> None:
        if self.group is not None and self.group.shape != (n,):
            raise ValueError(
                f"Counts: `share` must have shape ({n},) for {n} entities; got {self.group.shape}."
            )

    def resize(self, state: CountState, problem: Clustering) -> CountState:
        """Tables of new entities are empty; groups must be given anew, see `learn.update`."""
        more = problem.x.shape[0] - state.counts.shape[0]
        if self.share != "none" or more == 0:
            self._check(problem.x.shape[0])
            return state
        return CountState(
            jnp.pad(state.counts, ((0, more), (0, 0), (0, 0))),
            jnp.pad(state.squares, ((0, more), (0, 0))),
        )

    def evidence(self, problem: Clustering, interactions: Interactions) -> Evidence:
        """Interactions as counted, without distances, which tables do not use."""
        return as_evidence(problem, interactions, at_centres=False)

    def _table(self, evidence: Evidence) -> Int[Array, " m"]:
        if self.share == "pooled":
            return jnp.zeros_like(evidence.entity)
        if self.share == "none":
            return evidence.entity
        return jnp.asarray(self.group)[evidence.entity]

    def _counted(self, evidence: Evidence, empty: CountState) -> CountState:
        weights = once = evidence.times
        if self.reweight and self.share != "none" and evidence.propensity is not None:
            k = empty.counts.shape[-1]
            weights = evidence.times / (k * evidence.propensity)
            once = weights / (k * evidence.propensity)
        table = self._table(evidence)
        return CountState(
            empty.counts.at[table, evidence.prescribed, evidence.realised].add(weights),
            empty.squares.at[table, evidence.prescribed].add(once),
        )

    def update(
        self, state: CountState, problem: Clustering, interactions: Interactions, key: Any
    ) -> tuple[CountState, dict[str, Any]]:
        """Older counts times `forget`, and the new ones."""
        del key
        evidence = self.evidence(problem, interactions)
        loss = self.loss(state, evidence)
        forget = jnp.asarray(self.forget, state.counts.dtype)
        # Of a weight that shrinks, so does the square.
        older = CountState(state.counts * forget, state.squares * forget**2)
        return self._counted(evidence, older), {"loss": loss}

    def parameters(self, state: CountState) -> Float[Array, "blocks k"]:
        """Tables, one row a block."""
        k = state.counts.shape[-1]
        return self._tables(state.counts).reshape(-1, k)

    def _tables(self, counts: Float[Array, "groups k k"]) -> Float[Array, "groups k k"]:
        prior = jnp.asarray(self.prior, counts.dtype)
        k = counts.shape[-1]

        def shrunk(counts: Array, towards: Array) -> Array:
            total = jnp.sum(counts, axis=-1, keepdims=True) + prior
            known = total > 0
            return jnp.where(
                known, (counts + prior * towards) / jnp.where(known, total, 1), towards
            )

        level = jnp.full((k, k), 1 / k, counts.dtype)
        overall = shrunk(jnp.sum(counts, axis=0), level)
        return overall[None] if counts.shape[0] == 1 else shrunk(counts, overall)

    def model(self, parameters: Float[Array, "blocks k"]) -> AbstractAutonomy:
        """`Matrix`, `Grouped` or `Dense`."""
        k = parameters.shape[-1]
        p = parameters.reshape(-1, k, k)
        if self.share == "pooled":
            return Matrix(p[0])
        return Dense(p) if self.share == "none" else Grouped(p, self.group)

    def named(self, values: Array) -> dict[str, Array]:
        """`p`, shaped like the model's."""
        k = values.shape[1]
        tables = values.reshape(-1, k, *values.shape[1:])
        return {"p": tables[0] if self.share == "pooled" else tables}

    def probabilities(
        self, parameters: Float[Array, "blocks k"], evidence: Evidence
    ) -> Float[Array, "m k"]:
        """Rows of the tables."""
        k = parameters.shape[-1]
        return parameters.reshape(-1, k, k)[self._table(evidence), evidence.prescribed]

    def refitted(
        self, parameters: Float[Array, "blocks k"], evidence: Evidence
    ) -> Float[Array, "blocks k"]:
        """The tables of greatest likelihood, counted again from this evidence."""
        k = parameters.shape[-1]
        tables = parameters.reshape(-1, k, k)
        empty = CountState(jnp.zeros_like(tables), jnp.zeros_like(tables[..., 0]))
        return self._tables(self._counted(evidence, empty).counts).reshape(-1, k)

    def uncertainty(self, state: CountState) -> Uncertainty:
        """Multinomial, from the number of interactions that the weights are worth."""
        p = self.parameters(state)
        total = jnp.sum(state.counts, axis=-1)
        known = state.squares > 0
        worth = total**2 / jnp.where(known, state.squares, 1.0)
        worth = (worth + jnp.asarray(self.prior, p.dtype)).reshape(-1)
        known = known.reshape(-1)
        spread = p[:, :, None] * jnp.eye(p.shape[1], dtype=p.dtype) - p[:, :, None] * p[:, None, :]
        covariance = spread / jnp.where(known, worth, 1.0)[:, None, None]
        unknown = jnp.where(jnp.eye(p.shape[1], dtype=bool), jnp.inf, 0.0)
        covariance = jnp.where(known[:, None, None], covariance, unknown)
        return Uncertainty(covariance, jnp.broadcast_to(known[:, None], p.shape))
