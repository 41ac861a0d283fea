"""Executors: where the sums over data are computed; and points that stay on disk."""

from .from_disk import FromDisk
from .in_memory import InMemory
from .sharded import Sharded
from .sources import Rows
from .streaming import Streaming

__all__ = ["FromDisk", "InMemory", "Rows", "Sharded", "Streaming"]
