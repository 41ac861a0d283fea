"""Compiled programs kept in the user's cache folder, for commands that run again and again."""

import contextlib
import hashlib
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

# What the folder may hold, in bytes; the programs that were not used for longest go first.
_MOST = 1 << 29

_FOLDER = "jax_compilation_cache_dir"
_SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


def keep_programs() -> Path | None:
    """Let JAX keep every program that it compiles from now on, and find it there next time.

    For commands, never called on import. Where JAX's own setting or environment variable
    (`JAX_COMPILATION_CACHE_DIR`, `JAX_ENABLE_COMPILATION_CACHE`) already says where programs are
    kept, or that none are, that stands. Programs are keyed by what is compiled and by JAX's version
    (by JAX) and by the processor (by the folder's name).

    **Returns:** the folder; `None` where nothing is kept by this call.

    **Example:** commands call it before they compile anything.

    ```python
    >>> from mepjax._core.program_cache import cache_folder
    >>> cache_folder().parent.name
    'mepjax'

    ```
    """
    if jax.config.values[_FOLDER] or not jax.config.values["jax_enable_compilation_cache"]:
        return None
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _trim(folder, _MOST)
    except OSError:
        return None  # such as a home that cannot be written to
    if not os.access(folder, os.W_OK):
        return None
    for name, value in _SETTINGS.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    jax.config.update(_FOLDER, str(folder))
    # JAX decides at its first program whether there is a cache.
    compilation_cache.reset_cache()
    return folder


def cache_folder() -> Path:
    """Where this user's programs for this processor are kept: one folder for each kind of it."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    # A home folder may be shared by machines whose processors differ.
    kind = f"{version('jaxlib')} {platform.machine()} {platform.processor()} {_features()}"
    return Path(base) / "mepjax" / f"programs-{hashlib.sha256(kind.encode()).hexdigest()[:12]}"


def _features() -> str:
    """What the processor can do, where the system tells."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return ""


def _trim(folder: Path, most: int) -> None:
    """Delete the files that were used longest ago until at most `most` bytes are left."""
    files = []
    for file in folder.iterdir():
        with contextlib.suppress(OSError):
            stat = file.stat()
            files.append((max(stat.st_atime, stat.st_mtime), stat.st_size, file))
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files, key=lambda entry: entry[0]):
        if total <= most:
            return
        with contextlib.suppress(OSError):
            file.unlink()
        total -= size
