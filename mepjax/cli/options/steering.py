"""Options that say how a population is steered."""

from dataclasses import dataclass
from typing import Annotated

import typer

from ... import mdp
from ...solvers.base import AbstractSolver
from ..errors import CommandError
from .checks import Checked, numeric, require

_CLUSTERS = 2
_METHODS = {
    "hybrid": mdp.Hybrid(),
    "cvi": mdp.CVI(),
    "mpi": mdp.ModifiedPolicyIteration(),
    "vi": mdp.ValueIteration(),
}


@dataclass(frozen=True, kw_only=True)
class SteeringOptions(Checked):
    """Clusters and method; fields bear the options' names."""

    clusters: Annotated[
        int | None,
        numeric(
            "--clusters",
            int,
            help="Number of clusters, found by greedy splitting.",
            show_default="2",
        ),
    ] = None
    labels: Annotated[
        str | None, typer.Option(help="Cluster of every agent, such as 0,0,1.", show_default="none")
    ] = None
    method: Annotated[
        str, typer.Option(help="hybrid (optimal), cvi (fast), mpi or vi (all joint signals).")
    ] = "hybrid"

    def __post_init__(self) -> None:
        self.check_choice("method", tuple(_METHODS))
        if self.labels is not None and self.clusters is not None:
            raise CommandError("--labels: got --clusters too; expected one of them.")
        _ = self.given_labels
        if self.clusters is not None:
            require(self.clusters >= 1, "--clusters", self.clusters, "at least 1")

    @property
    def given_labels(self) -> list[int] | None:
        """The cluster of every agent, where it is given."""
        if self.labels is None:
            return None
        try:
            return [int(part) for part in self.labels.split(",")]
        except ValueError:
            raise CommandError(
                f"--labels: got {self.labels!r:.80}; expected integers separated by commas."
            ) from None

    @property
    def n_clusters(self) -> int:
        """How many clusters to find where none are given."""
        return self.clusters or _CLUSTERS

    @property
    def solver(self) -> AbstractSolver:
        """The method in effect."""
        return _METHODS[self.method]
