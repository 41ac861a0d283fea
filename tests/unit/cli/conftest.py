import pytest

from mepjax.cli.options import anneal


@pytest.fixture(autouse=True)
def keep_no_programs(monkeypatch):
    """Commands that run in the process of the tests leave the user's cache folder alone."""
    monkeypatch.setattr(anneal, "keep_programs", lambda: None)
