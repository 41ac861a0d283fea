"""Executors refuse what they cannot be, and eight devices agree with one."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import mepjax as mj


@pytest.mark.parametrize("executor", [mj.Streaming, mj.Sharded])
@pytest.mark.parametrize(
    ("block", "error", "says"),
    [
        (0, ValueError, "`block` must be at least 1 or None; got 0"),
        (-3, ValueError, "got -3"),
        (2.5, TypeError, "`block` must be an int or None; got float 2.5"),
        (True, TypeError, "got bool True"),
    ],
)
def test_a_block_too_small_is_refused(executor, block, error, says):
    with pytest.raises(error, match=says):
        executor(block=block)


def test_what_is_no_mesh_is_refused():
    with pytest.raises(TypeError, match="`mesh` must be a jax.sharding.Mesh; got int 8"):
        mj.Sharded(8)  # type: ignore


def test_what_is_no_executor_is_refused():
    problem = mj.Clustering([[0.0], [1.0]], 2)
    with pytest.raises(TypeError, match="`executor` must be a Executor instance; got str"):
        mj.anneal(problem, key=jax.random.key(0), executor="sharded")  # type: ignore


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["not slow", "slow"])
def test_eight_devices_agree_with_memory(rows):
    folder = "tests/multidevice"
    root = Path(__file__).parents[3]
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-m", rows, "-k", "sharded", folder],
        cwd=root,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5000:]
