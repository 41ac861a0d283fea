"""What must work where only the bare core is installed; run outside the checkout."""

import importlib.resources
import importlib.util
import sys

import mepjax as mj

optional = {
    *("diffrax", "flax", "gymnasium", "matplotlib", "optax", "orbax", "pyarrow"),
    *("rich", "sklearn", "typer"),
}
loaded = optional & {name.partition(".")[0] for name in sys.modules}
assert not loaded, f"`import mepjax` imported {sorted(loaded)}"
present = {name for name in optional if importlib.util.find_spec(name)}
assert not present, f"the core install brought {sorted(present)}"
assert importlib.resources.files("mepjax").joinpath("py.typed").is_file()

import jax  # noqa: E402

x = jax.random.normal(jax.random.key(0), (60, 2))
solution = mj.anneal(mj.Clustering(x, k=3), key=jax.random.key(1))
solution.raise_if_failed()
print(f"mepjax {mj.__version__} on Python {sys.version.split()[0]}: F = {solution.free_energy:.4f}")
