"""Learning where entities stray, from records of what they did or by asking them.

`fit` turns a log into an autonomy model with error bars and a test of fit; `interact` asks an
environment, learns, and places the centres while beta rises.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .asking import FromCallback, FromFunction, Replay
from .checkpoint import load, save
from .counts import Counts
from .coverage import Coverage
from .environments import AbstractEnvironment, Observation, Simulated
from .evidence import Evidence, ModelLearner, Uncertainty
from .fit import CentreErrors, Fitted, centre_errors, fit
from .gymnasium import as_gymnasium
from .interactions import Interactions
from .learned import Learned, LearningTrace, Starts
from .learner import AbstractLearner, Needs
from .loop import advance, begin, finish, interact
from .network_values import NetworkValues
from .online import update, with_points
from .parameters import LearnedParameters, learn_parameters
from .policy_value import PolicyValue
from .processes import AbstractProcess, SimulatedProcess
from .rounds import Explore
from .scattered import collect
from .state import LearningProgress, LearningState
from .stream_state import OnlineSolution, StreamState
from .streams import OnlineClustering
from .structured import Structured
from .tabular import Tabular
from .test_of_fit import TestOfFit
from .vectors import AbstractVectorProcess, Indicators

if TYPE_CHECKING:
    from .networks.aden import ADEN, MLP
    from .networks.choice import Choice
    from .networks.deep import LearnedDeep, deep_soft_q
    from .networks.deep_values import DeepValues
    from .networks.offline import FittedCosts, fit_costs
    from .networks.training import Training

# What needs flax, by module.
_NETWORKS = {
    "ADEN": "aden",
    "MLP": "aden",
    "Choice": "choice",
    "DeepValues": "deep_values",
    "FittedCosts": "offline",
    "LearnedDeep": "deep",
    "Training": "training",
    "deep_soft_q": "deep",
    "fit_costs": "offline",
}


def __getattr__(name: str) -> Any:
    if name in _NETWORKS:
        try:
            module = importlib.import_module(f".networks.{_NETWORKS[name]}", __name__)
        except ImportError as error:
            if (error.name or "").partition(".")[0] not in ("flax", "optax"):
                raise
            raise ImportError(
                f"{name} needs flax and optax, of which one is not installed; run: "
                'pip install "mepjax[learn]"'
            ) from error
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ADEN",
    "MLP",
    "AbstractEnvironment",
    "AbstractLearner",
    "AbstractProcess",
    "AbstractVectorProcess",
    "CentreErrors",
    "Choice",
    "Counts",
    "Coverage",
    "DeepValues",
    "Evidence",
    "Explore",
    "Fitted",
    "FittedCosts",
    "FromCallback",
    "FromFunction",
    "Indicators",
    "Interactions",
    "Learned",
    "LearnedDeep",
    "LearnedParameters",
    "LearningProgress",
    "LearningState",
    "LearningTrace",
    "ModelLearner",
    "Needs",
    "NetworkValues",
    "Observation",
    "OnlineClustering",
    "OnlineSolution",
    "PolicyValue",
    "Replay",
    "Simulated",
    "SimulatedProcess",
    "Starts",
    "StreamState",
    "Structured",
    "Tabular",
    "TestOfFit",
    "Training",
    "Uncertainty",
    "advance",
    "as_gymnasium",
    "begin",
    "centre_errors",
    "collect",
    "deep_soft_q",
    "finish",
    "fit",
    "fit_costs",
    "interact",
    "learn_parameters",
    "load",
    "save",
    "update",
    "with_points",
]
