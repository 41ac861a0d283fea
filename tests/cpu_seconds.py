"""What each test takes of the processor, and what a fixed task takes beside it.

A clock on the wall also counts what else the machine does; CPU seconds do not, but for what caches
and a slower processor add, which the task shows. Reports of `pytest --junitxml` keep both for
`.ci/budget.py`.
"""

import gc
import os
import time
from collections.abc import Iterator

import pytest

# CPU seconds between two tasks, which take a three hundredth of the time.
_EVERY = 10.0


def task_s() -> float:
    """CPU seconds of a fixed task that needs about as much memory as a core's cache has."""
    collects = gc.isenabled()
    gc.disable()
    began = time.thread_time()
    known = {str(i): (i, i % 7) for i in range(50_000)}
    sum(known[str(i * 7919 % 50_000)][1] for i in range(50_000))
    seconds = time.thread_time() - began
    if collects:
        gc.enable()
    return seconds


def spent_s() -> float:
    """CPU seconds of this process, all its threads, and of its children that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


class CpuSeconds:
    """Notes at each test `cpu_s`, what it took, and now and then `task_s`."""

    def __init__(self) -> None:
        self.next_task = 0.0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        if spent_s() >= self.next_task:
            item.user_properties.append(("task_s", task_s()))
            self.next_task = spent_s() + _EVERY
        self.began = spent_s()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        try:
            return (yield)
        finally:
            item.user_properties.append(("cpu_s", spent_s() - self.began))
