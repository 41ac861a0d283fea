"""What training keeps, the published settings, and checks of those given."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from ..._core import checks
from .aden import ADEN, MLP

_OWNER = "Training"
# Sides of the data's box that centres may be away from it.
AWAY = 10.0
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


def breakdown(training: Any, loss: float) -> str:
    """Why learning ended early, and which setting to lower; `loss` is that of the last level."""
    kept = " The last good parameters and centres are kept."
    if np.isfinite(loss):
        return (
            f"Centres left the box of the data by more than {AWAY:g} times its side, or turned "
            f"NaN or Inf, although the loss ({loss:.3g}) was finite: they went where the network "
            f"has learnt nothing. Lower `centre_rate` ({_told(training.centre_rate)}) or "
            f"`centre_steps` ({training.centre_steps}), or raise `prefit` "
            f"({training.prefit}) so that more is learnt before they move.{kept}"
        )
    return (
        "The loss of the network turned NaN or Inf. Lower `learning_rate` "
        f"({_told(training.learning_rate)}) or `clip` ({_told(training.clip)}), or raise "
        f"`warm_up` ({training.warm_up}); costs that differ by many orders of magnitude break "
        f"float32: scale the data.{kept}"
    )


def _told(number: Any) -> str:
    return f"{float(number):g}" if np.ndim(number) == 0 else "one for each lane"
