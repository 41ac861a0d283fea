"""Published tables and figures, computed again and put beside what was printed."""

from .registry import ALIASES, REPRODUCTIONS, load
from .reproduction import Claim, NotMeasured, Reproduction, Setting, Task
from .runner import run

__all__ = [
    "ALIASES",
    "REPRODUCTIONS",
    "Claim",
    "NotMeasured",
    "Reproduction",
    "Setting",
    "Task",
    "load",
    "run",
]
