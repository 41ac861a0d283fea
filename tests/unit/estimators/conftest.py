import jax
import pytest


@pytest.fixture(autouse=True)
def float64():
    """Here sessions are in JAX's default precision: the estimator brings its own."""
    with jax.enable_x64(False):
        yield
