"""The executor whose memory does not grow with the data."""

from .base import AbstractBlocks


class Streaming(AbstractBlocks):
    """Sums over the data block by block on one device, computed again for derivatives.

    Beside the data themselves, memory is that of one block, in value and in gradient: for
    clustering with every autonomy and every cost that has derivatives, and for facilities on paths.

    **Arguments:** `block`: rows of a block; default as many as stay in a cache.

    **Raises:** `TypeError`, `ValueError` unless `block` is `None` or at least 1.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> x = jnp.array([[-1.1], [-0.9], [0.9], [1.1]])
    >>> problem = mj.Clustering(x, k=2, autonomy=mj.autonomy.Uniform(0.1))
    >>> sol = mj.anneal(problem, key=jax.random.key(0), executor=mj.Streaming(block=2))
    >>> print(f"{problem.harden(sol.params).cost:.3f}")
    0.370

    ```
    """

    __init__ = AbstractBlocks.__init__
