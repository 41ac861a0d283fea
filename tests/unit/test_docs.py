import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import mepjax as mj

ROOT = Path(__file__).parents[2]


def load_build():
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_documented():
    pytest.importorskip("sklearn")
    build = load_build()
    assert build.undocumented() == []
    rooms = [name for name in mj.__all__ if hasattr(getattr(mj, name), "__all__")]
    assert {f"mepjax.{name}" for name in rooms} <= set(build.MODULES)


def test_an_undocumented_name_is_found(monkeypatch):
    def nameless():
        pass

    monkeypatch.setattr(mj, "nameless", nameless, raising=False)
    monkeypatch.setattr(mj, "__all__", [*mj.__all__, "nameless"])
    assert load_build().undocumented() == ["mepjax.nameless"]


def test_every_code_has_a_row_with_a_remedy():
    rows = (ROOT / "docs" / "codes.md").read_text().splitlines()
    for code in mj.Code:
        (row,) = (row for row in rows if row.startswith(f"| `{code.name}` | {int(code)} |"))
        remedy = row.split("|")[-2].strip()
        assert remedy or code == mj.Code.OK


@pytest.mark.slow
def test_the_api_page_builds(tmp_path):
    subprocess.run([sys.executable, ROOT / "docs" / "build.py", tmp_path], check=True, cwd=ROOT)
    page = (tmp_path / "mepjax.html").read_text()
    assert "at a rising sequence of beta" in page
