import jax
import pytest


@pytest.fixture(autouse=True)
def float64():
    """Tests run in float64 unless they open another context; doctests keep the default."""
    with jax.enable_x64(True):
        yield
