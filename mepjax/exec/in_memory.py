"""The executor that holds all data on one device."""

from .base import AbstractExecutor


class InMemory(AbstractExecutor):
    """All data on one device (default); in blocks only where that is faster.

    **Example:**

    ```python
    >>> import mepjax as mj
    >>> mj.InMemory().in_blocks
    False

    ```
    """

    @property
    def in_blocks(self) -> bool:
        """Arrays with a row for every entity are welcome."""
        return False
