"""Networks for average costs: sizes, start, symmetries, gradients, and what is refused."""

import functools
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mepjax import learn

RNG = np.random.default_rng(3)
# A test's own arrays are made in it: outside, doubles are cut to float32.
X: Any = RNG.normal(size=(6, 2))
Y: Any = RNG.normal(size=(3, 2))
SMALL: dict[str, Any] = {
    "width": 8,
    "blocks": 1,
    "heads": 2,
    "feedforward": 16,
    "dtype": jnp.float64,
}


def _size(network):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))


def _squares(x, y):
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(axis=-1)


def _moved(network, scale=0.5):
    """The same network away from its start."""
    graph, state = nnx.split(network)
    leaves, structure = jax.tree.flatten(state)
    rng = np.random.default_rng(0)
    moved = [leaf + scale * rng.normal(size=leaf.shape).astype(leaf.dtype) for leaf in leaves]
    return nnx.merge(graph, jax.tree.unflatten(structure, moved))


def _ask(network: Any, x: Any, y: Any, **options: Any) -> Any:
    return network(jnp.asarray(x), jnp.asarray(y), **options)


@functools.cache
def _networks() -> dict[str, Any]:
    aden = learn.ADEN(2, centre_blocks=1, head=(8,), rngs=0, **SMALL)
    mlp = learn.MLP(2, width=8, head=(8, 8), dtype=jnp.float64, rngs=0)
    return {"aden": _moved(aden), "mlp": _moved(mlp)}


@pytest.fixture
def networks():
    return _networks()


def test_presets_have_the_published_numbers_of_parameters():
    paper, released = (nnx.eval_shape(lambda make=make: make(2, rngs=0)) for make in (
        learn.ADEN.paper, learn.ADEN.released))  # fmt: skip
    assert (_size(paper), _size(released)) == (150_914, 143_874)


def test_a_new_network_says_the_base_cost():
    for network in (
        learn.ADEN(2, centre_blocks=1, head=(8, 4), rngs=0, norm="pre", **SMALL),
        learn.MLP(2, width=8, head=(8,), dtype=jnp.float64, rngs=0),
    ):
        np.testing.assert_allclose(_ask(network, X, Y), _squares(X, Y), atol=1e-12)
    halves = learn.MLP(2, width=8, base=lambda x, y: 0.5 * _squares(x, y), rngs=0)
    np.testing.assert_allclose(_ask(halves, X, Y), 0.5 * _squares(X, Y), atol=1e-6)
    none = _ask(learn.MLP(2, width=8, base=None, rngs=0), X, Y)
    np.testing.assert_allclose(none, np.log(2), rtol=1e-6)


@pytest.mark.parametrize("name", ["aden", "mlp"])
def test_symmetries_numbers_and_gradients(networks, name):
    network = networks[name]

    @jax.jit
    def said(x, y):
        return network(x, y, clipped=False)

    found = np.asarray(said(X, Y))
    assert np.abs(found - _squares(X, Y)).max() > 0.1
    rows, columns = RNG.permutation(6), RNG.permutation(3)
    np.testing.assert_allclose(said(X[rows], Y[columns]), found[rows][:, columns], atol=1e-10)
    # One set of parameters for other numbers of entities and centres, and for leading axes.
    both = _ask(network, np.stack([X, X[rows]]), np.stack([Y, Y]), clipped=False)
    np.testing.assert_allclose(both, [found, found[rows]], atol=1e-10)
    np.testing.assert_allclose(_ask(network, X, Y), np.maximum(found, 0), atol=1e-10)
    assert _ask(network, X[:2], RNG.normal(size=(5, 2))).shape == (2, 5)

    # Another centre is seen in the cost of this one, which is what carries the autonomy.
    weights = RNG.normal(size=(6, 3))
    value = jax.jit(lambda y: jnp.sum(weights * said(X, y)))
    slope = np.asarray(jax.jit(jax.grad(value))(jnp.asarray(Y)))
    for place in np.ndindex(3, 2):
        step = np.zeros((3, 2))
        step[place] = 1e-5
        difference = (value(Y + step) - value(Y - step)) / 2e-5
        np.testing.assert_allclose(slope[place], difference, rtol=1e-6, atol=1e-6)
    moved = Y + np.array([[0, 0], [0, 0], [0.3, 0.2]])
    assert np.abs(said(X, moved)[:, 0] - found[:, 0]).max() > 1e-4


def test_the_factored_head_is_the_concatenated_one(networks):
    head = networks["aden"].head
    e, c = RNG.normal(size=(6, 1, 8)), RNG.normal(size=(1, 3, 8))
    pairs = np.concatenate([np.broadcast_to(e, (6, 3, 8)), np.broadcast_to(c, (6, 3, 8))], -1)
    weight = np.concatenate([np.asarray(part[...]) for part in head.first])
    hidden = jax.nn.gelu(pairs @ weight + np.asarray(head.bias[...]))
    expected = hidden @ np.asarray(head.last.kernel[...]) + np.asarray(head.last.bias[...])
    np.testing.assert_allclose(head(jnp.asarray(e), jnp.asarray(c)), expected[..., 0], atol=1e-12)


def test_costs_are_no_reward_and_keep_a_slope_while_learning():
    base = learn.MLP(2, width=8, base=lambda x, y: -1 + 0 * _squares(x, y), rngs=0)
    assert np.all(np.asarray(_ask(base, X, Y)) == 0)
    np.testing.assert_allclose(_ask(base, X, Y, clipped=False), -0.01, rtol=1e-5)


def test_dropout_is_off_without_a_key():
    network = _moved(learn.ADEN(2, head=(8,), dropout=0.5, rngs=0, **SMALL))
    said = _ask(network, X, Y)
    np.testing.assert_array_equal(said, _ask(network, X, Y))
    first, second = (_ask(network, X, Y, key=jax.random.key(seed)) for seed in (0, 1))
    assert np.abs(first - said).max() > 1e-3 and np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": 3}, "`heads` must divide `width`; got 3 and 8"),
        ({"blocks": -1}, "`blocks` must be an int >= 0; got -1"),
        ({"head": ()}, "`head` must be a sequence of sizes"),
        ({"base": "manhattan"}, "`base` must be 'sqeuclidean', None or a function"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\)"),
        ({"norm": "both"}, "`norm` must be 'post' or 'pre'"),
    ],
)
def test_impossible_networks_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        learn.ADEN(2, rngs=0, **(SMALL | options))


def test_other_features_are_refused(networks):
    with pytest.raises(ValueError, match=r"the network has 2 features; got \(6, 3\)"):
        _ask(networks["aden"], np.zeros((6, 3)), np.zeros((3, 3)))


def test_the_room_opens_without_flax():
    code = "import sys, mepjax.learn; print({'flax', 'optax', 'orbax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert {"ADEN", "MLP"} <= set(learn.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = learn.Nothing  # pyright: ignore[reportAttributeAccessIssue]
