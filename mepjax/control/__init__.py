"""Problems that move: unknowns follow their minimum by control laws.

`track` integrates a scene whose data follow velocities, a function of time or recorded traces;
`step` is one control evaluation, for a loop of your own; `every_frame` is the baseline that solves
anew at every time.
"""

from .evaluation import Control, step
from .frames import Frames, every_frame
from .integrators import AbstractIntegrator, Adaptive, Euler
from .laws import AbstractLaw, Follow, Lyapunov, LyapunovPaths, Moment, Newton
from .track import Reanneal, track
from .trajectory import Crossings, Reanneals, Track

__all__ = [
    "AbstractIntegrator",
    "AbstractLaw",
    "Adaptive",
    "Control",
    "Crossings",
    "Euler",
    "Follow",
    "Frames",
    "Lyapunov",
    "LyapunovPaths",
    "Moment",
    "Newton",
    "Reanneal",
    "Reanneals",
    "Track",
    "every_frame",
    "step",
    "track",
]
