"""What CI leans on: the budget of the tests and the folder of compiled programs."""

import importlib.util
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from .. import compilation_cache

ROOT = Path(__file__).parents[2]


@pytest.fixture
def budget(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("budget", ROOT / ".ci" / "budget.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)  # where no system has moved in
    return module


def report(path, cpu=None, task=None, **seconds):
    """With the CPU seconds of each second, and those of the fixed task, where they are given."""
    noted = "" if cpu is None else f'<property name="task_s" value="{task}"/>'
    cases = "".join(
        f'<testcase classname="tests.contracts.test_x" name="test_a[{row}/b]" time="{taken}">'
        f'<properties>{noted}<property name="cpu_s" value="{taken * (cpu or 0)}"/></properties>'
        "</testcase>"
        for row, taken in seconds.items()
    )
    path.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    return str(path)


def test_what_is_above_a_budget_is_said_and_fails(budget, tmp_path, capsys):
    slow = report(tmp_path / "slow.xml", none=500)
    good = report(tmp_path / "default.xml", none=700, paths=19)
    assert budget.main(good, slow, "1199") == 0
    said = capsys.readouterr().out
    assert "Default run: 719 s of tests, 360 s on 2 cores, at most 360" in said
    assert "700.0  tests/contracts: none" in said
    assert "Over budget" not in said
    assert budget.main(good, slow, "1201") == 0
    said = capsys.readouterr().out
    assert "Over budget: all of CI by 1 s." in said and "Over budget: the default" not in said
    dear = report(tmp_path / "default.xml", none=700, paths=24)
    assert budget.main(dear, slow, "100") == 1
    said = capsys.readouterr().out
    assert "Over budget: the default run by 2 s." in said and "Over budget: all" not in said
    assert budget.main(dear, slow, "1300") == 1
    assert capsys.readouterr().out.count("Over budget") == 2
    good = report(tmp_path / "default.xml", none=700, paths=19)
    assert budget.main(good, slow, "1499") == 0 and budget.main(good, slow, "1501") == 1


@pytest.mark.parametrize(
    ("cpu", "task", "share"),
    [
        (0.5, 1.0, 0.5),  # half of the time the processor did something else
        (1.0, 2.0, 0.5),  # a processor half as fast
        (1.0, 0.5, 1.0),  # a faster one takes what it takes
        (1.5, 1.0, 1.0),  # several threads
    ],
)
def test_a_slow_or_busy_machine_is_counted_as_a_quiet_one(budget, tmp_path, cpu, task, share):
    slow = report(tmp_path / "slow.xml", none=500)

    def counted(default, elapsed):
        path = tmp_path / "default.xml"
        file = report(path, cpu=cpu, task=task * budget.TASK, none=default / share)
        return budget.main(file, slow, str(elapsed / share))

    assert counted(719, 1499) == 0
    assert counted(721, 1199) == 1 and counted(719, 1501) == 1


def test_reports_hold_cpu_seconds_of_tests_and_of_the_fixed_task(budget, tmp_path):
    """Of doctests too."""
    own = tmp_path / "report.xml"
    names = [
        "mepjax/_core/padding.py",
        f"{__file__}::{test_ci_fails_where_the_budget_does.__name__}",
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", f"--junitxml={own}", *names]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    cases = list(ElementTree.parse(own).iter("testcase"))
    notes = [[p.attrib for p in case.iter("property")] for case in cases]
    noted = [{note["name"]: float(note["value"]) for note in each} for each in notes]
    assert [sorted(each) for each in noted] == [["cpu_s", "task_s"], ["cpu_s"]]
    assert all(seconds >= 0 for each in noted for seconds in each.values())
    assert 0 < budget.quiet_share(own) <= 1


def test_ci_fails_where_the_budget_does():
    script = (ROOT / ".ci" / "run").read_text()
    body = script.split("\nbudget() {\n")[1].split("\n}")[0]
    assert body.endswith('"$SECONDS"') and "||" not in body
    assert '\nstep "budget of the tests" budget\n' in script


def test_a_new_system_brings_its_own_budget(budget, tmp_path, capsys):
    slow = report(tmp_path / "slow.xml", none=500)
    default = report(tmp_path / "default.xml", none=800)
    budget.main(default, slow, "1300")
    assert capsys.readouterr().out.count("Over budget") == 2
    (tmp_path / "mepjax/problems/parametric_mdp").mkdir(parents=True)
    budget.main(default, slow, "1300")
    assert "Over budget" not in capsys.readouterr().out


def test_compiled_programs_are_kept_by_versions_and_old_ones_go(tmp_path):
    import jax

    folder = compilation_cache.folder(tmp_path)
    assert folder.is_dir() and folder.parent == tmp_path
    assert f"jax{jax.__version__}-" in folder.name
    assert compilation_cache.folder(tmp_path) == folder
    old, new = folder / "old", folder / "new"
    for file in (old, new):
        file.write_bytes(b"program")
    before = time.time() - 31 * 86_400
    os.utime(old, (before, before))
    assert compilation_cache.forget_old(folder) == 1
    assert not old.exists() and new.exists()


def test_small_programs_are_kept_too(tmp_path):
    """JAX's setting has a name that is easily missed, and an unknown one is silently ignored."""
    program = "from tests import conftest; import jax; print(jax.jit(lambda x: x + 1)(1))"
    environment = {**os.environ, "MEPJAX_TESTS_CACHE": str(tmp_path)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)
    assert list(compilation_cache.folder(tmp_path).iterdir())
