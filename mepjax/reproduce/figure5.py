"""Figure 5: the network, as a tree of modules, and what a pass costs by its sizes."""

import functools
from typing import Any

import numpy as np

from .gaps import networks_installed
from .reproduction import Claim, NotMeasured, Reproduction, Setting, Task

_ENTITIES, _CLUSTERS, _WIDTHS = (64, 128, 256), (4, 8, 16), (32, 64, 128)
# Sizes that stay while another changes: those of Table 2.
_FIXED = {"entities": 128, "clusters": 4, "width": 64}
_FEATURES = 2


def _abstract(preset: str, **options: Any) -> Any:
    """Shapes of a network of two features, and a pass through it."""
    if not networks_installed():
        raise NotMeasured("flax or optax is not installed")
    from ..learn import ADEN
    from ..learn.networks.shapes import abstract

    return abstract(functools.partial(getattr(ADEN, preset), _FEATURES, rngs=0, **options))


def _shapes(preset: str, **options: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Parameters by their place in the tree of modules, without making any."""
    import jax

    state, _ = _abstract(preset, **options)
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return [(jax.tree_util.keystr(path), tuple(leaf.shape)) for path, leaf in leaves]


def parameters(preset: str, **options: Any) -> int:
    """How many there are with two features; `preset` is `"paper"` or `"released"`."""
    return int(sum(np.prod(shape, dtype=int) for _, shape in _shapes(preset, **options)))


def _tree(preset: str) -> dict[str, Any]:
    shapes = _shapes(preset)
    return {
        "parameters": parameters(preset),
        "tree": [f"{place} {shape}" for place, shape in shapes],
    }


def _operations(entities: int, clusters: int, width: int) -> dict[str, Any]:
    """Operations of one pass as the compiler counts them before it optimises."""
    import jax

    state, once = _abstract("paper", width=width, feedforward=2 * width)
    sizes = [jax.ShapeDtypeStruct((n, _FEATURES), np.float32) for n in (entities, clusters)]
    cost = jax.jit(once).lower(state, *sizes).cost_analysis()
    return {
        "entities": entities, "clusters": clusters, "width": width,
        "operations": float((cost or {}).get("flops", np.nan)),
        "parameters": parameters("paper", width=width, feedforward=2 * width),
    }  # fmt: skip


def _tasks(setting: Setting) -> list[Task]:
    del setting
    rows = [Task(f"ADEN.{name}", lambda name=name: _tree(name)) for name in ("paper", "released")]
    for name, sizes in (("entities", _ENTITIES), ("clusters", _CLUSTERS), ("width", _WIDTHS)):
        for size in sizes:
            at = _FIXED | {name: size}
            rows.append(Task(f"{name} {size}", lambda at=at: _operations(**at)))
    return rows


def _measured(rows: dict[str, Any], name: str, sizes: tuple[int, ...]) -> list[float] | None:
    """Operations at all of the sizes; `None` where one is missing."""
    found = [rows.get(f"{name} {size}", {}).get("operations") for size in sizes]
    return None if any(value is None for value in found) else found


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    claims = []
    for name, sizes, what in (
        ("entities", _ENTITIES, "linear in the entities S"),
        ("clusters", _CLUSTERS, "linear in the clusters K"),
    ):
        found = _measured(rows, name, sizes)
        if found is None:
            continue
        # Of a straight line the increment over a doubled step is twice the first.
        ratio = (found[2] - found[1]) / (found[1] - found[0])
        claims.append(
            Claim(
                f"operations of a pass are {what}: increment over twice the step",
                "2", f"{ratio:.3f}", abs(ratio - 2) < 0.02,
            )
        )  # fmt: skip
    wide = _measured(rows, "width", _WIDTHS)
    if wide is not None:
        power = float(np.log2(wide[2] / wide[1]))
        claims.append(
            Claim("power of the width with which they grow", "2", f"{power:.2f}", 1 < power <= 2.1)
        )
    return claims


def _draw(rows: dict[str, Any], setting: Setting) -> dict[str, Any]:
    del setting

    def lines(figure: Any) -> None:
        axes = figure.add_subplot()
        for name, sizes in (
            ("entities", _ENTITIES), ("clusters", _CLUSTERS), ("width", _WIDTHS)
        ):  # fmt: skip
            known = [
                (size, rows[f"{name} {size}"]["operations"])
                for size in sizes
                if f"{name} {size}" in rows
            ]
            if known:
                size, operations = np.array(known).T
                axes.loglog(size / size[0], operations, "o-", label=f"{name}, from {size[0]:g}")
        axes.set_xlabel("size, relative to the first")
        axes.set_ylabel("operations of a pass")
        axes.legend()

    return {"operations": lines}


REPRODUCTION = Reproduction(
    "figure5",
    "the network: parameters and operations by its sizes",
    "autonomy-aware clustering, Figure 5 and appendix G",
    _tasks,
    {
        "entities": "entities S",
        "clusters": "clusters K",
        "width": "width",
        "operations": "operations of a pass",
        "parameters": "parameters",
        "tree": "modules",
    },
    _claims,
    _draw,
    minutes={"small": 0.5, "medium": 0.5, "paper": 0.5},
)
