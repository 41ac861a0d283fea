"""What must hold of counts, whatever the data: by hypothesis, on few shapes."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mepjax.select import marginal_return, persistence, sparse_marginal_return, sparse_path
from mepjax.select.model_order import model_order

KEY = jax.random.key(0)
SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=20, deadline=None, derandomize=True)


def nested(rng, n, most):
    """Labels of 1 .. most groups, each with a member, under names that mean nothing."""
    rows = {}
    for size in range(1, most + 1):
        labels = np.concatenate([np.arange(size), rng.integers(0, size, n - size)])
        rows[size] = rng.permutation(size)[rng.permutation(labels)]
    return rows


@given(SEEDS, st.floats(-20, 20), st.floats(-1e3, 1e3))
@FEW
def test_returns_do_not_depend_on_units_places_names_or_order(seed, log_scale, shift):
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(12, 2)), nested(rng, 12, 4)
    order = rng.permutation(12)
    moved = np.exp(log_scale / 4) * x[order] + shift
    renamed = {size: rng.permutation(size)[row[order]] for size, row in labels.items()}
    first = persistence(x, labels, references=0, key=KEY)
    other = persistence(moved, renamed, references=0, key=KEY)
    np.testing.assert_allclose(other.returns[1:], first.returns[1:], atol=1e-5)
    assert np.all(np.asarray(first.critical) > 0)
    # A group's scatter is at most that of all.
    assert np.all(np.asarray(first.critical) <= first.critical[0] * (1 + 1e-9))


@given(SEEDS)
@FEW
def test_temperatures_of_chains_are_within_0_and_1_and_those_of_its_states_in_any_order(seed):
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(8, 0.3), 8) * 0.98 + 0.02 / 8
    labels, order = nested(rng, 8, 4), rng.permutation(8)
    first = marginal_return(rows, labels, mass=False)
    assert np.all(np.asarray(first.critical) <= 1 + 1e-12)
    again = {size: rng.permutation(size)[row[order]] for size, row in labels.items()}
    other = marginal_return(rows[np.ix_(order, order)], again, mass=False)
    np.testing.assert_allclose(other.critical, first.critical, atol=1e-10)
    by_mass = marginal_return(rows, labels)
    assert np.all(np.asarray(by_mass.critical) <= np.asarray(first.critical) + 1e-12)


@given(SEEDS, st.floats(-10, 10))
@FEW
def test_paths_fall_and_scale(seed, log_scale):
    rng = np.random.default_rng(seed)
    design, response = rng.normal(size=(12, 6)), rng.normal(size=12)
    path = sparse_path(design, response, 4)
    sums = np.concatenate([[path.total], path.residual_sums])
    assert int(path.n_sizes) == 4 and np.all(np.diff(sums) <= 1e-12 * sums[0])
    factor, order = np.exp(log_scale), rng.permutation(6)
    lengths = np.exp(rng.uniform(-2, 2, 6))
    other = sparse_path((design * lengths)[:, order], factor * response, 4)
    np.testing.assert_allclose(other.residual_sums, factor**2 * np.asarray(path.residual_sums))
    for size in range(1, 5):
        named = order[np.asarray(other.supports[size - 1, :size])]
        np.testing.assert_array_equal(np.sort(named), path.supports[size - 1, :size])
    # Lengths matter to the index, units and order do not.
    first = sparse_marginal_return(design, response, path)
    moved = sparse_marginal_return(
        design[:, order], factor * response,
        {size: np.argsort(order)[np.asarray(path.supports[size - 1, :size])]
         for size in range(1, 5)},
    )  # fmt: skip
    np.testing.assert_allclose(moved.returns[1:], first.returns[1:], rtol=1e-6, atol=1e-9)


@given(st.lists(st.floats(1e-12, 1e12), min_size=3, max_size=3))
@FEW
def test_the_best_has_the_largest_return_and_returns_add_up(critical):
    order = model_order("scatter", range(1, 4), jnp.asarray(critical))
    returns = np.asarray(order.returns)
    if int(order.resolved):
        assert int(order.best) == int(order.resolved)
        return
    best = int(order.best)
    assert returns[best - 1] == np.nanmax(returns) and best > 1
    np.testing.assert_allclose(np.sum(returns[1:]), np.log(critical[0] / critical[2]), atol=1e-9)
    assert set(order.negative) == {size for size in (2, 3) if returns[size - 1] < 0}
