"""The executor for several devices, each of which holds a part of the data."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec
from jaxtyping import Array, Float

from .._core.checks import is_concrete
from .base import AbstractBlocks
from .sources import Rows, Source, check_no_others


class Sharded(AbstractBlocks):
    """Data divided among devices; every device sums its part in blocks, then all add up.

    On a CPU, `XLA_FLAGS=--xla_force_host_platform_device_count=2` in the environment makes two
    devices of one, which uses both cores. Devices may be those of several processes, which
    `mepjax.exec.launch` starts on one machine and in which `load` reads points from disk. That is
    tested with two processes of one machine; several hosts are the same to JAX, but untested.

    **Arguments:**

    - `mesh`: a `jax.sharding.Mesh`; the data are divided along all of its axes. Default: all
        devices. The number of entities must be a multiple of the number of devices (entities of
        weight zero change nothing).
    - `block`: rows of a block; default as many as stay in a cache.

    **Raises:** `TypeError`, `ValueError` for a mesh or a block of the wrong kind; `ValueError` when
    the number of entities does not divide.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
    >>> problem = mj.Clustering(jnp.array([[-1.1], [-0.9], [0.9], [1.1]]), k=2)
    >>> sol = mj.anneal(problem, key=jax.random.key(0), executor=mj.Sharded(mesh))
    >>> print(f"{problem.harden(sol.params).cost:.3f}")
    0.010

    ```
    """

    mesh: Mesh = eqx.field(static=True)

    def __init__(self, mesh: Mesh | None = None, block: int | None = None) -> None:
        super().__init__(block)
        if mesh is None:
            mesh = Mesh(np.array(jax.devices()), ("data",))
        if not isinstance(mesh, Mesh):
            raise TypeError(
                f"Sharded: `mesh` must be a jax.sharding.Mesh; got {type(mesh).__name__} {mesh!r}."
            )
        if mesh.size == 0:
            raise ValueError("Sharded: `mesh` must have at least one device; got an empty one.")
        # `jax.make_mesh` makes explicit axes, along which an array has one fixed sharding.
        self.mesh = Mesh(mesh.devices, mesh.axis_names)

    @property
    def axes(self) -> tuple[str, ...]:
        """All axes of the mesh."""
        return self.mesh.axis_names

    def load(self, rows: Rows) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """Points on disk and their weights, divided among the devices.

        Every process reads the rows of its own devices. Rows of weight zero, which change nothing,
        fill up the number that the devices divide: give the weights to the problem.

        **Arguments:** `rows`: a `mepjax.exec.Rows`, the same in every process.

        **Returns:** `x`, shape (n, d), and `weights`, shape (n,). Of several processes none can
        look at all of them, so that what else than `anneal` is asked of a problem goes through a
        program whose argument it is: `jax.jit(mj.Clustering.free_energy)(problem, params, beta)`.

        **Raises:** `TypeError` for anything but `Rows`.

        **Example:**

        ```python
        >>> import jax, mepjax as mj, numpy as np, pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "points.npy"
        >>> np.save(file, np.array([[-1.1], [-0.9], [0.9], [1.1]], np.float32))
        >>> executor = mj.Sharded()
        >>> x, weights = executor.load(mj.exec.Rows(file))
        >>> problem = mj.Clustering(x, 2, weights=weights).on(executor)
        >>> print(np.sort(mj.anneal(problem, key=jax.random.key(0)).params[:, 0]))
        [-1.  1.]

        ```
        """
        if not isinstance(rows, Rows):
            raise TypeError(
                f"Sharded: `rows` must be a mepjax.exec.Rows; got {type(rows).__name__}."
            )
        check_no_others("Sharded", rows)
        source, devices = rows.source, self.mesh.size
        n = -(-source.n // devices) * devices
        source.table.check_unchanged()
        # Points and weights are asked for apart, device by device.
        read = functools.lru_cache(maxsize=devices)(
            lambda first, last: _filled(source, first, last)
        )

        def part(which: int) -> Callable[[Any], np.ndarray]:
            return lambda index: read(*index[0].indices(n)[:2])[which]

        sharding = NamedSharding(self.mesh, Spec(self.axes))
        x = jax.make_array_from_callback((n, source.d), sharding, part(0))
        weights = jax.make_array_from_callback((n,), sharding, part(1))
        source.table.check_unchanged()
        return x, weights

    def check(self, n: int) -> None:
        """Whether the devices divide the number of entities."""
        devices = self.mesh.size
        if n % devices:
            raise ValueError(
                f"Sharded: the number of entities must be a multiple of the {devices} devices of "
                f"`mesh`; got {n}. Add {-n % devices} entities of weight 0, or use fewer devices."
            )

    def place(self, per_entity: Any, shared: Any) -> tuple[Any, Any]:
        """Rows divided among the devices; everything else on all of them."""
        if not is_concrete(per_entity, shared) or jax.process_count() > 1:
            # Inside a program, or of several processes: where they were loaded to.
            return per_entity, shared
        rows = NamedSharding(self.mesh, Spec(self.axes))
        everywhere = NamedSharding(self.mesh, Spec())
        return jax.device_put(per_entity, rows), jax.device_put(shared, everywhere)

    def everywhere(self, per_entity: Any) -> Any:
        """Gathered: across devices XLA sums or sorts rows in time quadratic in their number."""
        return jax.lax.with_sharding_constraint(per_entity, NamedSharding(self.mesh, Spec()))

    def sum(
        self,
        function: Callable[..., Any],
        args: Any,
        shares: Float[Array, " n"],
        *data: Any,
        columns: int,
    ) -> Any:
        """Every device over its own rows, then over the devices."""
        of_device = super().sum

        def local(args: Any, shares: Array, *data: Any) -> Any:
            # Derivatives that `function` takes in `args` are each device's own, to be added below.
            args = jax.lax.pcast(args, self.axes, to="varying")
            total = of_device(function, args, shares, *data, columns=columns)
            return jax.lax.psum(total, self.axes)

        specs = Spec(), *self._specs(shares, *data)
        mapped = jax.shard_map(local, mesh=self.mesh, in_specs=specs, out_specs=Spec())
        return mapped(args, shares, *data)

    def map(self, function: Callable[..., Any], args: Any, *data: Any, columns: int) -> Any:
        """Every device its own rows."""
        of_device = super().map

        def local(args: Any, *data: Any) -> Any:
            return of_device(function, args, *data, columns=columns)

        specs = Spec(), *self._specs(*data)
        mapped = jax.shard_map(local, mesh=self.mesh, in_specs=specs, out_specs=Spec(self.axes))
        return mapped(args, *data)

    def _specs(self, *data: Any) -> list[Spec]:
        """Rows divided, scalars everywhere."""
        return [Spec(self.axes) if jnp.ndim(a) else Spec() for a in data]


def _filled(source: Source, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows [first, last), of which those past the end are the first of all with weight zero."""
    end = max(first, min(last, source.n))
    x, weights = source.read(first, end) if end > first else source.read(0, 0)
    more = last - first - len(x)
    if more:
        x = np.concatenate([x, np.repeat(source.read(0, 1)[0], more, axis=0)])
        weights = np.concatenate([weights, np.zeros(more, weights.dtype)])
    return x, weights
