"""Options that say how entities stray from where they are told to go."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import mepjax as mj

from ..errors import CommandError
from ..tables.points import read_matrix
from .checks import Checked, numeric, option_of, require

_KINDS = ("none", "uniform", "softmax")
_SOFTMAX = ("temperature", "zeta", "gamma")


@dataclass(frozen=True, kw_only=True)
class AutonomyOptions(Checked):
    """The autonomy model; fields bear the options' names."""

    kappa: Annotated[
        float | None,
        numeric("--kappa", float, help="Probability of an override, 0 to 1.", show_default="0"),
    ] = None
    temperature: Annotated[
        float | None,
        numeric(
            "--temperature",
            float,
            help="Softmax autonomy: how far overrides reach, in (scaled) units of the cost.",
            show_default="1",
        ),
    ] = None
    zeta: Annotated[
        float | None,
        numeric(
            "--zeta",
            float,
            help="Softmax autonomy: weight of the distance from the prescribed centre.",
            show_default="1",
        ),
    ] = None
    gamma: Annotated[
        float | None,
        numeric(
            "--gamma",
            float,
            help="Softmax autonomy: weight of the distance from the point.",
            show_default="0",
        ),
    ] = None
    autonomy: Annotated[
        str | None,
        typer.Option(
            help="none, uniform or softmax. By default softmax if --temperature, --zeta or "
            "--gamma is given, else uniform if kappa > 0, else none.",
            show_default=False,
        ),
    ] = None
    matrix: Annotated[
        Path | None,
        typer.Option(
            help="Autonomy given as a file of K x K probabilities: row j, column k is the chance "
            "that a point told to join j ends in k.",
            show_default=False,
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.kappa is not None:
            require(0 <= self.kappa <= 1, "--kappa", self.kappa, "a number from 0 to 1")
        self.check_positive("temperature")
        for name in ("zeta", "gamma"):
            value = getattr(self, name)
            if value is not None:
                require(math.isfinite(value), option_of(name), value, "a finite number")
        self.check_choice("autonomy", _KINDS)
        self._check_combination()

    def _check_combination(self) -> None:
        softmax = self.given(*_SOFTMAX)
        if self.kind == "matrix":
            others = self.given("autonomy", "kappa") + softmax
            if others:
                raise CommandError(
                    f"--matrix: got {', '.join(others)} too; expected --matrix alone."
                )
            return
        if self.kind != "softmax" and softmax:
            raise CommandError(
                f"{softmax[0]}: got a value beside --autonomy {self.kind}; expected it only with "
                "softmax autonomy."
            )
        if self.kind == "none" and self.kappa:
            raise CommandError(
                f"--kappa: got {self.kappa:g} beside --autonomy none; expected 0 or no --kappa."
            )
        if self.kind != "none" and self.kappa is None:
            raise CommandError(f"--kappa: got none; {self.kind} autonomy expects one from 0 to 1.")

    @property
    def is_default(self) -> bool:
        """Whether none of the options was given."""
        return not self.given("kappa", *_SOFTMAX, "autonomy", "matrix")

    @property
    def kind(self) -> str:
        """Autonomy asked for: what says so, else softmax if it has an option, else uniform."""
        if self.matrix is not None:
            return "matrix"
        if self.autonomy is not None:
            return self.autonomy
        if self.given(*_SOFTMAX):
            return "softmax"
        return "uniform" if self.kappa else "none"

    @property
    def parameters(self) -> dict[str, float]:
        """The numbers of the autonomy model, defaults filled in."""
        if self.kind not in ("uniform", "softmax"):
            return {}
        values = {"kappa": self.kappa or 0.0}
        if self.kind == "softmax":
            values["zeta"] = 1.0 if self.zeta is None else self.zeta
            values["gamma"] = 0.0 if self.gamma is None else self.gamma
            values["temperature"] = 1.0 if self.temperature is None else self.temperature
        return values

    @property
    def description(self) -> str:
        """Such as `softmax autonomy (kappa 0.3, ...)`."""
        if self.kind == "none":
            return "no autonomy"
        numbers = ", ".join(f"{name} {value:g}" for name, value in self.parameters.items())
        return f"{self.kind} autonomy" + (f" ({numbers})" if numbers else "")

    def is_aware(self, k: int) -> bool:
        """Whether autonomy can change anything: not for kappa = 0 or one cluster."""
        return k > 1 and (self.kind == "matrix" or bool(self.kappa))

    def probabilities(self, k: int) -> np.ndarray | None:
        """The (K, K) probabilities in the file, or `None` without one."""
        return None if self.matrix is None else read_matrix(self.matrix, k)

    def model(self, k: int, probabilities: np.ndarray | None, dtype: Any) -> Any:
        """The autonomy model for K clusters, or `None` where it can change nothing."""
        if not self.is_aware(k):
            return None
        if probabilities is not None:
            return mj.autonomy.Matrix(probabilities.astype(dtype))
        models = {"uniform": mj.autonomy.Uniform, "softmax": mj.autonomy.Softmax}
        return models[self.kind](**self.parameters)
