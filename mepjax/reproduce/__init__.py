"""Published tables and figures, computed again and put beside what was printed."""

from .registry import REPRODUCTIONS, load
from .reproduction import Claim, NotMeasured, Reproduction, Setting, Task
from .runner import run

__all__ = [
    "REPRODUCTIONS",
    "Claim",
    "NotMeasured",
    "Reproduction",
    "Setting",
    "Task",
    "load",
    "run",
]
