"""Each mistake is named: the argument, what was got, what was expected."""
# pyright: reportArgumentType=false

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code

X = np.arange(12.0).reshape(6, 2)
NAN = np.where(np.arange(12).reshape(6, 2) == 3, np.nan, X)
INF = np.where(np.arange(12).reshape(6, 2) == 3, np.inf, X)
KEY = jax.random.key(0)
ROWS = [[0.5, 0.4], [0.5, 0.5]]

MISTAKES = {
    "grouped shape": (
        lambda: mj.autonomy.Grouped(np.eye(2), [0]),
        ValueError,
        r"Grouped: `p` must have shape \(G, K, K\); got \(2, 2\)",
    ),
    "grouped rows": (
        lambda: mj.autonomy.Grouped([ROWS], [0]),
        ValueError,
        r"Grouped: rows of `p` must sum to one; got a row that sums to 0.9",
    ),
    "grouped beyond": (
        lambda: mj.autonomy.Grouped(np.eye(2)[None], [0, 1]),
        ValueError,
        r"Grouped: `group` must be a group of `p`, in 0 .. 0; got 1",
    ),
    "grouped fraction": (
        lambda: mj.autonomy.Grouped(np.eye(2)[None], [0.0]),
        TypeError,
        r"Grouped: `group` must be integers; got dtype float64",
    ),
    "grouped entities": (
        lambda: mj.Clustering(X, 2, autonomy=mj.autonomy.Grouped(np.eye(2)[None], [0])),
        ValueError,
        r"Grouped: `group` must have shape \(6,\) for 6 entities; got \(1,\)",
    ),
    "x 1-D": (lambda: mj.Clustering(X[0], 2), ValueError, r"`x` must be 2-D.*\(2,\)"),
    "x 3-D": (lambda: mj.Clustering(X[None], 2), ValueError, r"`x` must be 2-D.*\(1, 6, 2\)"),
    "x empty": (lambda: mj.Clustering(X[:0], 2), ValueError, r"`x` must not be empty.*\(0, 2\)"),
    "x no features": (lambda: mj.Clustering(X[:, :0], 2), ValueError, r"must not be empty"),
    "x NaN": (lambda: mj.Clustering(NAN, 2), ValueError, r"`x` must be finite; got 1 NaN or Inf"),
    "x Inf": (lambda: mj.Clustering(INF, 2), ValueError, r"`x` must be finite; got 1 NaN or Inf"),
    "x text": (lambda: mj.Clustering([["a", "b"]], 2), TypeError, r"`x`.*real numbers.*<U1"),
    "x ragged": (lambda: mj.Clustering([[1.0], [1.0, 2.0]], 2), TypeError, r"`x` must be an array"),
    "x complex": (lambda: mj.Clustering(X * 1j, 2), TypeError, r"`x`.*real numbers.*complex"),
    "k zero": (lambda: mj.Clustering(X, 0), ValueError, r"`k` must be at least 1; got 0"),
    "k negative": (lambda: mj.Clustering(X, -3), ValueError, r"`k` must be at least 1; got -3"),
    "k float": (lambda: mj.Clustering(X, 2.0), TypeError, r"`k` must be an int; got float 2.0"),
    "k bool": (lambda: mj.Clustering(X, True), TypeError, r"`k` must be an int; got bool True"),
    "weights negative": (
        lambda: mj.Clustering(X, 2, weights=[1, 1, 1, 1, 1, -0.5]),
        ValueError,
        r"`weights` must be >= 0; got -0.5",
    ),
    "weights zero": (
        lambda: mj.Clustering(X, 2, weights=np.zeros(6)),
        ValueError,
        r"`weights` must not all be zero",
    ),
    "weights length": (
        lambda: mj.Clustering(X, 2, weights=np.ones(5)),
        ValueError,
        r"`weights` must have shape \(6,\).*got \(5,\)",
    ),
    "weights NaN": (
        lambda: mj.Clustering(X, 2, weights=[1, 1, 1, 1, 1, np.nan]),
        ValueError,
        r"`weights` must be finite",
    ),
    "weights dtype": (
        lambda: mj.Clustering(X.astype(np.float32), 2, weights=np.ones(6)),
        TypeError,
        r"`weights` has dtype float64 but the data have float32",
    ),
    "cost unknown": (
        lambda: mj.Clustering(X, 2, cost="chebyshev"),
        ValueError,
        r"`cost` must be one of \"sqeuclidean\".*a function of \(x_i, y_k\); got 'chebyshev'",
    ),
    "cost class": (
        lambda: mj.Clustering(X, 2, cost=mj.costs.Euclidean),
        TypeError,
        r"`cost` must be an instance, such as Euclidean\(...\); got the class",
    ),
    "cost number": (lambda: mj.Clustering(X, 2, cost=3), ValueError, r"`cost` must be.*got 3"),
    "cost function vector": (
        lambda: mj.Clustering(X, 2, cost=lambda x, y: (x - y) ** 2),
        ValueError,
        r"CostFunction: `function` must return a scalar for one entity and one centre of 2 "
        r"features; got shape \(2,\)",
    ),
    "cost function nothing": (
        lambda: mj.Clustering(X, 2, cost=lambda x, y: None),
        ValueError,
        r"`function` must return a scalar.*got None",
    ),
    "cost function integer": (
        lambda: mj.Clustering(X, 2, cost=lambda x, y: jnp.sum(x > y)),
        ValueError,
        r"`function` must return a real floating number; got dtype int",
    ),
    "cost function arguments": (
        lambda: mj.Clustering(X, 2, cost=lambda x: x[0]),
        TypeError,
        r"takes 1 positional argument but 2 were given",
    ),
    "cost function kind": (
        lambda: mj.costs.CostFunction(3),
        TypeError,
        r"CostFunction: `function` must be callable; got int",
    ),
    "cost function block": (
        lambda: mj.costs.CostFunction(lambda x, y: x[0], block=0),
        ValueError,
        r"`block` must be at least 1; got 0",
    ),
    "cost function traced": (
        lambda: jax.grad(
            lambda s: mj.Clustering(X, 2, cost=lambda x, y: s * jnp.sum((x - y) ** 2)).free_energy(
                jnp.ones((2, 2)), 1.0
            )
        )(1.0),
        TypeError,
        r"CostFunction: `function` captures a traced value.*__call__\(self, x, y\)",
    ),
    "potential vector": (
        lambda: mj.Clustering(X, 2, cost=mj.costs.Bregman(lambda z: z**2)),
        ValueError,
        r"Bregman: `potential` must return a scalar for a point of 2 features.*\(2,\)",
    ),
    "potential domain": (
        lambda: mj.Clustering(X, 2, cost=mj.costs.Bregman(lambda z: -jnp.sum(jnp.log(z)))),
        ValueError,
        r"Bregman: `potential\(x\)` must be finite; got 1 NaN or Inf",
    ),
    "divergence of zeros": (
        lambda: mj.Clustering(X, 2, cost="kullback_leibler"),
        ValueError,
        r"KullbackLeibler: `x` must be > 0; got 0",
    ),
    "divergence of negatives": (
        lambda: mj.Clustering(X - 3, 2, cost="itakura_saito"),
        ValueError,
        r"ItakuraSaito: `x` must be > 0; got -3",
    ),
    "no direction": (
        lambda: mj.Clustering(X * np.array([[0], [1], [1], [1], [1], [0]]), 2, cost="cosine"),
        ValueError,
        r"every row of `x` must have a direction; got 2 rows of zeros",
    ),
    "map columns": (
        lambda: mj.Clustering(X[:, :1], 2, cost="haversine"),
        ValueError,
        r"two columns, longitude and latitude in degrees; got 1",
    ),
    "latitude": (
        lambda: mj.Clustering(X + [0, 80], 2, cost="great_circle"),
        ValueError,
        r"`latitude x\[:, 1\]` must be in \[-90, 90\]; got 91",
    ),
    "longitude": (
        lambda: mj.Clustering(X - [400, 0], 2, cost="great_circle"),
        ValueError,
        r"`longitude x\[:, 0\]` must be in \[-360, 360\]; got -400",
    ),
    "radius": (
        lambda: mj.costs.GreatCircle(0.0),
        ValueError,
        r"GreatCircle: `radius` must be > 0; got 0",
    ),
    "radius shape": (
        lambda: mj.costs.GreatCircle([1.0, 2.0]),
        ValueError,
        r"`radius` must be a scalar; got shape \(2,\)",
    ),
    "smoothing": (
        lambda: mj.costs.Euclidean(-0.1),
        ValueError,
        r"Euclidean: `smoothing` must be >= 0; got -0.1",
    ),
    "smoothing shape": (
        lambda: mj.costs.Euclidean([0.1]),
        ValueError,
        r"Euclidean: `smoothing` must be a scalar; got shape \(1,\)",
    ),
    "kinks and moving autonomy": (
        lambda: mj.Clustering(X, 2, cost="l1", autonomy=mj.autonomy.Softmax(0.2)),
        ValueError,
        r"`cost` Manhattan has no derivatives.*use `stationarity=\"frozen\"`",
    ),
    "cost needs matrix": (
        lambda: mj.Clustering(X, 2, cost="mahalanobis"),
        ValueError,
        r"needs a matrix.*costs.Mahalanobis",
    ),
    "metric shape": (
        lambda: mj.Clustering(X, 2, cost=mj.costs.Mahalanobis(np.eye(3))),
        ValueError,
        r"`matrix` must have shape \(2, 2\).*\(3, 3\)",
    ),
    "metric not square": (
        lambda: mj.costs.Mahalanobis(np.ones((2, 3))),
        ValueError,
        r"`matrix` must be square; got shape \(2, 3\)",
    ),
    "metric asymmetric": (
        lambda: mj.costs.Mahalanobis([[1.0, 0.5], [0.0, 1.0]]),
        ValueError,
        r"`matrix` must be symmetric",
    ),
    "metric indefinite": (
        lambda: mj.costs.Mahalanobis([[1.0, 2.0], [2.0, 1.0]]),
        ValueError,
        r"positive definite; its smallest eigenvalue is -1",
    ),
    "stationarity": (
        lambda: mj.Clustering(X, 2, stationarity="approximate"),
        ValueError,
        r"`stationarity` must be one of \('exact', 'frozen'\); got 'approximate'",
    ),
    "kappa high": (
        lambda: mj.autonomy.Uniform(1.5),
        ValueError,
        r"`kappa` must be in \[0, 1\]; got 1.5",
    ),
    "kappa negative": (
        lambda: mj.autonomy.Softmax(-0.1),
        ValueError,
        r"`kappa` must be in \[0, 1\]; got -0.1",
    ),
    "kappa NaN": (lambda: mj.autonomy.Uniform(np.nan), ValueError, r"`kappa` must be finite"),
    "kappa length": (
        lambda: mj.Clustering(X, 2, autonomy=mj.autonomy.Softmax(np.full(5, 0.1))),
        ValueError,
        r"`kappa` must be a scalar or have shape \(6,\)",
    ),
    "temperature zero": (
        lambda: mj.autonomy.Softmax(0.1, temperature=0.0),
        ValueError,
        r"`temperature` must be > 0; got 0",
    ),
    "temperature negative": (
        lambda: mj.autonomy.Softmax(0.1, temperature=-1.0),
        ValueError,
        r"`temperature` must be > 0; got -1",
    ),
    "zeta vector": (
        lambda: mj.autonomy.Softmax(0.1, zeta=[1.0, 2.0]),
        ValueError,
        r"`zeta` must be a scalar; got shape \(2,\)",
    ),
    "rows": (lambda: mj.autonomy.Matrix(ROWS), ValueError, r"rows of `p` must sum to one.*0.9"),
    "rows negative": (
        lambda: mj.autonomy.Matrix([[1.5, -0.5], [0.5, 0.5]]),
        ValueError,
        r"`p` must be >= 0; got -0.5",
    ),
    "p not square": (
        lambda: mj.autonomy.Matrix(np.full((2, 3), 1 / 3)),
        ValueError,
        r"`p` must have shape \(K, K\); got \(2, 3\)",
    ),
    "p other k": (
        lambda: mj.Clustering(X, 3, autonomy=mj.autonomy.Matrix(np.eye(2))),
        ValueError,
        r"`p` must have shape \(3, 3\) for k=3; got \(2, 2\)",
    ),
    "dense rank": (
        lambda: mj.autonomy.Dense(np.eye(2)),
        ValueError,
        r"`p` must have shape \(N, K, K\); got \(2, 2\)",
    ),
    "dense other n": (
        lambda: mj.Clustering(
            X, 2, autonomy=mj.autonomy.Dense(np.broadcast_to(np.eye(2), (5, 2, 2)))
        ),
        ValueError,
        r"`p` must have shape \(6, 2, 2\).*got \(5, 2, 2\)",
    ),
    "autonomy class": (
        lambda: mj.Clustering(X, 2, autonomy=mj.autonomy.Uniform),
        TypeError,
        r"must be an instance, such as Uniform\(...\)",
    ),
    "autonomy number": (
        lambda: mj.Clustering(X, 2, autonomy=0.3),
        TypeError,
        r"`autonomy` must be None, a model.*got float",
    ),
    "beta zero": (lambda: mj.Geometric(0.0, 1.0), ValueError, r"`beta_min` must be > 0; got 0"),
    "beta negative": (
        lambda: mj.Geometric(-1.0, 1.0),
        ValueError,
        r"`beta_min` must be > 0; got -1",
    ),
    "beta falls": (
        lambda: mj.Geometric(2.0, 1.0),
        ValueError,
        r"`beta_max` must be at least `beta_min`.*got 1",
    ),
    "beta NaN": (lambda: mj.Geometric(np.nan, 1.0), ValueError, r"`beta_min` must be finite"),
    "factor one": (lambda: mj.Geometric(1.0, 2.0, 1.0), ValueError, r"`factor` must be > 1; got 1"),
    "beta text": (
        lambda: mj.Geometric("low", 1.0),
        TypeError,
        r"`beta_min` must be a number; got 'low'",
    ),
    "beta vector": (
        lambda: mj.Geometric([1.0, 2.0], 3.0),
        ValueError,
        r"must be a scalar.*jax.vmap",
    ),
    "linear falls": (lambda: mj.Linear(2.0, 1.0, 0.1), ValueError, r"`beta_max` must be at least"),
    "linear step": (lambda: mj.Linear(1.0, 2.0, 0.0), ValueError, r"`step` must be > 0; got 0"),
    "explicit order": (
        lambda: mj.Explicit([1.0, 3.0, 2.0]),
        ValueError,
        r"`betas` must increase; got a step of -1",
    ),
    "explicit empty": (
        lambda: mj.Explicit([]),
        ValueError,
        r"non-empty 1-D array; got shape \(0,\)",
    ),
    "explicit sign": (lambda: mj.Explicit([-1.0, 2.0]), ValueError, r"`betas` must be > 0; got -1"),
    "jump": (lambda: mj.CriticalJump(max_factor=1.0), ValueError, r"`max_factor` must be > 1"),
    "easing": (
        lambda: mj.CriticalJump(easing=1.0),
        ValueError,
        r"`easing` must be > 1 or inf",
    ),
    "jump order": (lambda: mj.CriticalJump(3.0, 2.0), ValueError, r"`beta_max` must be at least"),
    "stages": (
        lambda: mj.Geometric(1.0, 2.0, max_stages=0),
        ValueError,
        r"`max_stages` must be a positive int; got 0",
    ),
    "int key": (
        lambda: mj.anneal(mj.Clustering(X, 2), key=0),
        TypeError,
        r"must be a JAX random key.*got int 0.*jax.random.key\(0\)",
    ),
    "no problem": (lambda: mj.anneal(X, key=KEY), TypeError, r"`problem` must be a mepjax.Problem"),
    "schedule kind": (
        lambda: mj.anneal(mj.Clustering(X, 2), [1.0, 2.0], key=KEY),
        TypeError,
        r"`schedule` must be a Schedule instance; got list",
    ),
    "solver class": (
        lambda: mj.anneal(mj.Clustering(X, 2), key=KEY, solver=mj.Anderson),
        TypeError,
        r"`solver` must be a Solver instance",
    ),
    "init shape": (
        lambda: mj.anneal(mj.Clustering(X, 2), key=KEY, init=np.zeros((3, 2))),
        ValueError,
        r"`init` must have the shape of params, \(2, 2\); got \(3, 2\)",
    ),
    "jump without detector": (
        lambda: mj.anneal(
            mj.Clustering(X, 2), mj.CriticalJump(), key=KEY, detector=mj.NoDetector()
        ),
        ValueError,
        r"`schedule` CriticalJump asks the detector",
    ),
    "on_failure": (
        lambda: mj.Implicit(on_failure="raise"),
        ValueError,
        r"`on_failure` must be one of \('nan', 'zero', 'pass'\); got 'raise'",
    ),
    "evaluate shape": (
        lambda: mj.Clustering(X, 2).evaluate(np.zeros((3, 2))),
        ValueError,
        r"`params` must have shape \(2, 2\); got \(3, 2\)",
    ),
    "envelope on frozen": (
        lambda: mj.anneal(
            mj.Clustering(X, 2, autonomy=mj.autonomy.Softmax(0.1), stationarity="frozen"),
            mj.Explicit([0.1]),
            key=KEY,
            adjoint=mj.Envelope(),
        ),
        ValueError,
        r"Envelope: Clustering.*envelope theorem does not hold",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_named(name):
    call, error, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        call()


def test_closure_over_a_traced_value_is_refused():
    def loss(strength):
        return mj.autonomy.Function(lambda x, y: strength * jnp.eye(2)).block * strength

    with pytest.raises(TypeError, match="captures a traced value"):
        jax.grad(loss)(1.0)


def test_function_of_the_wrong_shape_is_refused():
    problem = mj.Clustering(X, 2, autonomy=lambda x, y: jnp.eye(3))
    with pytest.raises(ValueError, match=r"must return shape \(2, 2\) for k=2; got \(3, 3\)"):
        problem.free_energy(jnp.zeros((2, 2)), 1.0)


@jax.jit
def _solve_traced(kappa, temperature, beta_min, factor):
    model = mj.autonomy.Softmax(kappa, temperature=temperature)
    problem = mj.Clustering(X, 2, autonomy=model)
    schedule = mj.Geometric(beta_min, 0.1, factor, max_stages=8)
    return mj.anneal(problem, schedule, key=KEY)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kappa": 1.5}, r"Softmax: `kappa` must be in \[0, 1\]; got 1.5"),
        ({"temperature": -1.0}, "Softmax: `temperature` must be > 0; got -1"),
        ({"beta_min": -2.0}, "Geometric: `beta_min` must be > 0; got -2"),
        ({"factor": 0.5}, "Geometric: `factor` must be > 1; got 0.5"),
    ],
)
def test_traced_mistakes_say_the_same_sentence_on_the_host(change, sentence):
    values = {"kappa": 0.1, "temperature": 1.0, "beta_min": 0.01, "factor": 2.0}
    _solve_traced(**values).raise_if_failed()
    solution = _solve_traced(**values | change)
    assert int(solution.code) == Code.INVALID_INPUT
    with pytest.raises(ValueError, match=sentence):
        solution.raise_if_failed()


def test_more_stages_than_fit_is_max_steps():
    problem = mj.Clustering(X, 2)
    solution = mj.anneal(problem, mj.Geometric(0.01, 1.0, 1.1, max_stages=5), key=KEY)
    assert int(solution.code) == Code.MAX_STEPS
    assert int(solution.n_stages) == 5
    with pytest.raises(mj.SolveError, match="max_stages"):
        solution.raise_if_failed()


def test_raise_if_failed_inside_jit_is_explained():
    problem = mj.Clustering(X, 2)
    with pytest.raises(TypeError, match="must be called outside"):
        eqx.filter_jit(lambda p: mj.anneal(p, mj.Explicit([0.01]), key=KEY).raise_if_failed())(
            problem
        )


def test_float64_without_x64_warns_once_per_array():
    with jax.enable_x64(False):
        with pytest.warns(mj.PrecisionWarning, match="`x` is float64") as caught:
            problem = mj.Clustering(X, 2)
        assert len(caught) == 1
        assert problem.x.dtype == np.float32


def test_integers_become_the_default_float():
    problem = mj.Clustering(np.arange(12).reshape(6, 2), 2, weights=[1, 2, 3, 4, 5, 6])
    assert problem.x.dtype == problem.weights.dtype == np.float64


def test_legacy_keys_are_accepted():
    problem = mj.Clustering(X, 2)
    schedule = mj.Explicit([0.01])
    legacy = mj.anneal(problem, schedule, key=jax.random.PRNGKey(0))
    typed = mj.anneal(problem, schedule, key=jax.random.key(0))
    np.testing.assert_array_equal(legacy.params, typed.params)


def test_every_code_has_a_full_sentence():
    for code in Code:
        assert code.message.endswith(".")
        assert len(code.message.split()) >= 3


@pytest.mark.parametrize("model", [mj.autonomy.Matrix, lambda p: mj.autonomy.Dense(p[None])])
def test_tables_in_single_precision_serve_data_of_either(model):
    rows = np.random.default_rng(0).dirichlet(np.ones(3), 3).astype(np.float32)
    assert np.abs(rows.astype(np.float64).sum(axis=1) - 1).max() > 1e-8
    for dtype in (np.float32, np.float64):
        problem = mj.Clustering(X[:1].astype(dtype), 3, autonomy=model(rows))
        autonomy = problem.autonomy
        assert isinstance(autonomy, mj.autonomy.Matrix | mj.autonomy.Dense)
        assert autonomy.p.dtype == dtype
        np.testing.assert_allclose(autonomy.p.reshape(3, 3), rows, atol=1e-7)
    with pytest.raises(ValueError, match="rows of `p` must sum to one"):
        model(np.float32(0.9) * rows)
