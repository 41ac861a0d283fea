"""Steps of ADEN at the sizes of Table 2 beside PyTorch, and all of Table 1 in one program.

`python -m benchmarks aden` runs both parts, `python -m benchmarks aden:step` one. PyTorch is an
optional peer: without it its columns say so. Ratios above 1 say that mepjax is faster.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax.learn.networks.settings import Recipe
from mepjax.learn.networks.steps import Batch, descended, optimiser
from mepjax.learn.networks.teaching import taught
from mepjax.reproduce.references import reference
from mepjax.reproduce.scenarios import SQUARE, aware, square

from .measure import clocked, in_turns

_SIZES = {"width": 64, "blocks": 4, "heads": 8, "feedforward": 128}
_HIDDEN = 128
_BATCH, _ENTITIES, _BETA = 32, 128, 100.0
_SEEDS = 2


def _torch() -> Any:
    """PyTorch; `None` where it is not installed."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        return None


def _ours(
    base: mj.Clustering, batch: Batch, centres: np.ndarray
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A step of the network on a batch, and one of the centres on all data."""
    training = mj.learn.Training(
        options=_SIZES | {"head": (_HIDDEN,), "centre_blocks": 0}, batch=_BATCH,
        entities=_ENTITIES, learning_rate=1e-4, warm_up=0, recipe=Recipe(constant_rate=True),
    )  # fmt: skip
    state = training.init(jax.random.key(0), base)
    costs = training.learnt_costs(state, base)
    descent = optimiser(training.clip, training.weight_decay)
    keys = jax.random.split(jax.random.key(1), 1)
    one = jax.tree.map(lambda a: a[None], batch)

    @eqx.filter_jit
    def network_step(state: Any) -> Any:
        return taught(
            training, costs.network, descent, state, one, keys, base.x, costs.origin,
            costs.spacing,
        )  # fmt: skip

    @eqx.filter_jit
    def centre_step(state: Any, y: Any) -> Any:
        learnt = training.learnt_costs(state, base)
        return descended(learnt, base, y, _BETA, 1e-3, 1, base.x.shape[0], keys[0])

    return lambda: network_step(state), lambda: centre_step(state, jnp.asarray(centres))


def steps(repeats: int = 20) -> Iterator[dict[str, Any]]:
    """A network step of 32 sets of 128 entities, and a centre step on all 1,800."""
    base, rng = square(), np.random.default_rng(0)
    data = np.asarray(base.x)
    entity = rng.integers(len(data), size=(_BATCH, _ENTITIES)).astype(np.int32)
    told = rng.integers(base.k, size=entity.shape).astype(np.int32)
    centres = data[rng.choice(len(data), base.k, replace=False)]
    sets = (centres + 0.1 * rng.normal(size=(_BATCH, *centres.shape))).astype(np.float32)
    target = rng.uniform(size=entity.shape).astype(np.float32)
    batch = Batch(*map(jnp.asarray, (entity, told, target, np.ones_like(target), sets)))
    ours = _ours(base, batch, centres)
    torch = _torch()
    theirs: Sequence[Callable[[], Any] | None] = (None, None)
    if torch is not None:
        from .aden_torch import steps as of_torch

        theirs = of_torch(
            torch, _SIZES | {"hidden": _HIDDEN}, data[entity], sets, told, target, data, centres,
            _BETA,
        )  # fmt: skip
    names = (f"network step, {_BATCH} x {_ENTITIES}", f"centre step, {len(data)} entities")
    for name, call, other in zip(names, ours, theirs, strict=True):
        _, first = clocked(call)
        row = {"what": name, "first call": first}
        calls = {"": call} if other is None else {"": call, "torch_": other}
        for who, seconds in in_turns(calls, repeats)[1].items():
            row |= {f"{who}{what}": value for what, value in seconds.items()}
        if torch is None or other is None:
            yield row | {"torch": "not measured: torch is not installed"}
            continue
        yield row | {
            "torch": torch.__version__, "torch / mepjax": row["torch_median_s"] / row["median_s"],
            "torch / mepjax, best": row["torch_best_s"] / row["best_s"],
            "torch / mepjax, CPU": row["torch_cpu_s"] / row["cpu_s"],
        }  # fmt: skip


def at_once(
    base: mj.Clustering, scenarios: Sequence[Any], training: Any, seeds: int
) -> Callable[[], Any]:
    """Learning in all scenarios with all seeds as one program."""
    models = [each.autonomy for each in scenarios]
    every = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(a) for a in leaves]), *models)
    keys = jax.random.split(jax.random.key(0), seeds)

    @eqx.filter_jit
    def learnt(every: Any, keys: Any) -> Any:
        def one(model: Any, key: Any) -> Any:
            found = mj.learn.interact(base, mj.learn.Simulated(model), training, key=key)
            return found.params, found.n_interactions

        over_seeds = eqx.filter_vmap(one, in_axes=(None, 0))
        return eqx.filter_vmap(over_seeds, in_axes=(eqx.if_array(0), None))(every, keys)

    return lambda: learnt(every, keys)


def table() -> Iterator[dict[str, Any]]:
    """All 20 scenarios of Table 1, two seeds each, in one `vmap`: for a GPU."""
    if jax.devices()[0].platform == "cpu":
        yield {"what": "Table 1 in one vmap", "best_s": "not measured: no GPU"}
        return
    base = square()
    call = at_once(base, SQUARE, mj.learn.Training.small(), _SEEDS)
    _, first = clocked(call)
    (centres, asked), seconds = clocked(call)
    gaps = []
    for each, found in zip(SQUARE, np.asarray(centres), strict=True):
        truth, best = aware(base, each), reference("table1", each)
        assert best is not None
        gaps += [100 * (float(truth.harden(jnp.asarray(y)).cost) / best - 1) for y in found]
    yield {
        "what": f"Table 1 in one vmap, {len(SQUARE)} x {_SEEDS}", "first call": first,
        "best_s": seconds, "interactions a second": float(np.sum(asked)) / seconds,
        "mean gap %": float(np.mean(gaps)), "worst gap %": float(np.max(gaps)),
    }  # fmt: skip


PARTS = {"step": steps, "table": table}


def run(parts: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    for name in parts or PARTS:
        for row in PARTS[name]():
            yield {"part": name} | row
