"""Build the API page: python docs/build.py [FOLDER]. Fails on an undocumented public name."""

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODULES = (
    "mepjax",
    "mepjax.autonomy",
    "mepjax.costs",
    "mepjax.paths",
    "mepjax.datasets",
    "mepjax.exec",
    "mepjax.plot",
    "mepjax.estimators",
    "mepjax.learn",
    "mepjax.control",
    "mepjax.mdp",
    "mepjax.select",
)
_PAGES = {
    "mepjax.autonomy": "mepjax.problems.autonomy",
    "mepjax.costs": "mepjax.problems.costs",
    "mepjax.paths": "mepjax.problems.paths",
}


def public_names(module: str) -> Iterator[tuple[str, Any]]:
    """Names and objects of a module's `__all__`."""
    loaded = importlib.import_module(_PAGES.get(module, module))
    for name in loaded.__all__:
        yield f"{module}.{name}", getattr(loaded, name)


def undocumented() -> list[str]:
    """Public names, and public methods of public classes, that have no docstring."""
    missing = []
    for module in MODULES:
        for path, thing in public_names(module):
            if not inspect.getdoc(thing):
                missing.append(path)
            if inspect.isclass(thing) and thing.__module__.startswith("mepjax"):
                missing += [
                    f"{path}.{name}"
                    for name, member in vars(thing).items()
                    if not name.startswith("_")
                    and (inspect.isfunction(member) or isinstance(member, property))
                    and not inspect.getdoc(getattr(thing, name))
                ]
    return sorted(set(missing))


def build(folder: Path) -> None:
    """Write the HTML pages of all public modules."""
    import pdoc
    import pdoc.render

    # pdoc looks into modules as they stand: what they import when asked would have no page.
    for module in MODULES:
        loaded = importlib.import_module(_PAGES.get(module, module))
        for path, thing in public_names(module):
            setattr(loaded, path.rpartition(".")[2], thing)
    pdoc.render.configure(docformat="markdown", math=True, footer_text="mepjax")
    pdoc.pdoc("mepjax", output_directory=folder)


if __name__ == "__main__":
    missing = undocumented()
    if missing:
        sys.exit("undocumented public names:\n  " + "\n  ".join(missing))
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/_build")
    build(target)
    print(f"wrote {target / 'index.html'}")
