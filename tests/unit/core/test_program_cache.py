"""Programs are kept between processes, unless JAX was told otherwise."""

import os
import subprocess
import sys

import pytest

from mepjax._core import program_cache

_COMPILES = """
import sys, jax, jax.numpy as jnp
from mepjax._core.program_cache import keep_programs
jax.jit(lambda x: x - 1)(jnp.ones(3))  # JAX has decided by now that there is no cache
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
folder = keep_programs()
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones(3))
print(folder, sum("cache_hits" in event for event in hits))
"""


def run(code, home, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XDG_"))}
    kept |= {"XDG_CACHE_HOME": str(home), "HOME": str(home), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names the folder of Linux")
def test_the_second_process_compiles_nothing(tmp_path):
    folder, hits = run(_COMPILES, tmp_path)
    assert folder.startswith(str(tmp_path / "mepjax")) and hits == "0"
    again, hits = run(_COMPILES, tmp_path)
    assert again == folder and int(hits) >= 1


def test_jax_s_own_variables_stand(tmp_path):
    own = str(tmp_path / "own")
    assert run(_COMPILES, tmp_path, JAX_COMPILATION_CACHE_DIR=own)[0] == "None"
    assert run(_COMPILES, tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")[0] == "None"
    assert not (tmp_path / "mepjax").exists()


def test_import_keeps_nothing(tmp_path):
    code = "import mepjax, jax; print(jax.config.jax_compilation_cache_dir)"
    assert run(code, tmp_path) == ["None"] and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(_COMPILES, tmp_path / "file") == ["None", "0"]


def test_the_oldest_programs_go_first(tmp_path):
    for age, name in enumerate(("new", "middle", "old")):
        file = tmp_path / name
        file.write_bytes(bytes(100))
        os.utime(file, (1e9 - age, 1e9 - age))
    program_cache._trim(tmp_path, 250)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["middle", "new"]
    program_cache._trim(tmp_path, 0)
    assert not list(tmp_path.iterdir())
