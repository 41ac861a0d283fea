import gc
import os
import sys
from importlib.metadata import version
from pathlib import Path

from .compilation_cache import folder
from .cpu_seconds import CpuSeconds

# scikit-learn's checks of array types need it, and scipy reads it once, when jax imports it.
os.environ["SCIPY_ARRAY_API"] = "1"

# Nearly all time goes into compiling, so programs are optimised little, in half the time. XLA ends
# the process at a flag it does not know, hence only where these are known.
LITTLE = "--xla_backend_optimization_level=0"
FLAGS = {
    "0.10": (LITTLE, "--xla_cpu_use_fusion_emitters=false"),
    "0.11": (LITTLE,),
    "0.12": (LITTLE,),
}
if "MEPJAX_TESTS_OPTIMISED" not in os.environ:
    known = FLAGS.get(".".join(version("jaxlib").split(".")[:2]), ())
    os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *known))

# CI keeps compiled programs between runs; processes that tests start share them.
if "MEPJAX_TESTS_CACHE" in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder(Path(os.environ["MEPJAX_TESTS_CACHE"])))
    # Small programs too: thousands of eager operations take a third of the time of all tests.
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax  # noqa: E402
import pytest  # noqa: E402


class ClosedFigures:
    """Closes what a test has drawn: which tests share a process is left to chance.

    matplotlib warns at the 21st figure that is open, and a warning is an error here.
    """

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self):
        """Close them all."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None:
            pyplot.close("all")


def pytest_configure(config):
    """For doctests of the package too, to which the hooks of this file do not apply."""
    config.pluginmanager.register(CpuSeconds(), "cpu-seconds")
    config.pluginmanager.register(ClosedFigures(), "closed-figures")


@pytest.fixture(autouse=True)
def float64():
    """Tests run in float64 unless they open another context; doctests keep the default."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def forget_programs():
    """Let go of compiled programs before Linux refuses the process more memory maps.

    A compiled anneal holds some 400 of the 65,530 that a process may have, and the one too many
    ends the process.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 30_000:
        jax.clear_caches()
        gc.collect()
