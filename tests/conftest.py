import os

# scikit-learn's checks of array types need it, and scipy reads it once, when jax imports it.
os.environ["SCIPY_ARRAY_API"] = "1"

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def float64():
    """Tests run in float64 unless they open another context; doctests keep the default."""
    with jax.enable_x64(True):
        yield
