import contextlib
import logging

import jax
import pytest


@pytest.fixture
def count_compiles():
    """A context that counts what is compiled in it."""

    @contextlib.contextmanager
    def counting():
        names = []

        class Handler(logging.Handler):
            def emit(self, record):
                text = record.getMessage()
                if text.startswith("Compiling"):
                    names.append(text)

        handler = Handler()
        logger = logging.getLogger("jax._src.interpreters.pxla")
        logger.addHandler(handler)
        with jax.log_compiles():
            yield lambda: len(names)
        logger.removeHandler(handler)

    return counting
