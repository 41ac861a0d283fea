import os
from pathlib import Path

import pytest

from mepjax.cli.errors import CommandError
from mepjax.cli.report import folder as files
from mepjax.cli.report.folder import check_folder, new_files

NAMES = ("a.txt", "b.txt")


def _contents(folder: Path) -> dict[str, str]:
    found = folder.rglob("*")
    return {str(path.relative_to(folder)): path.read_text() for path in found if path.is_file()}


def _everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _write(folder: Path, text: str) -> None:
    with new_files(folder) as place:
        for name in NAMES:
            place(name).write_text(text)


def test_folders_are_made_and_files_replaced(tmp_path):
    folder = tmp_path / "deep" / "out"
    _write(folder, "one")
    assert _everything(tmp_path) == ["deep", "deep/out", "deep/out/a.txt", "deep/out/b.txt"]
    (folder / "mine.txt").write_text("kept")
    _write(folder, "two")
    assert _contents(folder) == {"a.txt": "two", "b.txt": "two", "mine.txt": "kept"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("exists", [True, False])
def test_an_error_while_writing_leaves_nothing(tmp_path, error, exists):
    folder = tmp_path / "deep" / "out"
    if exists:
        _write(folder, "old")
    before = _everything(tmp_path)
    expected = CommandError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected), new_files(folder) as place:
        place("a.txt").write_text("new")
        place("b.txt").write_text("half")
        raise error
    assert _everything(tmp_path) == before
    assert set(_contents(tmp_path).values()) <= {"old"}


@pytest.mark.parametrize(
    ("exists", "failing"), [(False, 0), (False, 1), (True, 0), (True, 1), (True, 2), (True, 3)]
)
def test_an_error_while_moving_restores_what_was_there(tmp_path, monkeypatch, exists, failing):
    folder = tmp_path / "deep" / "out"
    if exists:
        _write(folder, "old")
    before, calls, replace = _everything(tmp_path), [0], os.replace

    def fail_once(source, target):
        calls[0] += 1
        if calls[0] == failing + 1:
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fail_once)
    with pytest.raises(CommandError, match="--out .* cannot be written .Input/output error."):
        _write(folder, "new")
    assert _everything(tmp_path) == before
    assert set(_contents(tmp_path).values()) <= {"old"}


@pytest.mark.parametrize("failing", [None, 0, 1, 2])
def test_earlier_results_are_not_mixed_with_new_ones(tmp_path, monkeypatch, failing):
    _write(tmp_path, "old")
    (tmp_path / "mine.txt").write_text("kept")
    before, calls, replace = _contents(tmp_path), [0], os.replace

    def fail_once(source, target):
        calls[0] += 1
        if failing is not None and calls[0] == failing + 1:
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fail_once)
    if failing is None:
        with new_files(tmp_path, (*NAMES, "absent.txt")) as place:
            place("a.txt").write_text("new")
        assert _contents(tmp_path) == {"a.txt": "new", "mine.txt": "kept"}
    else:
        with pytest.raises(CommandError), new_files(tmp_path, NAMES) as place:
            place("a.txt").write_text("new")
        assert _contents(tmp_path) == before


def test_the_check_leaves_nothing(tmp_path):
    check_folder(tmp_path / "deep" / "out", force=False, names=NAMES)
    check_folder(tmp_path, force=False, names=NAMES)
    assert _everything(tmp_path) == []


def test_earlier_results_are_kept_unless_forced(tmp_path):
    (tmp_path / "b.txt").write_text("old")
    with pytest.raises(CommandError, match="b.txt; expected another folder, or --force"):
        check_folder(tmp_path, force=False, names=NAMES)
    check_folder(tmp_path, force=True, names=NAMES)


def test_what_cannot_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "out" / "a.txt").mkdir(parents=True)
    with pytest.raises(CommandError, match="got a file"):
        check_folder(tmp_path / "file", force=True, names=NAMES)
    with pytest.raises(CommandError, match="got a file"):
        check_folder(tmp_path / "link", force=True, names=NAMES)
    with pytest.raises(CommandError, match="cannot be written"):
        check_folder(tmp_path / "file" / "out", force=True, names=NAMES)
    with pytest.raises(CommandError, match="got a folder named a.txt"):
        check_folder(tmp_path / "out", force=True, names=NAMES)
    with pytest.raises(CommandError, match="cannot be written"):
        check_folder(tmp_path / "long" / ("x" * 300), force=True, names=NAMES)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere"
)
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CommandError, match="cannot be written"):
            check_folder(tmp_path / "out", force=True, names=NAMES)
    finally:
        tmp_path.chmod(0o700)
