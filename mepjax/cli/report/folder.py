"""A folder that receives all the files of a report or none."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import CommandError
from . import csv, figures, geojson, html, json
from .model import Extra, Figure, Report, Table

# The names of the files that commands write. Results of two runs, of whichever command, are never
# mixed in one folder.
RESULTS = (
    "report.json", "report.html",
    "centres.csv", "assignments.csv", "assignments.parquet", "clusters.png",
    "centres.geojson", "assignments.geojson",
    "anneal.gif", "autonomy.json", "coverage.csv", "learnt.png",
    "facilities.csv", "routes.csv", "routes.png", "facilities.geojson", "routes.geojson",
    "agents.csv", "policy.csv", "splits.csv", "steered.png",
    "sizes.csv", "returns.png", "superstates.csv", "transitions.csv", "aggregation.png",
    "track.csv", "track.json", "track.png", "track.gif",
    "coefficients.csv", "path.csv", "sparse_path.png",
    "places.csv", "sensitivities.csv", "plan.png",
)  # fmt: skip


def write(folder: Path, report: Report) -> tuple[str, ...]:
    """Write a report to `folder`, or nothing.

    **Returns:** the names of the files: `report.json`, `report.html`, a CSV a table, a GeoJSON a
    map, a PNG a figure that is a file, and what else there is.

    **Raises:** `CommandError` where they cannot be written.
    """
    written: list[str] = []
    with new_files(folder, RESULTS) as place_of:

        def place(name: str) -> Path:
            if name not in RESULTS:
                raise ValueError(f"{name} is missing in RESULTS of {__name__}.")
            written.append(name)
            return place_of(name)

        maps: dict[str, list[Table]] = {}
        for table in report.blocks(Table):
            if table.is_file:
                csv.write(place(f"{table.name}.csv"), table)
            if table.places is not None:
                maps.setdefault(table.map or table.name, []).append(table)
        for name, tables in maps.items():
            geojson.write(place(f"{name}.geojson"), tables)
        json.write(place("report.json"), report.facts)
        pictures = {}
        for figure in report.blocks(Figure):
            pictures[figure.name] = figures.png(figure)
            if figure.is_file:
                place(f"{figure.name}.png").write_bytes(pictures[figure.name])
        html.write(place("report.html"), report, pictures)
        for extra in report.blocks(Extra):
            extra.write(place(extra.name))
    return tuple(written)


def check_folder(folder: Path, force: bool, names: Sequence[str] = RESULTS) -> None:
    """Raise `CommandError` unless files of these names can be written to `folder`.

    Leaves nothing behind.
    """
    what = f"--out {str(folder)!r}"
    try:
        if os.path.lexists(folder) and not folder.is_dir():
            raise CommandError(f"{what}: got a file; expected a folder, or a name for a new one.")
        for name in names:
            target = folder / name
            if target.is_dir():
                raise CommandError(f"{what}: got a folder named {name}; expected none there.")
            if os.path.lexists(target) and not force:
                raise CommandError(
                    f"{what}: got a folder that has {name}; expected another folder, or --force to "
                    "overwrite."
                )
        made = _make(folder)
        try:
            os.rmdir(_scratch(folder))
        finally:
            _remove(made)
    except (OSError, ValueError) as error:
        raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: Exception) -> CommandError:
    reason = getattr(error, "strerror", None) or str(error)
    return CommandError(
        f"--out {str(folder)!r}: cannot be written ({reason}); expected a writable folder."
    )


def _make(folder: Path) -> list[Path]:
    """Make a folder and its parents where missing; those that were, innermost first."""
    made: list[Path] = []
    try:
        for path in reversed([folder, *folder.parents]):
            if not path.is_dir():
                path.mkdir()
                made.insert(0, path)
    except BaseException:
        _remove(made)
        raise
    return made


def _remove(made: Sequence[Path]) -> None:
    for path in made:
        # Somebody may have put a file there meanwhile.
        with contextlib.suppress(OSError):
            path.rmdir()


def _scratch(folder: Path) -> Path:
    """A new temporary folder inside, and so on the same disk as what will be moved out of it."""
    return Path(tempfile.mkdtemp(prefix=".mepjax-", dir=folder))


@contextlib.contextmanager
def new_files(folder: Path, replaces: Sequence[str] = ()) -> Iterator[Callable[[str], Path]]:
    """Files that appear in `folder` together when the block ends well.

    After an error nothing is left, and what `folder` held before is as it was. The folder and its
    parents are made if missing.

    **Arguments:** `replaces`: earlier files of these names go even if no new one takes their
    place, so that results of two runs are never mixed.

    **Yields:** a function from the name of a file to the path where it is to be written.
    """
    made: list[Path] = []
    scratch: Path | None = None
    names: list[str] = []
    try:
        made = _make(folder)
        scratch = _scratch(folder)
        new, old = scratch / "new", scratch / "old"
        new.mkdir()
        old.mkdir()

        def place(name: str) -> Path:
            names.append(name)
            return new / name

        yield place
        _move(names, new, folder, old, replaces)
        made = []
    except OSError as error:
        raise _unwritable(folder, error) from None
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        _remove(made)


def _move(
    names: Sequence[str], new: Path, folder: Path, old: Path, replaces: Sequence[str]
) -> None:
    """Move all files from `new` to `folder` and what they replace to `old`, or none."""
    undo: list[Callable[[], None]] = []
    try:
        for name in replaces:
            target = folder / name
            if name not in names and os.path.lexists(target):
                os.replace(target, old / name)
                undo.append(lambda name=name, target=target: os.replace(old / name, target))
        for name in names:
            target = folder / name
            if os.path.lexists(target):
                os.replace(target, old / name)
                undo.append(lambda name=name, target=target: os.replace(old / name, target))
            os.replace(new / name, target)
            undo.append(target.unlink)
    except BaseException:
        for step in reversed(undo):
            step()
        raise
