"""What training keeps, the published settings, and checks of those given."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from ..._core import checks
from .aden import ADEN, MLP, check_options

_OWNER = "Training"
# Sides of the data's box that centres may be away from it.
AWAY = 10.0
_NETWORKS: dict[str, Any] = {"aden": ADEN, "mlp": MLP}


@dataclass(frozen=True)
class Recipe:
    """Where the published algorithm goes another way than `Training` does by itself.

    **Fields:** `betas`, first and last beta and the factor between levels, for data in the unit
    square, in place of levels in the problem's own units; `from_mean`, all starts at the mean of
    the data with noise; `constant_rate`, a rate of learning that does not fall; `plain_descent`,
    centres by gradient steps of the size `centre_rate` in place of Adam's, on all entities;
    `restarts`, the optimiser and the table of running means start afresh at every level;
    `tolerances`, a level ends when its loss changes by less than the first of them from one step
    to the next, centres when their free energy changes by less than the second, relative to it;
    `greedy`, who does not explore is told the cluster of least cost, and explorers are a share
    1 / log(1 + beta); `noise` on centres after each level, in spacings.
    """

    betas: tuple[float, float, float] | None = None
    from_mean: bool = False
    constant_rate: bool = False
    plain_descent: bool = False
    restarts: bool = False
    tolerances: tuple[float, float] | None = None
    greedy: bool = False
    noise: float = 0.0


# Table 2 and the pseudocode. A noise of .01 on the unit square with four clusters at its corners is
# .028 spacings.
PAPER: dict[str, Any] = {
    "batch": 32, "entities": 128, "draws": 16, "perturbation": (0.028, 0.028),
    "learning_rate": 1e-4, "weight_decay": 1e-5, "warm_up": 0, "clip": 1e9, "average": 0.0,
    "prefit": 0, "network_steps": 1000, "centre_steps": 100, "centre_rate": 1e-4, "cycles": 90,
    "smoothing": 0.95,
    "recipe": Recipe((10.0, 5e4, 1.1), from_mean=True, constant_rate=True, plain_descent=True),
}  # fmt: skip
# The code that was released with it: AdamW for centres (in spacings here), and running means in
# which it is the new value that weighs .95.
# Its noise of .001 on centres is .0028 spacings, and its centres look at all entities.
RELEASED: dict[str, Any] = PAPER | {
    "centre_rate": 2.8e-4,
    "smoothing": 0.05,
    "recipe": Recipe((10.0, 5e4, 1.1), from_mean=True, constant_rate=True, restarts=True),
}
# What is ours in both, and in the second alone; `mepjax reproduce table2` says it.
DIFFERENCES = {
    "paper": (
        "the last layer of the head is zero at the start, and the output a leaky ReLU while "
        "learning: with Xavier and a plain ReLU it dies (appendix K)",
        "the loss is a mean over pairs in units of spacing^4, so that rates do not hang on batch "
        "and scale",
        "entities of a batch are drawn in strata of equal weight",
        "the centres kept are the mean of the last twelve levels, of the start that fresh "
        "interactions say is cheapest",
    ),
    "released": (
        "what the steps that a level does not take would have asked is asked all the same",
        "the environment sees perturbed centres, as the cost does; there the centres themselves",
        "centres descend by Adam without weight decay",
    ),
}


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
    """Raise `ValueError` for numbers that cannot be, of the network's too."""
    if training.network in _NETWORKS.values():
        check_options(_OWNER, **dict(training.options))
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
