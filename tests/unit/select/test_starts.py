"""Which run is kept; the command and the estimator test the solving itself."""

import math
from typing import Any

import pytest

from mepjax import Code
from mepjax.select.starts import Run, Starts, default_betas, lowest, percent_more


class _Solution:
    def __init__(self, code):
        self.code = code


def _run(cost, code=Code.OK, name="exact", source=None):
    solution: Any = _Solution(int(code))
    return Run(name, 0, solution, cost, 1, 0.0, source)


def test_the_lowest_and_among_equals_the_first():
    runs = [_run(3.0), _run(1.0 + 1e-12), _run(1.0), _run(math.nan)]
    assert lowest(runs) is runs[2]
    assert lowest(runs, tie=1e-9) is runs[1]
    assert lowest([_run(math.nan)]) is None and lowest([]) is None


def test_failed_runs_are_kept_only_where_all_failed():
    good, better = _run(2.0), _run(1.0, Code.MAX_STEPS)
    assert Starts((good, better), (good, better), None).best is good
    assert Starts((good, better), (good, better), None).least_bad is good
    assert Starts((better,), (better,), None).best is None
    assert Starts((better,), (better,), None).least_bad is better
    near = _run(0.5, Code.NEAR_CRITICAL)
    assert Starts((good, near), (good, near), None).best is near


def test_the_path_of_a_polished_run():
    start = _run(2.0, name="frozen")
    assert [run.name for run in _run(1.0, source=start).path] == ["frozen", "exact"]


@pytest.mark.parametrize(
    ("ignored", "aware", "percent"), [(3.0, 2.0, 50.0), (0.0, 0.0, 0.0), (1.0, 0.0, None)]
)
def test_percent_more(ignored, aware, percent):
    assert percent_more(ignored, aware) == percent


def test_default_betas():
    assert default_betas(2.0, None, None) == (1.0, 2e4)
    assert default_betas(2.0, None, 0.5) == (0.5, 0.5)
    assert default_betas(2.0, 3.0, 4.0) == (3.0, 4.0)
