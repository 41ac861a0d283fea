"""Sparse regression against exhaustion, closed forms and finite differences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mepjax.select import ebic, sparse_marginal_return, sparse_path


def instance(seed, r=20, n=12, k=3, noise=0.1):
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(r, n))
    truth = np.zeros(n)
    truth[rng.choice(n, k, replace=False)] = rng.choice([-1, 1], k) * rng.uniform(1, 2, k)
    return design, design @ truth + noise * rng.normal(size=r), truth


def best_subset(design, response, size):
    """By exhaustion."""
    found = np.inf, ()
    for support in itertools.combinations(range(design.shape[1]), size):
        a = design[:, support]
        left = response - a @ np.linalg.lstsq(a, response, rcond=None)[0]
        found = min(found, (left @ left, support))
    return found


def test_the_path_is_the_best_subset():
    same, total = 0, 0
    for seed in range(5):
        design, response, _ = instance(seed, noise=1.0)
        path = sparse_path(design, response, 5)
        for size in range(1, 6):
            least, support = best_subset(design, response, size)
            got = path.residual_sums[size - 1]
            assert got >= least * (1 - 1e-9)
            total += 1
            same += tuple(np.array(path.supports[size - 1, :size])) == support
            if size == 1:
                np.testing.assert_allclose(got, least, rtol=1e-9)
    assert same >= 0.95 * total


def test_other_data_are_solved_by_the_same_program():
    """What is static in it must not tell one design from another."""
    first, second = (sparse_path(*instance(seed)[:2], 4) for seed in (1, 2))
    assert jax.tree.structure(first) == jax.tree.structure(second)


def test_coefficients_are_those_of_least_squares():
    design, response, _ = instance(1)
    path = sparse_path(design, response, 4)
    for size in range(1, 5):
        support = np.array(path.supports[size - 1, :size])
        expected = np.linalg.lstsq(design[:, support], response, rcond=None)[0]
        np.testing.assert_allclose(path.coefficients[size - 1, :size], expected, rtol=1e-10)
        left = response - design @ np.asarray(path.dense(size))
        np.testing.assert_allclose(path.residual_sums[size - 1], left @ left, rtol=1e-9)
        assert (np.array(path.supports[size - 1, size:]) == -1).all()


def test_an_orthonormal_design_in_closed_form():
    y = np.random.default_rng(0).normal(size=12)
    order = np.argsort(-np.abs(y))
    with pytest.warns(UserWarning, match="more than a third of 12"):
        path = sparse_path(np.eye(12), y, 6)
    for size in range(1, 7):
        np.testing.assert_array_equal(path.supports[size - 1, :size], np.sort(order[:size]))
        np.testing.assert_allclose(path.residual_sums[size - 1], np.sum(y[order[size:]] ** 2))
    report = sparse_marginal_return(np.eye(12), y, path)
    for size in range(1, 7):
        tail = y[order[size:]]
        np.testing.assert_allclose(report.critical[size - 1], 2 * np.var(tail), rtol=1e-9)
        assert report.culprit[size - 1] == order[size]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_finds_what_there_is_without_being_told_how_many(dtype):
    right = 0
    for seed in range(4):
        design, response, truth = instance(seed, r=60, n=200, k=5, noise=0.0)
        path = sparse_path(design.astype(dtype), response.astype(dtype), 15)
        size = int(np.argmin(ebic(path, 60, 200)))
        support = np.array(path.supports[size - 1, :size])
        right += set(support) == set(np.flatnonzero(truth))
        report = sparse_marginal_return(design.astype(dtype), response.astype(dtype), path)
        assert report.best == 5
    assert right == 4


@pytest.mark.slow
def test_columns_that_are_taken_wrongly_at_first_are_mended():
    """Twelve signs of 1,000 columns: forward and back alone end with three of the twelve."""
    rng = np.random.default_rng(107)
    design, support = rng.normal(size=(100, 1000)), rng.choice(1000, 12, replace=False)
    response = design[:, support] @ rng.choice([-1.0, 1.0], 12)
    path = sparse_path(design.astype(np.float32), response.astype(np.float32), 24)
    np.testing.assert_array_equal(path.supports[11, :12], np.sort(support))
    assert np.argmin(ebic(path, 100, 1000)) == 12


def test_batches_are_those_of_a_loop():
    pairs = [instance(seed)[:2] for seed in range(3)]
    designs, responses = (jnp.stack([jnp.asarray(p[i]) for p in pairs]) for i in range(2))
    both = jax.jit(jax.vmap(lambda a, y: sparse_path(a, y, 4)))(designs, responses)
    for lane, (design, response) in enumerate(pairs):
        one = sparse_path(design, response, 4)
        np.testing.assert_array_equal(both.supports[lane], one.supports)
        np.testing.assert_allclose(both.coefficients[lane], one.coefficients, rtol=1e-9)


def test_gradients_given_the_support():
    design, response, _ = instance(2)
    rng = np.random.default_rng(3)
    d_design, d_response = rng.normal(size=design.shape), rng.normal(size=response.shape)

    def read(step):
        path = sparse_path(
            jnp.asarray(design) + step * d_design, jnp.asarray(response) + step * d_response, 3
        )
        return jnp.sum(path.coefficients[2] * jnp.arange(1.0, 4.0)) + path.residual_sums[1]

    exact, fine = jax.grad(read)(0.0), (read(1e-6) - read(-1e-6)) / 2e-6
    np.testing.assert_allclose(exact, fine, rtol=1e-6)


def test_duplicates_are_named_and_dependent_columns_end_the_path():
    design, response, _ = instance(0, n=6)
    design[:, 4] = -2 * design[:, 1]
    path = sparse_path(design, response, 6)
    np.testing.assert_array_equal(path.duplicates, [False, True, False, False, True, False])
    np.testing.assert_array_equal(path.alike, [0, 1, 2, 3, 1, 5])
    for size in range(1, 6):
        named = set(np.array(path.supports[size - 1, :size]).tolist())
        expected = named | ({1, 4} if named & {1, 4} else set())
        assert set(np.flatnonzero(path.union(size))) == expected
    assert path.n_sizes == 5
    assert np.all(np.isinf(ebic(path, 20, 6)[6:]))
    assert np.all(np.isfinite(path.coefficients))


@pytest.mark.parametrize("apart", [0.3, 0.1, 0.03])
def test_columns_that_are_nearly_alike_in_float32(apart):
    """Sizes, supports and coefficients are those of float64, whatever the largest size."""
    design, _, _ = instance(0, r=60, n=12)
    design[:, 1] = design[:, 0] + apart * design[:, 1]
    design[:, 2] = design[:, 3] - apart * design[:, 2]
    response = 3 * design[:, 0] - 3 * design[:, 1] + 2 * design[:, 2] - design[:, 3]
    response = response + design[:, 5] + 0.1 * design[:, 6]
    for most in (6, 12):
        wide = sparse_path(design, response, most)
        narrow = sparse_path(design.astype(np.float32), response.astype(np.float32), most)
        assert narrow.n_sizes == wide.n_sizes == most
        np.testing.assert_array_equal(narrow.supports[5], wide.supports[5])
        np.testing.assert_allclose(
            narrow.coefficients[5], wide.coefficients[5], rtol=1e-5 / apart, atol=1e-5
        )


def test_the_spare_atom_by_the_categorical_hessian():
    """A delocalised column on the hard solution: its twin criterion against T_m, to O(x^2)."""
    design, response, _ = instance(4, r=30, n=10)
    design = design / np.linalg.norm(design, axis=0)
    report = sparse_marginal_return(design, response, sparse_path(design, response, 3))
    for size in range(1, 4):
        support = np.array(sparse_path(design, response, 3).supports[size - 1, :size])
        a = design[:, support]
        left = response - a @ np.linalg.lstsq(a, response, rcond=None)[0]
        outside = np.setdiff1d(np.arange(10), support)
        g = design[:, outside].T @ left
        expected = 2 * np.var(g) / np.mean(np.sum(design[:, outside] ** 2, axis=0))
        np.testing.assert_allclose(report.critical[size - 1], expected, rtol=1e-9)


def bernoulli_critical(design, left, q, x):
    """(7.15) as corrected, at one column q of entries that may be nearly hard, by its definition.

    The largest eigenvalue of 2 (g g^T / Theta + x^2 diag(lam)) relative to diag(1/q + 1/(1 - q)) on
    changes that keep the sum.
    """
    lam = np.sum(design**2, axis=0)
    rest = np.array([np.sum(np.delete(q, i)) for i in range(len(q))])
    g = design.T @ left - x * lam * (rest - q)
    gamma = np.outer(g, g) / np.sum(lam * q * rest) + x**2 * np.diag(lam)
    kept = np.linalg.svd(np.ones((1, len(q))))[2][1:]
    curvature = kept @ np.diag(1 / q + 1 / rest) @ kept.T
    return np.linalg.eigvals(np.linalg.solve(curvature, 2 * kept @ gamma @ kept.T)).real.max()


def test_the_literal_index_is_the_limit_of_placements_that_harden_evenly():
    design, response, truth = instance(4, r=30, n=10)
    design = design / np.linalg.norm(design, axis=0)
    path = sparse_path(design, response, 4)
    report = sparse_marginal_return(design, response, path, literal=True)
    for size in range(1, 5):
        support = np.array(path.supports[size - 1, :size])
        x = np.linalg.lstsq(design[:, support], response, rcond=None)[0]
        left = response - design[:, support] @ x
        found = []
        for place, amount in zip(support, x, strict=True):
            q = np.full(10, 1e-7 / 9)
            q[place] = 1 - 1e-7
            found.append(bernoulli_critical(design, left, q, amount))
        np.testing.assert_allclose(report.critical[size - 1], max(found), rtol=1e-5)
        assert report.culprit[size - 1] == support[np.argmax(found)]
    assert "literal" in str(report) and report.kind == "sparse, literal"


def test_the_literal_index_does_not_move_at_the_right_size():
    """It follows the largest coefficient, where the spare atom's falls at the last true column."""
    literal, spare = 0, 0
    for seed in range(4):
        design, response, _ = instance(seed, r=60, n=200, k=5, noise=0.0)
        path = sparse_path(design, response, 15)
        rows = {size: np.array(path.supports[size - 1, :size]) for size in range(1, 8)}
        spare += int(sparse_marginal_return(design, response, rows).best) == 5
        order = sparse_marginal_return(design, response, rows, literal=True)
        literal += int(order.best) == 5
        assert abs(float(order.returns[4])) < 1
    assert spare == 4 and literal <= 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"design": np.ones(3)}, "`design` must be 2-D"),
        ({"response": np.ones(4)}, "`response` must have shape"),
        ({"design": np.full((20, 12), np.nan)}, "`design` must be finite"),
        ({"design": np.eye(20)[:, :12] * (np.arange(12) != 3)}, "column 3 has"),
        ({"max_size": 13}, "at most min"),
        ({"max_size": 0}, "`max_size` must be at least 1"),
    ],
)
def test_bad_input_is_named(change, message):
    design, response, _ = instance(0)
    options = {"design": design, "response": response, "max_size": 3} | change
    with pytest.raises(ValueError, match=message):
        sparse_path(**options)


@pytest.mark.parametrize("solutions", [{1: [0], 3: [0, 1, 2]}, {1: [0], 2: [1, 1]}, {1: [99]}])
def test_solutions_that_are_none_are_refused(solutions):
    design, response, _ = instance(0)
    with pytest.raises(ValueError, match="1, 2, 3|different columns"):
        sparse_marginal_return(design, response, solutions)


@pytest.mark.parametrize(
    ("wrong", "sentence"), [(0.0, "a column has the sum of squares 0"), (np.nan, "must be finite")]
)
def test_columns_that_are_none_give_no_numbers_where_they_are_traced(wrong, sentence):
    design, response, _ = instance(0)
    # A column that no support names.
    bad = jnp.asarray(design).at[:, 11].multiply(wrong)
    run = jax.jit(lambda design: sparse_path(design, response, 3))
    path = run(bad)
    assert int(path.n_sizes) == 0 and np.isnan(path.total)
    assert np.all(np.isnan(path.coefficients)) and np.all(np.isnan(path.residual_sums))
    with pytest.raises(ValueError, match=sentence):
        path.raise_if_failed()
    good = run(jnp.asarray(design)).raise_if_failed()
    assert int(good.n_sizes) == 3 and int(good.code) == 0


def test_the_return_of_traced_data_is_refused_by_name():
    design, response, _ = instance(0)
    with pytest.raises(TypeError, match="sparse_marginal_return looks at supports"):
        jax.vmap(lambda y: sparse_marginal_return(design, y).best)(jnp.stack([response] * 2))
