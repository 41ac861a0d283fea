"""Parameterised decision processes: kernels, costs, unknown actions, entropies."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax import Code, mdp

from .row import Bad, Odd, Row, Symmetry

# Four users, two cells and a base; action 2 sends to the base, which users may not.
USERS = np.array([[0.1, 0.9], [0.0, -0.7], [0.6, 0.5], [-0.4, 0.2]])
BASE = np.array([[2.4, 0.3]])
CELLS = [4, 5]
AFTER = np.broadcast_to([4, 5, 6], (7, 3)).copy()
AFTER[6] = 6
PERMITTED = np.ones((7, 3), bool)
PERMITTED[:4, 2] = False
START = np.array([0.3, 0.2, 0.25, 0.25, 0, 0, 0])


def noisy() -> np.ndarray:
    """Packets go astray to the first cell, or stay where they are."""
    p = 0.8 * np.eye(7)[AFTER]
    p[:6, :, 4] += 0.12
    p[np.arange(6), :, np.arange(6)] += 0.08
    p[6] = np.eye(7)[6]
    return p


def prior() -> np.ndarray:
    q = np.where(PERMITTED, np.random.default_rng(3).uniform(0.4, 1.0, PERMITTED.shape), 0.0)
    return q / q.sum(1, keepdims=True)


class Rounded(eqx.Module):
    """A user's own cost: a distance, rounded near zero, that also depends on the action."""

    softness: Any
    pull: Any

    def __call__(self, state: Any, action: Any, after: Any) -> Any:
        apart = jnp.sum((state - after) ** 2) + self.softness**2
        return jnp.sqrt(apart) + 0.1 * jnp.sum((action - self.pull) ** 2)


def places(dtype: Any, cells: Any = ((0.0, 0.0), (0.0, 0.0))) -> jax.Array:
    return jnp.asarray(np.concatenate([USERS, cells, BASE]), dtype)


def build(kernel: Any = None, **more: Any) -> Any:
    def made(dtype: Any) -> mj.Problem:
        options = {name: value(dtype) for name, value in more.items()}
        return mj.ParametricMDP(
            mdp.Deterministic(AFTER) if kernel is None else kernel(dtype),
            **({
                "state_params": places(dtype), "unknown_states": CELLS, "terminal": [6],
                "permitted": PERMITTED, "start": jnp.asarray(START, dtype),
            } | options),
        )  # fmt: skip

    return made


def dense(dtype: Any) -> Any:
    return mdp.Dense(jnp.asarray(noisy(), dtype))


def sparse(dtype: Any) -> Any:
    s, a, n = np.nonzero(noisy())
    return mdp.Sparse(s, a, n, jnp.asarray(noisy()[s, a, n], dtype))


DISCOUNT = {"discount": lambda q: q.discount}
STATES = {"state_params": lambda q: q.unknowns.states}


def to_kernel(name: str, change: np.ndarray) -> np.ndarray:
    """Rows that sum to zero where something can happen; priors likewise."""
    allowed = {"p": noisy() > 0, "prior": PERMITTED}.get(name)
    if name == "discount":
        return -0.3 * np.abs(change)
    if name == "start":
        return np.where(START > 0, change - change[START > 0].mean(), 0.0)
    if allowed is None or allowed.shape != change.shape:
        return change
    change = np.where(allowed, change, 0.0)
    mean = change.sum(-1, keepdims=True) / np.maximum(allowed.sum(-1, keepdims=True), 1)
    return 0.1 * np.where(allowed, change - mean, 0.0)


def scaled(factor: float) -> Symmetry:
    return Symmetry(
        name="larger",
        problem=lambda q: eqx.tree_at(STATES["state_params"], q, q.unknowns.states * factor),
        values=lambda v: v * factor,
        factor=factor**2,
    )


def moved(shift: Any) -> Symmetry:
    return Symmetry(
        name="moved",
        problem=lambda q: eqx.tree_at(STATES["state_params"], q, q.unknowns.states + shift),
        values=lambda v: v + shift,
    )


BAD = (
    Bad(
        get=STATES["state_params"], index=(0, 0), value=float("nan"), code=Code.NON_FINITE_INPUT,
        says="`state_params` must be finite; got 1 NaN",
    ),
    Bad(
        get=lambda q: q.discount, index=(), value=1.5, code=Code.INVALID_INPUT,
        says=r"`discount` must be in \(0, 1\]; got 1.5",
    ),
)  # fmt: skip


def one_place() -> Any:
    """All users at the base: nothing costs anything, and nothing is discounted."""
    return build(
        state_params=lambda dtype: jnp.ones((7, 2), dtype),
        extra_costs=lambda dtype: jnp.zeros((7, 3), dtype),
        discount=lambda dtype: jnp.ones((), dtype),
    )(np.float64)


ROWS = [
    Row(
        name="parametric-mdp",
        build=build(
            extra_costs=lambda dtype: jnp.full((7, 3), 0.05, dtype),
            discount=lambda dtype: jnp.asarray(0.95, dtype),
        ),
        arrays=DISCOUNT
        | {"start": lambda q: q.start, "extra_costs": lambda q: q.extra_costs}
        | STATES,
        change=to_kernel,
        default=True,
        quadratic=True,
        rests=False,
        schedule=(0.2, 20.0, 1.25),
        symmetries=(moved(jnp.asarray([3.0, -2.0])),),
        bad=BAD,
        odd={"one place": Odd(build=one_place)},
    ),
    Row(
        name="parametric-mdp-noisy",
        build=build(
            dense, discount=lambda dtype: jnp.asarray(0.9, dtype),
            prior=lambda dtype: jnp.asarray(prior(), dtype),
        ),
        arrays=DISCOUNT | STATES | {
            "p": lambda q: q.kernel.p, "prior": lambda q: q.prior,
        },
        change=to_kernel,
        quadratic=True,
        rests=False,
        schedule=(0.2, 100.0, 1.25),
        symmetries=(moved(jnp.asarray([3.0, -2.0])), scaled(2.0)),
    ),
    Row(
        name="parametric-mdp-paths",
        build=build(
            sparse, discount=lambda dtype: jnp.asarray(0.9, dtype), entropy=lambda _: "paths",
            extra_costs=lambda dtype: jnp.full((7, 3), 0.05, dtype),
        ),
        arrays=DISCOUNT
        | STATES
        | {"extra_costs": lambda q: q.extra_costs},
        change=to_kernel,
        quadratic=True,
        rests=False,
        convex_at_zero=False,
        schedule=(0.2, 100.0, 1.25),
    ),
    Row(
        name="parametric-mdp-capacities",
        build=build(
            discount=lambda dtype: jnp.asarray(0.95, dtype),
            extra_costs=lambda dtype: jnp.full((7, 3), 0.05, dtype),
            capacities=lambda _: [(mdp.entries([4, 5]), [0.4, 0.8]), (mdp.uses(5, 4), [0.05])],
        ),
        arrays={"limit": lambda q: q.limits.limit} | DISCOUNT | STATES,
        change=to_kernel,
        quadratic=True,
        rests=False,
        capacities=True,
        schedule=(0.2, 100.0, 1.25),
    ),
    Row(
        name="parametric-mdp-horizon",
        build=build(
            dense, entropy=lambda _: "policy", horizon=lambda _: 3,
            end_costs=lambda dtype: jnp.asarray([1.0, 1.0, 1.0, 1.0, 0.4, 0.6, 0.0], dtype),
        ),
        arrays=DISCOUNT | STATES | {"end_costs": lambda q: q.end_costs},
        change=to_kernel,
        quadratic=True,
        rests=False,
        schedule=(0.2, 100.0, 1.25),
        # Packets that go astray hardly tell the cells apart: which of them is which is a matter of
        # the kick where they part.
        start=lambda q: q.at(jnp.asarray([[0.3, 0.5], [0.1, -0.5]])),
        unit_beta_min=20.0,
    ),
    Row(
        name="parametric-mdp-actions",
        build=build(
            cost=lambda _: "sqeuclidean",
            action_params=lambda dtype: jnp.asarray(np.zeros((3, 2)), dtype),
            unknown_actions=lambda _: [0, 1, 2],
            unknown_states=lambda _: None,
            discount=lambda dtype: jnp.asarray(0.7, dtype),
        ),
        arrays=DISCOUNT | STATES,
        quadratic=True,
        rests=False,
        schedule=(0.2, 20.0, 1.25),
    ),
    Row(
        name="parametric-mdp-function",
        build=build(
            cost=lambda dtype: Rounded(jnp.asarray(0.2, dtype), jnp.asarray([0.3, 0.1], dtype)),
            action_params=lambda dtype: jnp.asarray(np.ones((3, 2)), dtype),
            unknown_actions=lambda _: [1],
        ),
        arrays={"softness": lambda q: q.step.fn.softness, "pull": lambda q: q.step.fn.pull}
        | STATES,
        convex_at_zero=False,
        rests=False,
        monotone=False,
        damping=0.3,
        schedule=(0.2, 20.0, 1.25),
    ),
]  # fmt: skip
