"""Programs and kernels of first calls are counted, so that they do not creep back.

Compile time is proportional to kernels, about a hundredth of a second each. XLA itself writes down
what it compiled; nothing here is timed. A bound that is met with room to spare should be lowered.
"""

import os
import re
import subprocess
import sys

import jax
import pytest

# Calls, the programs they may compile in a fresh process, in this order, and the kernels in these.
BOUNDS = {
    "value": (12, 315),
    "gradient": (13, 95),
    "hessian": (40, 490),
    "start given": (3, 5),
    "estimator": (20, 490),
    "another size of that order": (0, 0),
    "softmax": (21, 1740),
    "command": (18, 500),
    "command with softmax": (21, 1780),
}

_CODE = """
import sys
from pathlib import Path
import numpy as np, jax, jax.numpy as jnp, equinox as eqx
import mepjax as mj
from mepjax.cli import main
from mepjax.estimators import AutonomyAwareClustering

folder, seen = Path(sys.argv[1]), set()

def count(name, call):
    jax.block_until_ready(eqx.filter(call(), eqx.is_array))
    new = set(folder.glob("*cpu_after_optimizations.txt")) - seen
    seen.update(new)
    kernels = sum(path.read_text().count(" fusion(") for path in new)
    print(f"{name}: {len(new)} {kernels}")

x = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
problem, key = mj.Clustering(x, 4), jax.random.key(0)
loss = lambda q: jnp.sum(mj.anneal(q, key=key).params ** 2)
loss_of_scale = lambda s: loss(eqx.tree_at(lambda q: q.x, problem, problem.x * s))
count("value", lambda: mj.anneal(problem, key=key).params)
count("gradient", lambda: eqx.filter_grad(loss)(problem))
count("hessian", lambda: jax.hessian(loss_of_scale)(jnp.float32(1.0)))
start = problem.x[:4] + 0.1
count("start given", lambda: mj.anneal(problem, key=key, init=start).params)

def fit(n, **options):
    return AutonomyAwareClustering(3, random_state=0, **options).fit(x[:n]).cluster_centers_

count("estimator", lambda: fit(300))
count("another size of that order", lambda: fit(290))
count("softmax", lambda: fit(300, kappa=0.3, temperature=0.1))

def command(*options):
    out = folder / f"out{len(options)}"
    sys.argv = ["mepjax", "cluster", str(table), "-k", "3", "--out", str(out), "--no-cache"]
    sys.argv += options
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code

table = folder / "points.csv"
np.savetxt(table, x, delimiter=",", header="x,y", comments="")
count("command", command)
count("command with softmax", lambda: command("--kappa", "0.3", "--temperature", "0.1"))
"""


# XLA cuts the same programs into other numbers of kernels from one version to the next.
@pytest.mark.skipif(not jax.__version__.startswith("0.10."), reason="bounds are of jax 0.10")
@pytest.mark.slow
def test_no_more_programs_and_kernels_than_before(tmp_path):
    own = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_FLAGS"))}
    own["MPLBACKEND"] = "Agg"
    own["XLA_FLAGS"] = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text"
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(tmp_path)],
        env=own, capture_output=True, text=True, check=True,
    )  # fmt: skip
    counted = re.findall(r"^(.*): (\d+) (\d+)$", done.stdout, re.MULTILINE)
    assert [name for name, *_ in counted] == list(BOUNDS)
    for name, programs, kernels in counted:
        most = BOUNDS[name]
        told = f"{name}: {programs} programs and {kernels} kernels; at most {most} expected"
        assert int(programs) <= most[0] and int(kernels) <= most[1], told
    # The count counts.
    assert int(counted[0][2]) > 100
