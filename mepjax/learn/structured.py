"""The softmax family of autonomy models, by maximum likelihood."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._core import checks
from .._core.codes import Code, as_code
from ..problems.autonomy import Softmax
from ..problems.clustering import Clustering
from .conditional_logit import maximise_likelihood, slopes
from .evidence import Evidence, ModelLearner, Uncertainty, as_evidence
from .interactions import Interactions
from .learner import Needs, check_choice, forget_checks, kappa_groups
from .logged import appended, override_shares, with_room

# Noise on centres at which `interact` asks, in spacings: total standard deviation / K^(1/d).
_AROUND = 0.3


class StructuredState(eqx.Module):
    """All interactions, of which the first `count` rows are filled in, and what they tell.

    `lost` counts those for which there was no room: see `Structured.reserve`.
    """

    evidence: Evidence
    count: Int[Array, ""]
    lost: Int[Array, ""]
    kappa: Float[Array, " groups"]
    slope: Float[Array, "2"]
    overrides: Float[Array, " groups"]
    told: Float[Array, " groups"]
    covariance: Float[Array, "2 2"]
    identified: Any
    code: Int[Array, ""]


class Structured(ModelLearner):
    """Overrides that go to centres near the prescribed one and near the entity.

    p(k|j,i) = 1 - kappa for k = j, else kappa softmax_k(-(zeta d(y_j, y_k) + gamma d(x_i, y_k))).
    The temperature of `mepjax.autonomy.Softmax` cannot be told from zeta and gamma and is 1, so
    these are per unit of the cost. The likelihood splits: kappa is the share of overrides, in
    closed form, and (zeta, gamma) a conditional logit, which is concave in two numbers: Newton's
    method, without restarts. Either may come out negative: drawn to what is far.

    Interactions must say which centres were in force, and several rounds of different centres
    tell more than one: `learn.collect` makes some. What the data do not tell (two clusters, one
    round of centres at equal distances, nobody who overrides, overrides that a rule explains
    without exception) has an infinite standard error and is not `identified`.

    **Arguments:**

    - `kappa`: `"shared"`, one for all entities, or the group of each entity, shape (N,), for one
        by group.
    - `forget`: what older interactions count at every update, times before, in (0, 1].

    Standard errors come from the observed information.

    **Example:** see `learn.fit`.

    Source: autonomy-aware clustering, equation (72).
    """

    group: Any
    forget: Any
    n_groups: int = eqx.field(static=True)

    def __init__(self, kappa: Any = "shared", *, forget: Any = 1.0) -> None:
        (self.group, self.n_groups), self.forget = kappa_groups("Structured", kappa), forget
        checks.enforce(forget_checks("Structured", forget))

    @property
    def needs(self) -> Needs:
        """Where entities went, and the centres at the time."""
        return Needs(realised=True, centres=True)

    @property
    def shares_starts(self) -> bool:
        """What is learnt at some centres holds at others."""
        return True

    def asked_at(
        self, state: StructuredState, problem: Clustering, centres: Float[Array, "k d"], key: Any
    ) -> Float[Array, "1 k d"]:
        """Centres around these, as their distances must differ to tell anything."""
        del state
        spacing = problem.spread / problem.k ** (1 / problem.x.shape[1])
        noise = jax.random.normal(key, centres.shape, centres.dtype)
        return (centres + _AROUND * spacing * noise)[None]

    def init(self, key: Any, problem: Clustering) -> StructuredState:
        """Nobody is known to override, and there is no room for interactions."""
        del key
        check_choice("Structured", problem, self.group)
        dtype, k = problem.x.dtype, problem.k
        whole, real = jnp.zeros((0,), jnp.int32), jnp.zeros((0,), dtype)
        row = jnp.zeros((0, k), dtype)
        groups = jnp.zeros((self.n_groups,), dtype)
        return StructuredState(
            evidence=Evidence(whole, whole, whole, whole, real, None, row, row),
            count=jnp.zeros((), jnp.int32),
            lost=jnp.zeros((), jnp.int32),
            kappa=groups,
            slope=jnp.zeros((2,), dtype),
            overrides=groups,
            told=groups,
            covariance=jnp.diag(jnp.full((2,), jnp.inf, dtype)),
            identified=jnp.zeros((2,), bool),
            code=as_code(Code.OK),
        )

    def reserve(self, state: StructuredState, problem: Clustering, m: int) -> StructuredState:
        """Room for `m` more interactions; where their number is traced, for `m` more rows."""
        del problem
        evidence = with_room(state.evidence, state.count, m)
        return eqx.tree_at(lambda s: s.evidence, state, evidence)

    def resize(self, state: StructuredState, problem: Clustering) -> StructuredState:
        """Nothing in the state is by entity."""
        check_choice("Structured", problem, self.group)
        return state

    def evidence(self, problem: Clustering, interactions: Interactions) -> Evidence:
        """With distances; propensities do not matter to a likelihood."""
        found = as_evidence(problem, interactions, at_centres=True)
        return eqx.tree_at(lambda e: e.propensity, found, None, is_leaf=lambda x: x is None)

    def update(
        self, state: StructuredState, problem: Clustering, interactions: Interactions, key: Any
    ) -> tuple[StructuredState, dict[str, Any]]:
        """The likelihood of all interactions so far, maximised again from where it was."""
        del key
        new = self.evidence(problem, interactions)
        loss = self.loss(state, new)
        if checks.is_concrete(state.count):
            state = self.reserve(state, problem, new.entity.shape[0])
        forget = jnp.asarray(self.forget, problem.x.dtype)
        old = eqx.tree_at(lambda e: e.times, state.evidence, state.evidence.times * forget)
        evidence, count, lost = appended(old, state.count, new)
        kept = (evidence, count, state.lost + lost)
        state = eqx.tree_at(lambda s: (s.evidence, s.count, s.lost), state, kept)
        return self._fitted(state), {"loss": loss}

    def _fitted(self, state: StructuredState) -> StructuredState:
        evidence = state.evidence
        kappa, overrides, told = self._overrides(evidence)
        found = maximise_likelihood(evidence, state.slope)
        code = jnp.where(state.lost > 0, as_code(Code.INVALID_INPUT), found.code)
        return eqx.tree_at(
            lambda s: (
                s.kappa,
                s.slope,
                s.overrides,
                s.told,
                s.covariance,
                s.identified,
                s.code,
            ),
            state,
            (kappa, found.slope, overrides, told, found.covariance, found.identified, code),
        )

    def _groups(self, evidence: Evidence) -> Int[Array, " m"]:
        if self.group is None:
            return jnp.zeros_like(evidence.entity)
        return jnp.asarray(self.group)[evidence.entity]

    def _overrides(self, evidence: Evidence) -> tuple[Array, Array, Array]:
        """Share of overrides by group, their number, and that of interactions."""
        strayed = evidence.realised != evidence.prescribed
        return override_shares(self._groups(evidence), self.n_groups, evidence.times, strayed)

    def state_code(self, state: StructuredState) -> Int[Array, ""]:
        """MAX_STEPS or STALLED of the likelihood, INVALID_INPUT where there was no room."""
        return state.code

    def parameters(self, state: StructuredState) -> Float[Array, "1 size"]:
        """kappa by group, zeta, gamma."""
        return jnp.concatenate([state.kappa, state.slope])[None]

    def model(self, parameters: Float[Array, "1 size"]) -> Softmax:
        """`Softmax` at temperature 1."""
        kappa, zeta, gamma = parameters[0, :-2], parameters[0, -2], parameters[0, -1]
        by_entity = kappa[0] if self.group is None else kappa[jnp.asarray(self.group)]
        return Softmax(by_entity, zeta, gamma, jnp.ones((), parameters.dtype))

    def named(self, values: Array) -> dict[str, Array]:
        """`kappa` (one for each group), `zeta`, `gamma`."""
        row = values[0]
        kappa = row[0] if self.group is None else row[:-2]
        return {"kappa": kappa, "zeta": row[-2], "gamma": row[-1]}

    def probabilities(
        self, parameters: Float[Array, "1 size"], evidence: Evidence
    ) -> Float[Array, "m k"]:
        """p(k | j, i) of the family at the learnt parameters."""
        kappa = parameters[0, :-2][self._groups(evidence)][:, None]
        log_weights, _ = slopes(evidence, parameters[0, -2:])
        own = jnp.arange(log_weights.shape[1]) == evidence.prescribed[:, None]
        return jnp.where(own, 1 - kappa, kappa * jnp.exp(log_weights))

    def refitted(
        self, parameters: Float[Array, "1 size"], evidence: Evidence
    ) -> Float[Array, "1 size"]:
        """kappa counted again, and one step of Newton's method for the others."""
        kappa, _, _ = self._overrides(evidence)
        found = maximise_likelihood(evidence, parameters[0, -2:], steps=1)
        return jnp.concatenate([kappa, found.slope])[None]

    def uncertainty(self, state: StructuredState) -> Uncertainty:
        """Block diagonal: kappa of each group, and (zeta, gamma)."""
        told, dtype = state.told, state.kappa.dtype
        # Where all or none override the information is infinite; half an override more is not.
        smooth = (state.overrides + 0.5) / (told + 1)
        edge = (state.overrides <= 0) | (state.overrides >= told)
        share = jnp.where(edge, smooth, state.kappa)
        known = told > 0
        variance = share * (1 - share) / jnp.where(known, told, 1.0)
        variance = jnp.where(known, variance, jnp.inf)
        size = self.n_groups + 2
        covariance = jnp.zeros((size, size), dtype)
        places = jnp.arange(self.n_groups)
        covariance = covariance.at[places, places].set(variance)
        covariance = covariance.at[-2:, -2:].set(state.covariance)
        return Uncertainty(covariance[None], jnp.concatenate([known, state.identified])[None])
