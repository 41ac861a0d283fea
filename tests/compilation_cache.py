"""Where compiled programs are kept between runs of the tests on one machine.

    python tests/compilation_cache.py FOLDER     prints the folder in FOLDER for these versions

A program in the cache is one for these versions and this kind of processor; JAX's own key has the
program, the flags and the versions in it, so that an empty folder only costs time.
"""

import hashlib
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

# A folder that nothing has been read from for so long belongs to versions gone by.
DAYS_KEPT = 30


def folder(base: Path) -> Path:
    """The folder for these versions, made where it is missing."""
    processor = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        flags = [line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")]
        processor += "-" + hashlib.sha256("".join(flags[:1]).encode()).hexdigest()[:8]
    python = "python" + ".".join(platform.python_version_tuple()[:2])
    path = base / "-".join(
        ("jax" + version("jax"), "jaxlib" + version("jaxlib"), python, processor)
    )
    path.mkdir(parents=True, exist_ok=True)
    return path


def forget_old(path: Path, days: float = DAYS_KEPT) -> int:
    """Removes programs that were neither written nor read for `days`; how many."""
    limit, gone = time.time() - days * 86_400, 0
    for file in path.iterdir():
        status = file.stat()
        if max(status.st_atime, status.st_mtime) < limit:
            file.unlink(missing_ok=True)
            gone += 1
    return gone


if __name__ == "__main__":
    found = folder(Path(sys.argv[1]).expanduser())
    forget_old(found)
    print(found)
