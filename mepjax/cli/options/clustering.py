"""What `mepjax cluster` is asked for."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer

from ...select.starts import default_starts
from ..errors import CommandError
from .anneal import AnnealOptions
from .autonomy import AutonomyOptions
from .capacity import Capacity, read_shares
from .checks import numeric, require


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """What is clustered how; fields bear the options' names."""

    k: Annotated[int | None, numeric("-k", int, help="Number of clusters.", show_default=False)] = (
        None
    )
    capacity: Annotated[
        str | None,
        typer.Option(
            help="Bounds on the share of weight told to join each cluster, such as .5,.5,.2; "
            "after = they are to be met, such as =.5,.3,.2; or equal, for sizes all alike.",
            show_default=False,
        ),
    ] = None
    sample: Annotated[
        int,
        numeric(
            "--sample",
            int,
            help="Points drawn for all stages but the last, where clusters can grow; 0: all.",
        ),
    ] = 10_000
    animate: Annotated[
        bool, typer.Option("--animate", help="Also write anneal.gif, a film of the anneal.")
    ] = False


@dataclass(frozen=True)
class Request:
    """What is asked for: `k`, the number of clusters, options, and what their files hold."""

    k: int
    cluster: ClusterOptions
    autonomy: AutonomyOptions
    anneal: AnnealOptions
    matrix: np.ndarray | None = None
    capacity: Capacity | None = None

    @classmethod
    def of(
        cls, cluster: ClusterOptions, autonomy: AutonomyOptions, anneal: AnnealOptions
    ) -> "Request":
        """Check the options and read the files they name.

        **Raises:** `CommandError` for a value out of range or a file that does not fit.
        """
        k, capacity = cluster.k, cluster.capacity
        if k is None:
            raise CommandError("-k: got none; expected the number of clusters.")
        require(k >= 1, "-k", k, "at least 1")
        require(cluster.sample >= 0, "--sample", cluster.sample, "at least 0")
        return cls(
            k, cluster, autonomy, anneal, autonomy.probabilities(k),
            None if capacity is None else read_shares("--capacity", capacity, k),
        )  # fmt: skip

    def check_size(self, n: int) -> None:
        """Raise `CommandError` for more clusters than points."""
        require(self.k <= n, "-k", self.k, f"at most one cluster a point, {n}")

    @property
    def starts(self) -> int:
        """Restarts in effect; softmax autonomy has more local minima than others."""
        return self.anneal.restarts or default_starts(self.autonomy.kind == "softmax")

    @property
    def is_aware(self) -> bool:
        """Whether there is autonomy that can change anything."""
        return self.autonomy.is_aware(self.k)

    @property
    def long_runs(self) -> int:
        """How many whole anneals there will be."""
        ways = 1 if not self.is_aware else 3 if self.autonomy.kind == "softmax" else 2
        return ways * self.starts

    def excess(self, told: np.ndarray) -> np.ndarray | None:
        """By how much shares (K,) exceed their bounds, or miss them; `None` without bounds."""
        if self.capacity is None:
            return None
        gap = told - self.capacity.values
        return gap if self.capacity.equal else np.maximum(gap, 0.0)

    @property
    def facts(self) -> dict[str, Any]:
        """The model, as `report.json` has it."""
        capacity, p = self.capacity, self.matrix
        return {
            "k": self.k,
            "autonomy": {
                "model": self.autonomy.kind,
                **self.autonomy.parameters,
                **({} if p is None else {"p": p.tolist()}),
            },
            "capacity": None
            if capacity is None
            else {
                "kind": "equal" if capacity.equal else "bounds",
                "shares": [v if math.isfinite(v) else None for v in capacity.values.tolist()],
            },
        }

    def settings(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a report, as the page has them."""
        words = ", ".join(f"{k} {v}" for k, v in options["autonomy"].items() if k != "p")
        return {**options, "autonomy": words}
