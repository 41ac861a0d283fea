"""Rows of problems whose data are weighted points."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax import Code

from .row import Bad, Odd, Row, Symmetry, same

N, K, D = 24, 3, 2

# Odd input of other shapes.
ONE, CROWDED = "one slot", "more slots than entities"


def points(seed: int = 0, n: int = N, d: int = D) -> tuple[np.ndarray, np.ndarray]:
    """Unequal clumps with unequal weights, so that nothing is degenerate."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [2.0, 0.3], [0.7, 1.8]])[:, :d]
    x = centres[np.arange(n) % 3] + 0.25 * rng.normal(size=(n, d))
    return x, rng.uniform(0.5, 1.5, n)


def rho_of(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


def shares(k: int, dtype: Any) -> Any:
    """Unequal entry shares that sum to one."""
    raw = np.arange(k, 0.0, -1)
    return jnp.asarray(raw / raw.sum(), dtype)


def unit_points() -> tuple[np.ndarray, np.ndarray]:
    """The points in a box of side one, in float32."""
    x, weights = points()
    side = np.ptp(x, axis=0).max()
    return ((x - x.mean(axis=0)) / side).astype(np.float32), weights.astype(np.float32)


def points_row(
    name: str,
    build: Callable[..., mj.Problem],
    arrays: Mapping[str, Callable[[Any], Any]],
    *,
    entities: str = "x",
    place: Callable[[Any], Any] = same,
    first_transition: Callable[[np.ndarray, np.ndarray], float] | None = None,
    permuted: Callable[[Any, np.ndarray], Any] | None = None,
    permutes_slots: bool = True,
    moves_along: bool = True,
    degree: float | None = 2.0,
    other_sizes: tuple[str, ...] = (),
    codes: Mapping[str, tuple[Code, ...]] | None = None,
    **more: Any,
) -> Row:
    """A row of points.

    `build(x, weights, dtype=, k=)` is the problem; `place` brings plain points into the domain of
    the cost; `permuted(problem, order)` permutes arrays that belong to entities, too;
    `permutes_slots` says that relabelling slots is a symmetry, `moves_along` that d(x + c, y + c)
    = d(x, y), `degree` that d(s x, s y) = s^degree d(x, y); `other_sizes` adds odd input of other
    shapes (`ONE`, `CROWDED`), whose programs one row of a kind pays for; `codes` are those of odd
    input where others are allowed than for good input.
    """
    codes = codes or {}
    x, weights = points()

    def data(problem: Any) -> Any:
        return getattr(problem, entities)

    def on(dtype: Any = np.float64) -> mj.Problem:
        return build(x, weights, dtype=dtype)

    def unit(dtype: Any) -> mj.Problem:
        return build(*unit_points(), dtype=dtype)

    def random_values(problem: Any, rng: np.random.Generator) -> Any:
        del problem
        return jnp.asarray(place(rng.normal(size=(K, D)) + 0.8))

    def odd(kind: str, x: np.ndarray, weights: np.ndarray, **sizes: Any) -> Odd:
        good = (more.get("code", Code.OK), Code.NEAR_CRITICAL)
        # An outlier sets the scale, at 200 times which its neighbours have not separated.
        unseparated = (Code.UNSEPARATED,) if kind == "outlier" else ()
        return Odd(
            build=lambda: build(x, weights, **sizes), codes=codes.get(kind, good) + unseparated
        )

    inputs = {
        "zero weights": (x, np.where(np.arange(N) % 2, weights, 0.0)),
        "duplicates": (np.repeat(x[:4], 6, axis=0), weights),
        "constant": (np.ones_like(x), weights),
        "outlier": (np.concatenate([x[:-1], [[1e6, -1e6]]]), weights),
    }
    odds = {kind: odd(kind, *pair) for kind, pair in inputs.items()}
    others = {ONE: (x, weights, 1), CROWDED: (x[:2], weights[:2], 3)}
    odds |= {kind: odd(kind, *others[kind][:2], k=others[kind][2]) for kind in other_sizes}

    flags: dict[str, Any] = {"log_choices": float(np.log(K))} | more
    exact = flags.get("variational", True) and flags.get("monotone", True)
    flags.setdefault("hard_fixed_point", exact)
    flags.setdefault("quadratic", exact and degree == 2)
    if flags.get("capacities"):
        # Prices of what is scarce balance differences of 1 / beta, which rounding hides.
        flags.setdefault("beta_hard", 4e3)
        flags["log_choices"] = None
        if flags.get("rests", True):
            # Which of coincident slots of different capacity goes where is drawn at random, and
            # not alike in two precisions: start where they are apart.
            flags |= {"start": lambda problem: problem.at(data(problem)[:K]), "unit_beta_min": 20.0}
    return Row(
        name=name,
        build=on,
        arrays=arrays,
        unit=unit,
        random_values=random_values,
        bad=_bad(entities, data),
        symmetries=_symmetries(x, weights, build, permuted, permutes_slots, moves_along, degree),
        odd=odds,
        first_transition=first_transition and (lambda: first_transition(x, weights)),
        **flags,
    )


def _bad(entities: str, data: Callable[[Any], Any]) -> tuple[Bad, ...]:
    lost = rf"`{entities}` must be finite; got 1 NaN"
    return (
        Bad(get=data, index=(1, 0), value=np.nan, code=Code.NON_FINITE_INPUT, says=lost),
        Bad(get=data, index=(1, 0), value=np.inf, code=Code.NON_FINITE_INPUT, says=lost),
        Bad(
            get=lambda problem: problem.weights,
            index=(0,),
            value=-1.0,
            code=Code.INVALID_INPUT,
            says=r"`weights` must be >= 0; got -1",
        ),
    )


def _symmetries(
    x: np.ndarray,
    weights: np.ndarray,
    build: Callable[..., mj.Problem],
    permuted: Callable[[Any, np.ndarray], Any] | None,
    permutes_slots: bool,
    moves_along: bool,
    degree: float | None,
) -> tuple[Symmetry, ...]:
    order = np.random.default_rng(4).permutation(N)

    def entities_permuted(problem: Any) -> Any:
        moved = build(x[order], weights[order])
        return moved if permuted is None else permuted(moved, order)

    found = [
        Symmetry(
            name="permuting entities",
            problem=entities_permuted,
            policy=lambda policy: policy[order],
        )
    ]
    slots = np.array([2, 0, 1])
    if permutes_slots:
        found.append(
            Symmetry(
                name="permuting slots",
                problem=same,
                values=lambda values: values[slots],
                # Choices that are no slots (a destination, say) come after them.
                policy=lambda policy: policy[
                    :, np.concatenate([slots, np.arange(K, policy.shape[1])])
                ],
                anneals=False,
            )
        )
    if moves_along:
        shift = np.array([50.0, -20.0])
        found.append(
            Symmetry(
                name="translation",
                problem=lambda problem: build(x + shift, weights),
                values=lambda values: values + shift,
            )
        )
    if degree is not None:
        scale = 3.0
        factor = scale**degree

        def scaled(problem: Any) -> Any:
            moved = build(scale * x, weights)
            autonomy = getattr(moved, "autonomy", None)
            if hasattr(autonomy, "temperature"):
                heat = lambda q: q.autonomy.temperature  # noqa: E731
                moved = eqx.tree_at(heat, moved, heat(moved) * factor)
            return moved

        found.append(
            Symmetry(
                name="scaling",
                problem=scaled,
                values=lambda values: scale * values,
                factor=factor,
            )
        )
    return tuple(found)
