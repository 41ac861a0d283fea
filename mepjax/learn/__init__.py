"""Learning where entities stray, from records of what they did or by asking them.

`fit` turns a log into an autonomy model with error bars and a test of fit.
"""

from .counts import Counts
from .coverage import Coverage
from .environments import AbstractEnvironment, Observation, Simulated
from .fit import CentreErrors, Fitted, centre_errors, fit
from .interactions import Interactions
from .learner import AbstractLearner, Needs
from .policy_value import PolicyValue
from .scattered import collect
from .structured import Structured
from .test_of_fit import TestOfFit

__all__ = [
    "AbstractEnvironment",
    "AbstractLearner",
    "CentreErrors",
    "Counts",
    "Coverage",
    "Fitted",
    "Interactions",
    "Needs",
    "Observation",
    "PolicyValue",
    "Simulated",
    "Structured",
    "TestOfFit",
    "centre_errors",
    "collect",
    "fit",
]
