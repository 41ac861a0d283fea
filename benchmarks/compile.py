"""Import time, and first calls of an anneal: each in a fresh process with no compilation cache."""

import os
import subprocess
import sys
from typing import Any

_IMPORT = """
import time
start = time.perf_counter(); import jax; middle = time.perf_counter()
import mepjax
print(time.perf_counter() - middle)
"""

_CALL = """
import sys, time
import numpy as np, jax, jax.numpy as jnp, equinox as eqx
import mepjax as mj
jax.block_until_ready(jnp.zeros(3) + 1)
what, model = sys.argv[1:]
x = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
autonomy = {"none": None, "softmax": mj.autonomy.Softmax(0.3, gamma=0.5)}[model]
key = jax.random.key(0)
start = time.perf_counter()
problem = mj.Clustering(x, 4, autonomy=autonomy)
def loss(scale):
    moved = eqx.tree_at(lambda p: p.x, problem, problem.x * scale)
    return jnp.sum(mj.anneal(moved, key=key).params[:, 0] ** 2)
if what == "value":
    out = mj.anneal(problem, key=key)
elif what == "gradient":
    out = eqx.filter_jit(eqx.filter_grad(
        lambda p: jnp.sum(mj.anneal(p, key=key).params[:, 0] ** 2)))(problem)
else:
    out = jax.jit(jax.hessian(loss))(jnp.float32(1.0))
jax.block_until_ready(eqx.filter(out, eqx.is_array))
print(time.perf_counter() - start)
"""


def _seconds(code: str, *arguments: str) -> float:
    # No persistent compilation cache: compiling is what is measured.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
    command = [sys.executable, "-c", code, *arguments]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)


def run() -> list[dict[str, Any]]:
    """Best of three for each."""
    bars = {"import": 0.8, "value": 3.0, "gradient": 5.0, "hessian": 8.0}
    rows = []
    best = min(_seconds(_IMPORT) for _ in range(3))
    rows.append({"what": "import beyond jax", "seconds": best, "bar": bars["import"]})
    for model in ("none", "softmax"):
        for what in ("value", "gradient", "hessian"):
            best = min(_seconds(_CALL, what, model) for _ in range(3))
            bar = bars[what] if model == "none" else "told"
            rows.append({"what": f"{what}, {model}", "seconds": best, "bar": bar})
    return rows
