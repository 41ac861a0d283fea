"""The network that estimates average costs from entities and all centres."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ..._core.distances import squared_euclidean

_OWNER = "ADEN"
# Slope of what would be negative while learning: a plain ReLU has none, and dies where the head is
# large against the base.
_LEAK = 0.01

Base = Callable[[Array, Array], Array]


class Block(nnx.Module):
    """Attention of queries to keys and a feed-forward part, each with its residual and norm."""

    def __init__(
        self,
        width: int,
        heads: int,
        feedforward: int,
        *,
        qkv_bias: bool,
        norm: str,
        dropout: float,
        dtype: Any,
        precision: Any,
        rngs: nnx.Rngs,
    ) -> None:
        linear = {
            "kernel_init": nnx.initializers.xavier_uniform(), "param_dtype": dtype,
            "precision": precision, "rngs": rngs,
        }  # fmt: skip
        self.attention = nnx.MultiHeadAttention(
            heads, width, decode=False, use_bias=qkv_bias, keep_rngs=False,
            attention_fn=_attention, **linear,
        )  # fmt: skip
        if not qkv_bias:
            self.attention.out = nnx.LinearGeneral((heads, width // heads), width, axis=(-2, -1),
                                                   **linear)  # fmt: skip
        self.norm_attention = nnx.LayerNorm(width, param_dtype=dtype, rngs=rngs)
        self.norm_feedforward = nnx.LayerNorm(width, param_dtype=dtype, rngs=rngs)
        self.expand = nnx.Linear(width, feedforward, **linear)
        self.contract = nnx.Linear(feedforward, width, **linear)
        self.dropout = nnx.Dropout(dropout)
        self.first = norm == "pre"

    def __call__(self, queries: Array, keys: Array | None, key: Any) -> Array:
        """Queries after one block; keys of `None` are the queries themselves."""
        seen = self.norm_attention(queries) if self.first else queries
        found = self.attention(seen, seen if keys is None else keys, deterministic=True)
        found = queries + _dropped(self.dropout, found, key, 0)
        if not self.first:
            found = self.norm_attention(found)
        seen = self.norm_feedforward(found) if self.first else found
        more = in_rows(lambda a: self.contract(jax.nn.gelu(self.expand(a))), seen)
        found = found + _dropped(self.dropout, more, key, 1)
        return found if self.first else self.norm_feedforward(found)


def in_rows(layer: Callable[[Array], Array], value: Array) -> Array:
    """A layer on the last axis, of one matrix: gradients that sum over several axes are slow."""
    found = layer(value.reshape(-1, value.shape[-1]))
    return found.reshape(*value.shape[:-1], found.shape[-1])


def _attention(query: Array, key: Array, value: Array, *, precision: Any, **_: Any) -> Array:
    """In the precision of its arguments: flax's own, without dropout, is JAX's in float32."""
    logits = jnp.einsum("...qhd,...khd->...hqk", query, key, precision=precision)
    weights = jax.nn.softmax(logits / math.sqrt(query.shape[-1]), axis=-1)
    return jnp.einsum("...hqk,...khd->...qhd", weights, value, precision=precision)


def _dropped(dropout: nnx.Dropout, value: Array, key: Any, number: int) -> Array:
    """With dropout where there is a key."""
    if key is None or dropout.rate == 0:
        return value
    return dropout(value, deterministic=False, rngs=jax.random.fold_in(key, number))


class PairHead(nnx.Module):
    """A number for every pair of an entity's and a centre's embedding, zero at the start.

    The first layer of the two embeddings side by side is a sum of two products: nothing of twice
    the width is formed for each pair.
    """

    def __init__(
        self,
        width: int,
        hidden: Sequence[int],
        *,
        dropout: float,
        dtype: Any,
        precision: Any,
        rngs: nnx.Rngs,
        parts: int = 2,
    ) -> None:
        xavier = nnx.initializers.xavier_uniform()
        whole = xavier(rngs.params(), (parts * width, hidden[0]), dtype)
        self.first = nnx.List(
            [nnx.Param(whole[part * width : (part + 1) * width]) for part in range(parts)]
        )
        self.bias = nnx.Param(jnp.zeros((hidden[0],), dtype))
        linear = {"param_dtype": dtype, "precision": precision, "rngs": rngs}
        sizes = [*hidden, 1]
        inner = zip(sizes[:-2], sizes[1:-1], strict=True)
        self.inner = nnx.List([nnx.Linear(a, b, kernel_init=xavier, **linear) for a, b in inner])
        self.last = nnx.Linear(sizes[-2], 1, kernel_init=nnx.initializers.zeros_init(), **linear)
        self.dropout = nnx.Dropout(dropout)
        self.precision = precision

    def __call__(self, *parts: Array, key: Any = None) -> Array:
        """Of parts that broadcast against each other but for their last axis."""
        products = [
            in_rows(lambda a, w=weight: jnp.matmul(a, w[...], precision=self.precision), part)
            for part, weight in zip(parts, self.first, strict=True)
        ]
        value = jax.nn.gelu(sum(products[1:], products[0]) + self.bias[...])
        value = _dropped(self.dropout, value, key, 0)
        for number, layer in enumerate(self.inner, 1):
            value = _dropped(self.dropout, jax.nn.gelu(in_rows(layer, value)), key, number)
        return in_rows(self.last, value)[..., 0]


class CostNetwork(nnx.Module):
    """What every network of this room shares: a base cost, a head, and costs that are no reward."""

    def _finish(
        self, deviation: Array, x: Array, centres: Array, clipped: bool, base: str | Base | None
    ) -> Array:
        """Base plus deviation, not negative; while learning with a slope everywhere."""
        if base is None:
            return jax.nn.softplus(deviation)
        plain = squared_distances(x, centres) if isinstance(base, str) else base(x, centres)
        found = plain + deviation
        return jnp.maximum(found, 0) if clipped else jax.nn.leaky_relu(found, _LEAK)


def squared_distances(x: Float[Array, "... s d"], y: Float[Array, "... k d"]) -> Array:
    """|x_i - y_j|^2, with any leading axes."""
    shape = jnp.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    if not shape:
        return squared_euclidean(x, y)
    x = jnp.broadcast_to(x, (*shape, *x.shape[-2:])).reshape(-1, *x.shape[-2:])
    y = jnp.broadcast_to(y, (*shape, *y.shape[-2:])).reshape(-1, *y.shape[-2:])
    found = jax.vmap(squared_euclidean)(x, y)
    return found.reshape(*shape, *found.shape[-2:])


def check_options(owner: str, **options: Any) -> None:
    """Raise for sizes that no network can have."""
    for name in ("features", "width", "heads", "feedforward"):
        value = options.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{owner}: `{name}` must be an int >= 1; got {value!r}.")
    for name in ("blocks", "centre_blocks"):
        value = options.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{owner}: `{name}` must be an int >= 0; got {value!r}.")
    width, heads = options.get("width", 1), options.get("heads", 1)
    if width % heads:
        raise ValueError(f"{owner}: `heads` must divide `width`; got {heads} and {width}.")
    head = options.get("head", (1,))
    if not isinstance(head, Sequence) or not head or not all(
        isinstance(size, int) and size >= 1 for size in head
    ):  # fmt: skip
        raise ValueError(f"{owner}: `head` must be a sequence of sizes >= 1; got {head!r}.")
    base = options.get("base", "sqeuclidean")
    if not (base is None or base == "sqeuclidean" or callable(base)):
        raise ValueError(
            f"{owner}: `base` must be 'sqeuclidean', None or a function; got {base!r:.60}."
        )
    dropout = options.get("dropout", 0.0)
    if not 0 <= dropout < 1:
        raise ValueError(f"{owner}: `dropout` must be in [0, 1); got {dropout!r}.")
    norm = options.get("norm", "post")
    if norm not in ("post", "pre"):
        raise ValueError(f"{owner}: `norm` must be 'post' or 'pre'; got {norm!r}.")


def check_inputs(owner: str, features: int, x: Array, centres: Array) -> None:
    """Raise `ValueError` for data of other features than the network's."""
    if x.ndim < 2 or centres.ndim < 2 or {x.shape[-1], centres.shape[-1]} != {features}:
        raise ValueError(
            f"{owner}: `x` and `centres` must have shapes (..., S, {features}) and "
            f"(..., K, {features}), as the network has {features} features; got {x.shape} and "
            f"{centres.shape}."
        )


class ADEN(CostNetwork):
    """Average costs of entities told each of K centres, by attention of entities to centres.

    Entities and centres are embedded; entities attend to the centres in `blocks` blocks; a head
    sees each pair of an entity and a centre and adds to their base cost. A module of `flax.nnx`
    that works with any number of entities and centres, equivariant in both. Its last layer is
    zero at the start, so that it begins at the base cost.

    **Arguments:**

    - `features`: d of entities and centres, which should be of about unit size.
    - `width`, `blocks`, `heads`, `feedforward`: of the attention of entities to centres.
    - `head`: hidden sizes of the head.
    - `centre_blocks`: blocks of attention among centres before that. Without one, what is known of
        a pair of centres has to pass through the entity; not in the paper.
    - `base`: `"sqeuclidean"`, a function of (..., S, d) and (..., K, d) that returns (..., S, K),
        or `None` where costs have no formula.
    - `dropout`: in blocks and head, where a call is given a key.
    - `qkv_bias`: whether queries, keys and values have biases.
    - `norm`: `"post"` as in the paper or `"pre"`.
    - `dtype`, `precision`: of parameters, and of products.
    - `rngs`: `flax.nnx.Rngs` or a seed.

    Calls: `network(x, centres, key=None, clipped=True)`; with a `key` there is dropout, without
    `clipped` what would be negative keeps a slope.

    **Raises:** `ValueError` for heads that do not divide the width and other impossible sizes.

    Source: autonomy-aware clustering, equations (70), (71) and appendix G; the ReLU at the end is
    leaky while learning.

    **Example:**

    ```python
    >>> import jax.numpy as jnp
    >>> from mepjax import learn
    >>> network = learn.ADEN(2, blocks=1, rngs=0)
    >>> network(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0], [1.0, 0.0]])).tolist()
    [[25.0, 1.0]]

    ```
    """

    def __init__(
        self,
        features: int,
        *,
        width: int = 64,
        blocks: int = 4,
        heads: int = 8,
        feedforward: int = 128,
        head: Sequence[int] = (128,),
        centre_blocks: int = 0,
        base: str | Base | None = "sqeuclidean",
        dropout: float = 0.0,
        qkv_bias: bool = True,
        norm: str = "post",
        dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: Any,
    ) -> None:
        check_options(
            _OWNER, features=features, width=width, blocks=blocks, heads=heads, head=head,
            feedforward=feedforward, centre_blocks=centre_blocks, base=base, dropout=dropout,
            norm=norm,
        )  # fmt: skip
        rngs = rngs if isinstance(rngs, nnx.Rngs) else nnx.Rngs(rngs)
        self.features, self.base = features, base
        shared = {"dtype": dtype, "precision": precision, "dropout": dropout, "rngs": rngs}
        linear = {
            "kernel_init": nnx.initializers.xavier_uniform(), "param_dtype": dtype,
            "precision": precision, "rngs": rngs,
        }  # fmt: skip
        self.entities = nnx.Linear(features, width, **linear)
        self.centres = nnx.Linear(features, width, **linear)

        def block() -> Block:
            return Block(width, heads, feedforward, qkv_bias=qkv_bias, norm=norm, **shared)

        self.centre_blocks = nnx.List([block() for _ in range(centre_blocks)])
        self.blocks = nnx.List([block() for _ in range(blocks)])
        self.head = PairHead(width, tuple(head), **shared)
        self.scale = nnx.Param(jnp.ones((), dtype))

    @classmethod
    def paper(cls, features: int, *, rngs: Any, **options: Any) -> "ADEN":
        """The network of Table 2: 150,914 parameters for two features."""
        return cls(features, rngs=rngs, **(ADEN_PAPER | options))

    @classmethod
    def released(cls, features: int, *, rngs: Any, **options: Any) -> "ADEN":
        """The network of the authors' code: 143,874 parameters for two features."""
        return cls(features, rngs=rngs, **(ADEN_RELEASED | options))

    def __call__(
        self,
        x: Float[Array, "... s d"],
        centres: Float[Array, "... k d"],
        *,
        key: Any = None,
        clipped: bool = True,
    ) -> Float[Array, "... s k"]:
        """Average costs, one row for each entity."""
        check_inputs(_OWNER, self.features, x, centres)
        keys = [None] * (len(self.centre_blocks) + len(self.blocks) + 1)
        if key is not None:
            keys = list(jax.random.split(key, len(keys)))
        entities, clusters = in_rows(self.entities, x), in_rows(self.centres, centres)
        for layer in self.centre_blocks:
            clusters = layer(clusters, None, keys.pop())
        for layer in self.blocks:
            entities = layer(entities, clusters, keys.pop())
        deviation = self.head(entities[..., :, None, :], clusters[..., None, :, :], key=keys.pop())
        deviation = self.scale[...] * deviation
        return self._finish(deviation, x, centres, clipped, self.base)


# Table 2, and the code that was released with it.
ADEN_PAPER: dict[str, Any] = {
    "width": 64, "blocks": 4, "heads": 8, "feedforward": 128, "head": (128,), "centre_blocks": 0,
}  # fmt: skip
ADEN_RELEASED: dict[str, Any] = ADEN_PAPER | {
    "head": (64, 32), "qkv_bias": False, "dropout": 0.01,
}  # fmt: skip


class MLP(CostNetwork):
    """Average costs from an entity, a centre and the mean of all centres' embeddings.

    What is left of `ADEN` without attention.

    **Arguments:** as of `ADEN`.

    **Example:**

    ```python
    >>> import jax.numpy as jnp
    >>> from mepjax import learn
    >>> network = learn.MLP(2, rngs=0)
    >>> network(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0], [1.0, 0.0]])).tolist()
    [[25.0, 1.0]]

    ```
    """

    def __init__(
        self,
        features: int,
        *,
        width: int = 64,
        head: Sequence[int] = (128, 128),
        base: str | Base | None = "sqeuclidean",
        dropout: float = 0.0,
        dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: Any,
    ) -> None:
        check_options("MLP", features=features, width=width, head=head, base=base, dropout=dropout)
        rngs = rngs if isinstance(rngs, nnx.Rngs) else nnx.Rngs(rngs)
        self.features, self.base = features, base
        linear = {
            "kernel_init": nnx.initializers.xavier_uniform(), "param_dtype": dtype,
            "precision": precision, "rngs": rngs,
        }  # fmt: skip
        self.entities = nnx.Linear(features, width, **linear)
        self.centres = nnx.Linear(features, width, **linear)
        self.pooled = nnx.Linear(width, width, **linear)
        self.head = PairHead(
            width, tuple(head), dtype=dtype, precision=precision, dropout=dropout, rngs=rngs,
            parts=3,
        )  # fmt: skip
        self.scale = nnx.Param(jnp.ones((), dtype))

    def __call__(
        self,
        x: Float[Array, "... s d"],
        centres: Float[Array, "... k d"],
        *,
        key: Any = None,
        clipped: bool = True,
    ) -> Float[Array, "... s k"]:
        """Average costs, one row for each entity."""
        check_inputs("MLP", self.features, x, centres)
        entities = in_rows(self.entities, x)
        clusters = jax.nn.gelu(in_rows(self.centres, centres))
        pooled = jax.nn.gelu(in_rows(self.pooled, clusters))
        pooled = jnp.mean(pooled, axis=-2, keepdims=True)
        deviation = self.head(
            entities[..., :, None, :], clusters[..., None, :, :], pooled[..., None, :, :], key=key
        )
        return self._finish(self.scale[...] * deviation, x, centres, clipped, self.base)
