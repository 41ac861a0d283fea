"""What a row is: a small problem, and what the contract has to know of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from mepjax import Code
from mepjax._core.params import primal_of


def same(tree: Any) -> Any:
    return tree


def _random_values(problem: Any, rng: np.random.Generator) -> Any:
    """Where the problem starts, displaced by about its own size."""
    start = primal_of(problem.init(jax.random.key(0)))
    flat, restore = ravel_pytree(start)
    size = np.maximum(1.0, np.abs(flat)) * 0.3
    return restore(flat + jnp.asarray(size * rng.normal(size=flat.shape), flat.dtype))


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A value, known only while the program runs, that spoils its lane and no other."""

    get: Callable[[Any], Any]
    index: tuple[int, ...]
    value: float
    code: Code
    # What `raise_if_failed` says, a regular expression.
    says: str

    def __call__(self, problem: Any) -> Any:
        array = jnp.asarray(self.get(problem)).at[self.index].set(self.value)
        return eqx.tree_at(self.get, problem, array)


@dataclass(frozen=True, kw_only=True)
class Symmetry:
    """A change of the problem, of no shape, under which all it says changes in a known way.

    With costs multiplied by `factor`, beta is divided by it, and F and D are multiplied; `offset`
    is what is added to F after that.
    """

    name: str
    problem: Callable[[Any], Any]
    # What becomes of the values in params and of the log policy.
    values: Callable[[Any], Any] = same
    policy: Callable[[Any], Any] = same
    # What becomes of eliminated variables; None: they are prices, and multiplied by `factor`.
    dual: Callable[[Any], Any] | None = None
    factor: float = 1.0
    offset: float = 0.0
    # Whether the anneal of the changed problem ends at the changed params; False where what is
    # random in it (the kick that parts two slots) is not changed along.
    anneals: bool = True
    # Absolute tolerance for values after an anneal.
    atol: float = 1e-7


@dataclass(frozen=True, kw_only=True)
class Odd:
    """Input at the edge of what is allowed: finite answers, and one of these codes."""

    build: Callable[[], Any]
    codes: tuple[Code, ...] = (Code.OK, Code.NEAR_CRITICAL)


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """A problem under contract. Only `name`, `build` and `arrays` have to be given.

    All its tests share programs, which are compiled once per shape and precision: keep to one
    shape, small sizes and few stages.
    """

    name: str
    # The problem, on small data of its own that nothing degenerate, its arrays of this dtype.
    build: Callable[[Any], Any]
    # The arrays to differentiate; the first is the one that `shifted` moves.
    arrays: Mapping[str, Callable[[Any], Any]]
    # Runs by default, else only with `-m slow`. One row of each kind does.
    default: bool = False

    # Random values in the domain of the free energy.
    random_values: Callable[[Any, np.random.Generator], Any] = _random_values
    # A legal change of an array from a random one.
    change: Callable[[str, np.ndarray], np.ndarray] = lambda name, random: random
    # Bad values of arrays, met by lanes of their own.
    bad: tuple[Bad, ...] = ()
    symmetries: tuple[Symmetry, ...] = ()
    odd: Mapping[str, Odd] = field(default_factory=dict)
    # The problem with data of about unit size, for comparisons of precision; default `build`.
    unit: Callable[[Any], Any] | None = None
    # Params from which both precisions take the same branch; None: those of `init`.
    start: Callable[[Any], Any] | None = None
    # beta_min of comparisons of precision.
    unit_beta_min: float = 0.5

    # First and last beta and the factor between stages, at most 64 of them.
    schedule: tuple[float, float, float] = (0.2, 8.0, 1.25)
    # Where hard decisions are as good as reached, and where precisions are compared.
    beta_hard: float = 4e4
    betas: tuple[float, ...] = (1.0, 1e3, 1e5)
    # Natural logarithms of the beta at which random params are looked at.
    log_betas: tuple[float, float] = (-4.0, 8.0)
    # The code of a solve that went well.
    code: Code = Code.OK

    # Closed form of the first transition, where there is one.
    first_transition: Callable[[], float] | None = None
    # What the problem's properties of these names have to say.
    variational: bool = True
    smooth: bool = True
    # Whether `init` is the only minimiser as beta -> 0.
    convex_at_zero: bool = True
    # Before its first transition, which it has, the start is stationary at every beta.
    rests: bool = True
    # Growth splits where F does: its critical betas are no estimates.
    growth_is_exact: bool = True
    # `update` provably never raises F; else one step of the default solver does not.
    monotone: bool = True
    # At fixed weights F is a quadratic of curvature `metric`, whose minimiser is the update.
    quadratic: bool = False
    # Prices in params make use meet capacity, which hard decisions leave out.
    capacities: bool = False
    # Log of the number of decisions that each decider chooses among: hard D - F is at most this
    # over beta. None: there is no such bound.
    log_choices: float | None = None
    # The hard update moves no hard solution.
    hard_fixed_point: bool = True
    # Step of unrolled updates that otherwise overshoot.
    damping: float = 1.0

    def shifted(self, problem: Any, amount: float) -> Any:
        """Other data of the same shapes: the first array, a little larger."""
        name, get = next(iter(self.arrays.items()))
        array = jnp.asarray(get(problem))
        change = jnp.asarray(self.change(name, np.asarray(array)), array.dtype)
        return eqx.tree_at(get, problem, array + amount * change)
