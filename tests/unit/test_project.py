"""The project's own rules: configuration names real things, one version, imports go down."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import mepjax

ROOT = Path(__file__).parents[2]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

# --- The plan of the house: architecture.md, section 6. ---------------------------------------

LAYERS = (
    {"_core"},
    {"solvers", "exec"},
    {"engine"},
    {"mdp"},
    {"problems"},
    {"select"},
    {"learn", "control"},
    {"datasets", "plot", "estimators"},
    {"reproduce"},
    {"cli"},
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
PROBLEMS = {"Problem", "Growable", "Constrained"}
# All that a problem may use of the engine: it declares, and never runs, a loop.
CONTRACT = {"problem", "slot_spectrum", "curvature"}
# `mepjax` itself and single modules beside it gather the public names of all rooms.
FACADE = ""
FACADE_USERS = {"reproduce", "cli"}

CORE = {"jax", "numpy", "equinox", "lineax", "jaxtyping"}
# Installed with jax, which depends on it.
BROUGHT = {"scipy"}
# Optional packages, and the rooms that may import them (none of them on `import mepjax`).
OPTIONAL = {
    "flax": {"learn"},
    "optax": {"learn", "control"},
    "diffrax": {"control"},
    "sklearn": {"estimators", "select", "reproduce"},
    "matplotlib": {"plot", "reproduce", "cli"},
    "PIL": {"plot", "reproduce", "cli"},
    "pyarrow": {"exec", "datasets", "cli"},
    "orbax": {"learn"},
    "gymnasium": {"mdp", "learn"},
    "typer": {"cli"},
    "rich": {"cli"},
}
# In no extra: methods that tables are compared with, where somebody has installed them.
COMPARED = {"clustpy": {"reproduce"}}
ALLOWED = OPTIONAL | COMPARED


# --- The checker. -----------------------------------------------------------------------------


class Import(NamedTuple):
    """`target` is a dotted module name; `eager` if importing the importer imports it."""

    importer: str
    line: int
    target: str
    eager: bool


class Source(NamedTuple):
    """A parsed module: dotted name, whether it is a package's `__init__`, syntax tree."""

    name: str
    is_package: bool
    tree: ast.Module


def read_package(folder: Path) -> dict[str, Source]:
    sources = {}
    for path in sorted(folder.rglob("*.py")):
        parts = (folder.name, *path.relative_to(folder).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        sources[name] = Source(name, is_package, ast.parse(path.read_text("utf-8"), str(path)))
    return sources


def _is_type_checking(node: ast.expr) -> bool:
    return ast.unparse(node) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _walk(node: ast.AST, eager: bool) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes below, each with whether it runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        inside = eager and not isinstance(
            child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        )
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            inside = False
        yield child, inside
        yield from _walk(child, inside)


def _constant_import(node: ast.AST) -> str | None:
    """The module that a call of `import_module` or `__import__` with a plain string names."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    function = ast.unparse(node.func).rpartition(".")[2]
    argument = node.args[0]
    if function not in ("import_module", "__import__") or not isinstance(argument, ast.Constant):
        return None
    return argument.value if isinstance(argument.value, str) else None


def imports_of(source: Source, known: set[str]) -> Iterator[Import]:
    """Every import in a module; `from a import b` names `a.b` where that is a module."""
    for node, eager in _walk(source.tree, eager=True):
        targets = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = source.name.split(".") if node.level else []
            kept = len(parts) - node.level + source.is_package
            base = ".".join([*parts[:kept], *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                targets.append(full if full in known else base)
        elif (name := _constant_import(node)) is not None:
            targets = [name]
        for target in dict.fromkeys(targets):
            yield Import(source.name, getattr(node, "lineno", 0), target, eager)


def room_of(module: str, singles: set[str]) -> str:
    """The room a module of the package lies in; `FACADE` for the top and single modules there."""
    room = ".".join(module.split(".")[1:2])
    return FACADE if module in singles and room not in LEVEL else room


def _unit_of(module: str) -> str:
    """The file or folder directly inside the room, e.g. `clustering` of pkg.problems.clustering."""
    return ".".join(module.split(".")[2:3])


def problem_modules(sources: dict[str, Source]) -> set[str]:
    """Modules of `problems` that define a class derived from `Problem`, and their packages."""
    modules = {
        source.name
        for source in sources.values()
        if source.name.split(".")[1:2] == ["problems"]
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).rpartition(".")[2] in PROBLEMS for base in node.bases)
    }
    packages = {name.rpartition(".")[0] for name in modules}
    return modules | {package for package in packages if package.count(".") > 1}


def _complaint(edge: Import, package: str, singles: set[str], problems: set[str]) -> str | None:
    """What is wrong with one import, or None."""
    room = room_of(edge.importer, singles)
    top = edge.target.partition(".")[0]
    if top != package:
        if top in sys.stdlib_module_names or top in CORE | BROUGHT:
            return None
        if top not in ALLOWED:
            return f"{top} is neither a core dependency nor a known optional one"
        if room not in ALLOWED[top]:
            return f"{top} may be imported only in {sorted(ALLOWED[top])}"
        return None
    if room == FACADE:
        return None
    target = room_of(edge.target, singles)
    if target == FACADE:
        return None if room in FACADE_USERS else f"{room} imports the package's public face"
    if room not in LEVEL or target not in LEVEL:
        return f"room {room if room not in LEVEL else target} is not in the plan"
    if room != target:
        if LEVEL[target] > LEVEL[room]:
            return f"{room} imports {target}, a layer above it"
        if LEVEL[target] == LEVEL[room]:
            return f"{room} imports {target}, another room of the same layer"
        if (room, target) == ("problems", "engine") and _unit_of(edge.target) not in CONTRACT:
            return f"a problem runs no engine, and {_unit_of(edge.target) or target} is no contract"
        return None
    here, there = _unit_of(edge.importer), _unit_of(edge.target)
    if room == "problems" and here and here != there:
        # A part of a problem serves what is no problem itself, such as the functions of `paths`.
        units = {_unit_of(module) for module in problems}
        if edge.target in problems or (here in units and there in units):
            return f"problem {there} is imported by {here}"
    return None


def reached_on_import(package: str, edges: list[Import], known: set[str]) -> set[str]:
    """Modules of the package that `import package` runs, parent packages included."""
    reached: set[str] = set()
    waiting = [package]
    while waiting:
        module = waiting.pop()
        if module in reached or module not in known:
            continue
        reached.add(module)
        parents = module.split(".")
        waiting += [".".join(parents[:n]) for n in range(1, len(parents))]
        waiting += [edge.target for edge in edges if edge.eager and edge.importer == module]
    return reached


def complaints(folder: Path) -> list[str]:
    """Every broken import rule of a package, as `module:line: what`."""
    sources = read_package(folder)
    package, known = folder.name, set(sources)
    singles = {name for name in known if name.count(".") == 1 and not sources[name].is_package}
    problems = problem_modules(sources)
    edges = [edge for source in sources.values() for edge in imports_of(source, known)]
    reached = reached_on_import(package, edges, known)
    found = []
    for edge in edges:
        text = _complaint(edge, package, singles, problems)
        if text is None and edge.eager and edge.importer in reached:
            top = edge.target.partition(".")[0]
            text = f"`import {package}` imports {top}" if top in ALLOWED else None
        if text is not None:
            found.append(f"{edge.importer}:{edge.line}: {text}")
    return found


# --- The checker is checked on a small bad package. -------------------------------------------


def _write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not (path / "__init__.py").exists():
            (path / "__init__.py").touch()
    return folder


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("engine/a.py", "from ..problems import clustering", "a layer above"),
        ("engine/a.py", "import house.problems.clustering", "a layer above"),
        ("engine/a.py", "def f():\n    from house import problems", "a layer above"),
        ("engine/a.py", "import importlib\nimportlib.import_module('house.cli')", "layer above"),
        ("engine/a.py", "from .. import problems", "a layer above"),
        ("engine/__init__.py", "from ..problems import clustering", "a layer above"),
        ("engine/deep/a.py", "from ...problems import clustering", "a layer above"),
        ("exec/a.py", "from ..solvers import loop", "same layer"),
        ("engine/a.py", "import house", "public face"),
        ("engine/a.py", "from .. import anneal", "public face"),
        ("engine/a.py", "from ..face import anything", "public face"),
        ("attic/a.py", "from .._core import codes", "attic is not in the plan"),
        ("problems/paths.py", "from .clustering import Clustering", "problem clustering"),
        ("problems/autonomy.py", "from . import clustering", "problem clustering"),
        ("problems/other/a.py", "from ...engine.anneal import run", "runs no engine"),
        ("problems/other.py", "from ..engine import anneal", "runs no engine"),
        ("problems/other/a.py", "from ..tours.problem import Tours", "problem tours"),
        ("problems/other.py", "from .tours import Tours", "problem tours"),
        (
            "problems/other.py",
            "from ..engine import problem\nclass A(problem.Problem): ...\nfrom .tours import legs",
            "problem tours",
        ),
        ("engine/a.py", "def f():\n    import flax", "only in ['learn']"),
        ("engine/a.py", "import pandas", "neither a core dependency"),
        ("problems/autonomy.py", "from matplotlib import pyplot", "only in"),
        ("__init__.py", "from .plot import figures", "`import house` imports matplotlib"),
        ("__init__.py", "from .plot.figures import draw", "`import house` imports matplotlib"),
    ],
)
def test_the_checker_finds_a_bad_import(tmp_path, name, text, expected):
    folder = _write(tmp_path / "house", GOOD | {name: text})
    found = complaints(folder)
    assert len(found) == 1 and expected in found[0], found
    module = ".".join(("house", *Path(name).with_suffix("").parts)).removesuffix(".__init__")
    if "`import house`" not in expected:
        assert found[0].startswith(f"{module}:{text.count(chr(10)) + 1}: ")


GOOD = {
    "__init__.py": "from .problems import clustering\ndef __getattr__(n):\n    from . import plot",
    "face.py": "from .engine import anneal",
    "_core/codes.py": "import enum, jax\nimport numpy as np",
    "solvers/loop.py": "from .._core import codes\nfrom . import steps",
    "solvers/steps.py": "import jax.numpy as jnp",
    "engine/anneal.py": "from house.solvers.loop import run\ndef save():\n    import json",
    "engine/problem.py": "class Problem: ...",
    "problems/autonomy.py": "class Uniform: ...",
    "problems/clustering.py": "from ..engine import problem\nfrom . import autonomy\n"
    "class Clustering(problem.Problem): ...",
    "problems/__init__.py": "from .clustering import Clustering",
    "problems/tours/problem.py": "from ...engine import problem\nfrom . import legs\n"
    "class Tours(problem.Problem): ...",
    "problems/tours/__init__.py": "from .problem import Tours",
    "problems/tours/legs.py": "class Legs: ...",
    "problems/paths.py": "from .tours.legs import Legs",
    "plot/figures.py": "import matplotlib.pyplot\nfrom ..problems.clustering import Clustering",
    "cli/__init__.py": "import typer\nimport house as mj\nfrom ..plot import figures",
}


def test_the_checker_passes_a_good_package(tmp_path):
    assert complaints(_write(tmp_path / "house", GOOD)) == []


# --- The package obeys. -----------------------------------------------------------------------


def test_imports_go_down_and_optional_packages_stay_in_their_rooms():
    assert complaints(ROOT / "mepjax") == []


def test_every_file_of_the_package_is_read():
    assert {"mepjax", "mepjax._core", "mepjax.engine"} <= set(read_package(ROOT / "mepjax"))


def test_importing_mepjax_imports_no_optional_package():
    code = "import sys, mepjax; print(*{n.partition('.')[0] for n in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not set(ALLOWED) & set(done.stdout.split())


# --- Configuration. ---------------------------------------------------------------------------


def test_dependencies_are_the_core_and_the_extras_are_those_planned():
    def names(requirements):
        return {re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in requirements}

    project = CONFIG["project"]
    assert names(project["dependencies"]) == CORE
    extras = project["optional-dependencies"]
    # fmt: off
    assert set(extras) == {
        "learn", "control", "sklearn", "plot", "files", "checkpoint", "mdp", "cli", "cuda",
        "all", "test",
    }
    # fmt: on
    renamed = {"scikit-learn": "sklearn", "orbax-checkpoint": "orbax", "pillow": "PIL"}
    brought = set().union(*(names(extras[e]) for e in set(extras) - {"all", "test", "cuda"}))
    assert {renamed.get(name, name) for name in brought} == set(OPTIONAL)
    gathered = re.findall(r"[\w]+", extras["all"][0].partition("[")[2])
    assert set(gathered) == set(extras) - {"all", "test", "cuda"}


def test_paths_named_in_the_configuration_exist():
    tool = CONFIG["tool"]
    named = [
        *tool["pyright"]["include"],
        *tool["pytest"]["ini_options"]["testpaths"],
        *tool["hatch"]["build"]["targets"]["wheel"]["packages"],
        CONFIG["project"]["readme"],
        *CONFIG["project"]["license-files"],
        "mepjax/py.typed",
    ]
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert {"mepjax", "tests"} <= set(tool["pyright"]["include"])
    # The lint exceptions made for folders are made for folders of this plan.
    folders = {key.partition("/")[0] for key in tool["ruff"]["lint"]["per-file-ignores"]}
    assert folders <= {"tests", "benchmarks", "notebooks"}


def test_the_scripts_named_in_the_configuration_exist():
    for entry in CONFIG["project"]["scripts"].values():
        module, _, function = entry.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_one_version_everywhere():
    version = CONFIG["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert mepjax.__version__ == version
    assert re.findall(r"^version: (\S+)$", citation, re.M) == [version]
    assert re.findall(r"^## \[([^]]+)\]", changes, re.M)[0] == version


# --- The README. ------------------------------------------------------------------------------


def readme_command(name: str) -> str:
    """The single line of the fenced block after the mark `<!-- command: name -->`."""
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(rf"^<!-- command: {name} -->\n```\n([^\n]+)\n```$", readme, re.M)
    assert len(blocks) == 1
    return blocks[0]


def test_readme_commands_make_an_environment_and_do_their_job():
    job, test = readme_command("job"), readme_command("test")
    for command in (job, test):
        assert command.startswith("python3 -m venv .venv && ")
        used = re.findall(r'"\.\[(\w+)\]"', command)
        assert used and set(used) <= set(CONFIG["project"]["optional-dependencies"])
    assert '".[cli]"' in job and "mepjax cluster" in job
    assert '".[test]"' in test and test.endswith("python -m pytest")


def test_ci_runs_the_commands_of_the_readme():
    done = subprocess.run(
        ["bash", ".ci/run", "commands"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines() == [readme_command("job"), readme_command("test")]
    script = (ROOT / ".ci/run").read_text("utf-8")
    assert 'bash -euo pipefail -c "$job_command"' in script
    assert 'bash -euo pipefail -c "$test_command"' in script
    assert "[test]" not in script and "[cli]" not in script


@pytest.mark.parametrize("index", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_readme_examples_run_as_they_stand(index):
    readme = (ROOT / "README.md").read_text("utf-8")
    examples = re.findall(r"^```python\n(.*?)^```$", readme, re.M | re.S)
    assert len(examples) == 2
    example = examples[index]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
