"""Sparse regression as the placing of k amplitudes on the columns of a design."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import arrays, checks, trees
from .._core.types import Scalar
from ..engine.problem import Problem, Terms
from ..solvers.base import AbstractSolver
from ..solvers.fixed_point import FixedPoint

_OWNER = "SparseRegression"
_RELAXATIONS = ("categorical", "bernoulli")
# Share of the largest column that keeps the amplitudes' system definite where all is degenerate.
_RIDGE = 1e-9
_BISECTIONS = 60


class HardRegression(eqx.Module):
    """Columns that are used, and what they leave.

    **Fields:** `support`, the column of each amplitude, shape (k,), possibly the same one twice;
    `amplitudes` (k,), least squares on the columns used, those of one column shared equally;
    `coefficients` (n,), zero for columns that are not used; `n_used`, at most k; `cost`, the sum of
    squares that is left.
    """

    support: Int[Array, " k"]
    amplitudes: Float[Array, " k"]
    coefficients: Float[Array, " n"]
    n_used: Int[Array, ""]
    cost: Float[Array, ""]


class SparseRegression(Problem):
    """k columns of a design that explain a response, by annealing where amplitudes are placed.

    Minimises |response - design V x|^2 over placements V, (n, k), one 1 in each column, and
    amplitudes x, through the free energy of random placements of which amplitude j is on column i
    with probability q_ji. params is Q, shape (k, n), rows on the simplex; amplitudes are profiled
    out by a k x k system. An anneal finds about what orthogonal matching pursuit does on small
    designs and much less on large ones: for answers use `mepjax.select.sparse_path`.

    F = D - H / beta + sum_j (sum_i q_ji - 1)^2 / (2 beta): the last term is zero at every answer,
    and makes rows sum to one without a constraint.

    **Arguments:**

    - `design`: shape (R, n), columns not zero.
    - `response`: shape (R,).
    - `k`: number of amplitudes, at most n.
    - `relaxation`: `"categorical"` (default): each amplitude is on one column, D is the exact
        expectation. `"bernoulli"`: entries of V are independent, as printed, D as in (7.4) and the
        entropy sum -q log q - (1 - q) log(1 - q); rows sum to one by multipliers, solved at every
        temperature by a bracketed root.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was expected.
    Values that are traced become a result code instead.

    Source: parameterized sequential decision making, chapter 7 and A.6, as corrected.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> design = jax.random.normal(jax.random.key(0), (20, 6))
    >>> problem = mj.SparseRegression(design, 2 * design[:, 1] - 3 * design[:, 4], k=2)
    >>> sol = mj.anneal(problem, key=jax.random.key(0))
    >>> print(sorted(problem.harden(sol.params).support.tolist()))
    [1, 4]

    ```
    """

    design: Float[Array, "r n"]
    response: Float[Array, " r"]
    k: int = eqx.field(static=True)
    relaxation: str = eqx.field(static=True)

    def __init__(
        self, design: Any, response: Any, k: int, *, relaxation: str = "categorical"
    ) -> None:
        checks.check_count(_OWNER, "k", k)
        if relaxation not in _RELAXATIONS:
            raise ValueError(
                f"{_OWNER}: `relaxation` must be one of {_RELAXATIONS}; got {relaxation!r}."
            )
        self.k, self.relaxation = int(k), relaxation
        self.design = arrays.as_float_array("design", design)
        if self.design.ndim != 2 or self.design.size == 0:
            raise ValueError(
                f"{_OWNER}: `design` must be 2-D, (responses, columns), and not empty; "
                f"got shape {self.design.shape}."
            )
        r, n = self.design.shape
        self.response = arrays.as_data_like("response", response, self.design.dtype)
        if self.response.shape != (r,):
            raise ValueError(
                f"{_OWNER}: `response` must have shape ({r},); got {self.response.shape}."
            )
        if k > n:
            raise ValueError(f"{_OWNER}: `k` must be at most {n} columns; got {k}.")
        checks.enforce(self.checks())

    def checks(self) -> tuple[checks.Check, ...]:
        """Finite data, no column of zeros."""
        xp, design = checks.on_host(self.design)
        squares = xp.sum(design * design, axis=0)
        least = xp.argmin(squares)
        ok = squares[least] > 0
        # Sentences are static in compiled programs: only one that is said may depend on the data.
        place = f"column {int(least)}" if xp is np and not ok else "a column"
        return (
            checks.check_finite(_OWNER, "design", self.design),
            checks.check_finite(_OWNER, "response", self.response),
            checks.Check(
                ok,
                squares[least],
                f"{_OWNER}: columns of `design` must not be zero; {place} has the sum of squares "
                "{got}.",
            ),
        )

    # What the problem is.

    @property
    def references(self) -> tuple[str, ...]:
        """Deterministic annealing, and the thesis."""
        return (*super().references, "parameterised_decisions")

    @property
    def _is_bernoulli(self) -> bool:
        return self.relaxation == "bernoulli"

    def _floor(self) -> float:
        """Below it nothing is placed; its reciprocal is finite."""
        return float(jnp.finfo(self.design.dtype).tiny) ** 0.5

    def _squares(self) -> Float[Array, " n"]:
        return jnp.sum(self.design**2, axis=0)

    def _ridge(self) -> Float[Array, ""]:
        share = max(_RIDGE, 8 * float(jnp.finfo(self.design.dtype).eps))
        return share * jnp.max(self._squares())

    def _parts(self, q: Float[Array, "k n"]) -> tuple[Array, Array]:
        """Q design^T, (k, R), and the variance of each placed column."""
        placed = _product(q, self.design.T)
        if self._is_bernoulli:
            spread = _product(q * _elsewhere(q), self._squares())
        else:
            spread = _product(q, self._squares()) - jnp.sum(placed**2, axis=1)
        # Rounding leaves spreads of hard placements a little below zero; clipped in value only.
        spread = spread + jax.lax.stop_gradient(jnp.maximum(spread, 0.0) - spread)
        return placed, spread

    def _profiled(self, q: Float[Array, "k n"]) -> tuple[Array, Array]:
        """The best amplitudes (7.8), and D there."""
        placed, spread = self._parts(q)
        system = _product(placed, placed.T) + jnp.diag(spread)
        target = _product(placed, self.response)
        # Amplitudes on one column are not unique: a ridge shares them, and a second solve takes off
        # what it changes elsewhere.
        held = system + self._ridge() * jnp.eye(self.k, dtype=system.dtype)
        x = jnp.linalg.solve(held, target)
        x = x + jnp.linalg.solve(held, target - _product(system, x))
        left = self.response - _product(x, placed)
        return x, left @ left + jnp.sum(spread * x**2)

    def amplitudes(self, params: Float[Array, "k n"]) -> Float[Array, " k"]:
        """The amplitudes (k,) that minimise D at these placements."""
        return self._profiled(_normalised(params))[0]

    def _entropy(self, q: Float[Array, "k n"]) -> Float[Array, ""]:
        found = -jnp.sum(self._xlogx(q))
        return found - jnp.sum(self._xlogx(_elsewhere(q))) if self._is_bernoulli else found

    def _xlogx(self, p: Array) -> Array:
        positive = p > self._floor()
        return jnp.where(positive, p * jnp.log(jnp.where(positive, p, 1.0)), 0.0)

    # The contract.

    def init(self, key: Any) -> Float[Array, "k n"]:
        """Uniform placements, the minimiser as beta -> 0."""
        del key
        n = self.design.shape[1]
        return jnp.full((self.k, n), 1 / n, self.design.dtype)

    def terms(self, params: Float[Array, "k n"], beta: Scalar) -> Terms:
        """F, D at the best amplitudes, and H less what rows that do not sum to one cost."""
        q = _normalised(params)
        penalty = jnp.sum((jnp.sum(params, axis=1) - 1) ** 2) / 2
        distortion, entropy = self._profiled(q)[1], self._entropy(q) - penalty
        return Terms(distortion - entropy / beta, distortion, entropy)

    def free_energy(self, params: Float[Array, "k n"], beta: Scalar) -> Float[Array, ""]:
        """D - H / beta of the rows scaled to sum one, and what their sums cost."""
        return self.terms(params, beta).free_energy

    def residual(self, params: Float[Array, "k n"], beta: Scalar) -> Float[Array, "k n"]:
        """grad F; a column where nothing is placed stays."""
        still = jax.lax.stop_gradient(params)
        free = params > self._floor()
        # What stays moves nothing else, so that the Jacobian is symmetric.
        slope = jax.grad(self.free_energy)(jnp.where(free, params, still), beta)
        return jnp.where(free, slope, params - still)

    def metric(self, params: Float[Array, "k n"], beta: Scalar) -> lx.AbstractLinearOperator:
        """diag(1 / (beta q)), with 1 / (1 - q) beside it for Bernoulli; 1 where nothing is."""
        free = params > self._floor()
        inverse = 1 / jnp.where(free, params, 1.0)
        if self._is_bernoulli:
            inverse = inverse + 1 / jnp.maximum(_elsewhere(params), self._floor())
        return lx.DiagonalLinearOperator(jnp.where(free, inverse / beta, 1.0))

    def policy(self, params: Float[Array, "k n"], beta: Scalar) -> Float[Array, "k n"]:
        """log probabilities of where each amplitude is placed, the others as they are."""
        q = _normalised(params)
        x, _ = self._profiled(q)
        if self._is_bernoulli:
            return jnp.log(jnp.maximum(self._bernoulli(q, x, beta), 0.0))
        placed, _ = self._parts(q)
        others = self.response - _product(x, placed) + x[:, None] * placed
        return jax.nn.log_softmax(beta * self._worth(others, x[:, None]), axis=1)

    def _worth(self, others: Array, x: Array) -> Array:
        """What an amplitude takes off D on each column, given what the others leave."""
        return 2 * x * _product(others, self.design) - x**2 * self._squares()

    def update(self, params: Float[Array, "k n"], beta: Scalar) -> Float[Array, "k n"]:
        """One sweep over the amplitudes, each placed and fitted given the others; F never rises.

        For Bernoulli all at once, as printed (Algorithm 8): no descent; damp it.
        """
        q = _normalised(params)
        x, _ = self._profiled(q)
        if self._is_bernoulli:
            return self._bernoulli(q, x, beta)
        squares = self._squares()
        placed, _ = self._parts(q)

        def place(left: Array, one: tuple[Array, Array]) -> tuple[Array, Array]:
            """`left` is the residual; the amplitude x and its column before, then after."""
            x, column = one
            others = left + x * column
            new = jax.nn.softmax(beta * self._worth(others, x))
            column = _product(self.design, new)
            x = column @ others / (new @ squares)
            return others - x * column, new

        start = self.response - _product(x, placed)
        return jax.lax.scan(place, start, (x, placed))[1]

    def _bernoulli(self, q: Array, x: Array, beta: Scalar) -> Array:
        """sigmoid(beta (R_j - mu_j)), with mu_j such that the row sums to one, (7.9)."""
        placed, _ = self._parts(q)
        left = self.response - _product(x, placed)
        slopes = 2 * x[:, None] * _product(self.design.T, left)
        slopes = slopes - x[:, None] ** 2 * self._squares() * (1 - 2 * q)
        n = slopes.shape[1]
        top = jnp.sort(slopes, axis=1)
        if n == 1:
            return jnp.ones_like(q)
        # The root lies between the second largest and the largest plus log(n - 1) / beta.
        low, high = top[:, -2], top[:, -1] + np.log(max(n - 1, 2)) / beta

        def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = 0.5 * (low + high)
            logits = beta * (top - middle[:, None])
            # What is not on the largest against what is on the others: a sum that is compared with
            # one loses all digits where placements are nearly hard.
            others = jax.nn.logsumexp(jax.nn.log_sigmoid(logits[:, :-1]), axis=1)
            over = others > jax.nn.log_sigmoid(-logits[:, -1])
            return jnp.where(over, middle, low), jnp.where(over, high, middle)

        low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (low, high))
        return _normalised(jax.nn.sigmoid(beta * (slopes - (0.5 * (low + high))[:, None])))

    def harden(self, params: Float[Array, "k n"]) -> HardRegression:
        """A column for each amplitude, and least squares on these.

        Each in turn goes where D is least given the others, soft or placed already: D of
        categorical placements is linear in each row, so that the cost is at most D. Several
        amplitudes may be on one column: then fewer than k are used.
        """
        q = _normalised(params)
        x, _ = self._profiled(q)
        placed, _ = self._parts(q)

        def place(left: Array, one: tuple[Array, Array]) -> tuple[Array, Array]:
            x, column = one
            others = left + x * column
            best = jnp.argmax(self._worth(others, x)).astype(jnp.int32)
            return others - x * self.design[:, best], best

        left = self.response - _product(x, placed)
        support = jax.lax.scan(place, left, (x, placed))[1]
        same = support[:, None] == support
        first = jnp.argmax(same, axis=1) == jnp.arange(self.k)
        a = jnp.where(first, self.design[:, support], 0.0)
        found = jnp.where(first, jnp.linalg.lstsq(a, self.response)[0], 0.0)
        left = self.response - _product(a, found)
        count = jnp.sum(same, axis=1)
        return HardRegression(
            support=support,
            amplitudes=_product(same.astype(a.dtype), found) / count,
            coefficients=jnp.zeros((self.design.shape[1],), a.dtype).at[support].add(found),
            n_used=jnp.sum(first).astype(jnp.int32),
            cost=left @ left,
        )

    def params_scale(self, params: Float[Array, "k n"]) -> Any:
        """1: they are probabilities."""
        del params
        return jnp.ones((), self.design.dtype)

    def default_solver(self) -> AbstractSolver:
        """`FixedPoint`; damped for Bernoulli, whose update is no descent."""
        return FixedPoint(damping=0.3) if self._is_bernoulli else FixedPoint()

    def critical_temperatures(self, params: Float[Array, "k n"], beta: Scalar) -> Array:
        """Where each amplitude and a twin of it would part, shape (k,); Theorem 15, corrected.

        The largest eigenvalue of 2 (x_j^2 S + g g^T / Theta) relative to the entropy's curvature
        on rows whose sum stays, with Theta the variance of the placed column; S is design^T design
        and g = A^T w - x_j (lam - 2 A^T A q_j), or for Bernoulli S = diag(lam) and
        g = A^T w - x_j lam (1 - 2 q_j), with w the residual. 0 for a hard placement.
        """
        del beta
        q = _normalised(params)
        x, _ = self._profiled(q)
        placed, theta = self._parts(q)
        theta, squares = theta + self._ridge(), self._squares()
        outward = _product(self.response - _product(x, placed), self.design)
        if self._is_bernoulli:
            g = outward - x[:, None] * squares * (1 - 2 * q)
            inverse = q * _elsewhere(q)
        else:
            g = outward - x[:, None] * (squares - 2 * _product(placed, self.design))
            inverse = q

        def largest(args: tuple[Array, ...]) -> Array:
            x, g, theta, inverse = args
            root = jnp.sqrt(inverse)
            unit = root / jnp.linalg.norm(root)
            if self._is_bernoulli:
                rows = jnp.concatenate([jnp.diag(x * jnp.sqrt(squares)), g[None] / jnp.sqrt(theta)])
            else:
                rows = jnp.concatenate([x * self.design, g[None] / jnp.sqrt(theta)])
            rows = rows * root
            rows = rows - _product(rows, unit)[:, None] * unit
            small = rows.shape[0] <= rows.shape[1]
            gram = _product(rows, rows.T) if small else _product(rows.T, rows)
            return 2 * jnp.linalg.eigvalsh(gram)[-1]

        return jax.lax.map(largest, (x, g, theta, inverse))

    def beta_scale(self) -> Float[Array, ""]:
        """One over the critical temperature of uniform placements: a reference.

        These are stationary only as beta -> 0; first transitions were found at 0.98 to 1.2 of it.
        """
        still = trees.stop_gradient(self)
        largest = still.critical_temperatures(still.init(None), 0.0)[0]
        return jnp.where(largest > 0, 1 / jnp.where(largest > 0, largest, 1.0), 1.0)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _normalised(params: Float[Array, "k n"]) -> Float[Array, "k n"]:
    """Rows scaled to sum one."""
    return params / jnp.sum(params, axis=1, keepdims=True)


def _elsewhere(q: Float[Array, "k n"]) -> Float[Array, "k n"]:
    """1 - q of rows that sum to one, by the other entries: no digits are lost where q is near 1."""
    zero = jnp.zeros_like(q[:, :1])
    before = jnp.concatenate([zero, jnp.cumsum(q, axis=1)[:, :-1]], axis=1)
    after = jnp.cumsum(q[:, ::-1], axis=1)[:, ::-1]
    return before + jnp.concatenate([after[:, 1:], zero], axis=1)
