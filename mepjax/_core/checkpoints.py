"""What files of work under way share: whole or not at all, checksums, and whose they are."""

import contextlib
import hashlib
import os
import platform
import secrets
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import jax

# Parts that differ, named in an error.
_NAMED = 3


class CheckpointWarning(UserWarning):
    """A checkpoint was written by other versions or on another kind of device."""


def compare(
    owner: str, file: Path, whose: str, there: Mapping[str, str], here: Mapping[str, str]
) -> None:
    """Raise `ValueError` where what a file was written for is not what it is read for."""
    different = differences(there, here)
    if not different:
        return
    more = len(different) - _NAMED
    named = "; ".join(different[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
    raise ValueError(f"{owner}: {file} belongs to {whose}: {named}.")


def check_format(owner: str, file: Path, header: Mapping[str, Any], form: int) -> None:
    """Raise `ValueError` for what another version of mepjax wrote in another form."""
    if header["format"] != form:
        raise ValueError(
            f"{owner}: {file} has format {header['format']}, of mepjax "
            f"{header['versions']['mepjax']}; this version reads {form}."
        )


def warn_of_versions(owner: str, file: Path, header: Mapping[str, Any]) -> None:
    """A `CheckpointWarning` to the caller of `load` where bits may differ."""
    changed = differences(header["versions"], versions())
    if changed:
        warnings.warn(
            f"{owner}: {file} was written with other versions, so bits may differ: "
            f"{'; '.join(changed)}.",
            CheckpointWarning,
            stacklevel=3,
        )


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Which parts differ, in words."""
    names = dict.fromkeys((*there, *here))
    return [
        f"`{name}` was {there.get(name, 'not there')}, is {here.get(name, 'not there')}"
        for name in names
        if there.get(name) != here.get(name)
    ]


def versions() -> dict[str, str]:
    """What the bits of a result may depend on."""

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "unknown"

    return {
        **{package: installed(package) for package in ("mepjax", "jax", "jaxlib", "equinox")},
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
    }


def checksum(content: bytes) -> bytes:
    """SHA-256, as a line of hexadecimal digits."""
    return hashlib.sha256(content).hexdigest().encode() + b"\n"


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """A stream beside the file, moved over it at the end, so that it is never half written."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def replace_file(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(file) as stream:
        stream.write(content)
