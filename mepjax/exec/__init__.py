"""Executors, where sums over data are computed; points that stay on disk; several processes."""

from .from_disk import FromDisk
from .in_memory import InMemory
from .launch import WorkerLost, join, launch
from .sharded import Sharded
from .sources import Rows
from .streaming import Streaming

__all__ = [
    "FromDisk",
    "InMemory",
    "Rows",
    "Sharded",
    "Streaming",
    "WorkerLost",
    "join",
    "launch",
]
