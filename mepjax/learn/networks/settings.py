"""What training keeps, the published settings, and checks of those given."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from ..._core import checks
from .aden import ADEN, MLP

_OWNER = "Training"
_NETWORKS: dict[str, Any] = {"aden": ADEN, "mlp": MLP}

# Table 2; see `Training.paper` for what differs.
PUBLISHED: dict[str, Any] = {
    "batch": 8, "entities": 128, "draws": 16, "perturbation": (0.03, 0.03), "learning_rate": 1e-4,
    "warm_up": 0, "clip": 1e9, "average": 0.0, "prefit": 0, "network_steps": 1000,
    "centre_steps": 100, "cycles": 90, "smoothing": 0.95,
}  # fmt: skip


class TrainingState(eqx.Module):
    """Parameters, their running average, moments of the optimiser, and steps taken.

    `table` holds running means of targets where there is `smoothing`.
    """

    params: Any
    average: Any
    optimiser: Any
    step: Int[Array, ""]
    table: Float[Array, "n k"] | None


def network_named(network: Any) -> Any:
    """A constructor for a network, which may be one already."""
    if isinstance(network, str) and network not in _NETWORKS:
        raise ValueError(
            f"{_OWNER}: `network` must be 'aden', 'mlp' or a constructor; got {network!r}."
        )
    if not (isinstance(network, str) or callable(network)):
        raise TypeError(
            f"{_OWNER}: `network` must be 'aden', 'mlp' or a constructor; got {network!r:.60}."
        )
    return _NETWORKS[network] if isinstance(network, str) else network


def check_numbers(training: Any) -> None:
    """Raise `ValueError` for numbers that cannot be."""
    low, high = training.perturbation
    found = []
    for name, value, least, most, is_open in (
        ("perturbation", low, 0.0, np.inf, True),
        ("perturbation", high, low if checks.is_concrete(low) else 0.0, np.inf, False),
        ("learning_rate", training.learning_rate, 0.0, np.inf, True),
        ("clip", training.clip, 0.0, np.inf, True),
        ("weight_decay", training.weight_decay, 0.0, np.inf, False),
        ("average", training.average, 0.0, 1.0, False),
        ("centre_rate", training.centre_rate, 0.0, np.inf, True),
        ("smoothing", training.smoothing, 0.0, 1.0, False),
    ):
        if checks.is_concrete(value):
            found.append(
                checks.check_range(
                    _OWNER, name, np.asarray(value), low=least, high=most, open_low=is_open
                )
            )
    checks.enforce(found)


def parameters_of(learned: Any) -> Any:
    """Averaged parameters of what was learnt before."""
    state = getattr(learned, "state", learned)
    if not isinstance(state, TrainingState):
        raise TypeError(
            f"{_OWNER}: `init` must be what a Training has learnt; got {type(learned).__name__}."
        )
    return state.average
