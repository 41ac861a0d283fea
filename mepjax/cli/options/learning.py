"""Options that say how an autonomy is learnt from a log."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import mepjax as mj

from ..._core.padding import padded_size
from .checks import Checked, numeric, require


@dataclass(frozen=True, kw_only=True)
class LearningOptions(Checked):
    """Learner, sharing and centres; fields bear the options' names."""

    centres: Annotated[
        Path | None,
        typer.Option(
            help="The centres that were in force: K rows with the columns of POINTS, in each round "
            "if there is a column round. Needed by the structured learner.",
            show_default=False,
        ),
    ] = None
    learner: Annotated[
        str | None,
        typer.Option(
            help="structured: overrides go to what is near; counts: a table of told and went; "
            "aden: a network for average costs, from a column cost, where nobody saw who went "
            "where (needs --centres, of many rounds).",
            show_default="structured with --centres, else counts",
        ),
    ] = None
    share: Annotated[
        str,
        typer.Option(
            help="pooled: one table, or one kappa, for all points; none: a table for each "
            "(counts); or a column of POINTS: one for each of its values (leave it out of "
            "--columns)."
        ),
    ] = "pooled"

    steps: Annotated[
        int, numeric("--steps", int, help="Steps of training the network of --learner aden.")
    ] = 3000

    def __post_init__(self) -> None:
        self.check_choice("learner", ("structured", "counts", "aden"))
        require(self.steps >= 1, "--steps", self.steps, "at least 1")

    @property
    def kind(self) -> str:
        """The learner in effect."""
        return self.learner or ("counts" if self.centres is None else "structured")


@dataclass(frozen=True)
class Learnt:
    """What was learnt: takes the place of the options that give an autonomy."""

    fitted: mj.learn.Fitted
    truth: dict[str, float] | None = None

    @property
    def kind(self) -> str:
        """`softmax` where the autonomy moves with the centres."""
        return "softmax" if self.fitted.autonomy.depends_on_centres else "matrix"

    @property
    def parameters(self) -> dict[str, float]:
        """Its numbers where they are single ones."""
        return {k: float(v) for k, v in self.fitted.values.items() if np.ndim(v) == 0}

    @property
    def description(self) -> str:
        """Such as `learnt autonomy (kappa 0.3, ...)`."""
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in self.parameters.items())
        return "learnt autonomy" + (f" ({numbers})" if numbers else "")

    def is_aware(self, k: int) -> bool:
        """Whether it can change anything."""
        return k > 1

    def probabilities(self, k: int) -> None:
        """No file holds it."""
        return None

    def model(self, k: int, probabilities: None, dtype: Any) -> Any:
        """The model for the points and the rows of weight zero after them."""
        model = self.fitted.autonomy
        by_entity = [
            leaf
            for leaf in (
                getattr(model, "group", None),
                getattr(model, "kappa", None),
                getattr(model, "p", None),
            )
            if leaf is not None and np.ndim(leaf) in (1, 3)
        ]
        if by_entity and not (np.ndim(by_entity[0]) == 3 and hasattr(model, "group")):
            n = len(by_entity[0])
            return model.of_entities(np.arange(padded_size(n)) % n)
        return model
