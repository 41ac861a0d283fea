"""Learning the autonomy: gaps of every learner, error bars, tests of fit, going on, and speed.

`python -m benchmarks learning` runs all parts, `python -m benchmarks learning:tabular,speed` some;
rows of other parts are kept. Gaps are in per cent of hard costs under the true autonomy to the
lowest that is known, which is `mepjax.solve` with that autonomy or what a learner has found.
Seconds are CPU seconds of compiled calls.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import asked, curves, logs, online, statistics

PARTS: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "structured": logs.structured,
    "counts": asked.counts,
    "tabular": asked.tabular,
    "intervals": statistics.intervals,
    "test of fit": statistics.tests_of_fit,
    "fit time": logs.fit_time,
    "speed": asked.speed,
    "pairs": logs.pairs,
    "curves": curves.curves,
    "movielens": logs.movielens,
    "online": online.online,
}


def run(parts: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Rows of the named parts, all by default."""
    for name in parts or PARTS:
        for row in PARTS[name]():
            yield {"part": name} | row
