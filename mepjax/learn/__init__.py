"""Learning where entities stray, from records of what they did or by asking them.

`fit` turns a log into an autonomy model with error bars and a test of fit; `interact` asks an
environment, learns, and places the centres while beta rises.
"""

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
from .policy_value import PolicyValue
from .rounds import Explore
from .scattered import collect
from .state import LearningProgress, LearningState
from .structured import Structured
from .tabular import Tabular
from .test_of_fit import TestOfFit

__all__ = [
    "AbstractEnvironment",
    "AbstractLearner",
    "CentreErrors",
    "Counts",
    "Coverage",
    "Evidence",
    "Explore",
    "Fitted",
    "FromCallback",
    "FromFunction",
    "Interactions",
    "Learned",
    "LearningProgress",
    "LearningState",
    "LearningTrace",
    "ModelLearner",
    "Needs",
    "NetworkValues",
    "Observation",
    "PolicyValue",
    "Replay",
    "Simulated",
    "Starts",
    "Structured",
    "Tabular",
    "TestOfFit",
    "Uncertainty",
    "advance",
    "as_gymnasium",
    "begin",
    "centre_errors",
    "collect",
    "finish",
    "fit",
    "interact",
    "load",
    "save",
    "update",
    "with_points",
]
