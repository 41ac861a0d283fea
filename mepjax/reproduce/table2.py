"""Table 2: published settings beside those used here, and every difference named."""

from typing import Any

from .gaps import networks_installed
from .numbers import TABLE_2
from .reproduction import Claim, NotMeasured, Reproduction, Setting, Task

# Parameters at two features: of the text, and of the code that was released.
_COUNTS = {"ADEN.paper": ("about 150,000", 150_914), "ADEN.released": ("-", 143_874)}
_NETWORK = ("width", "feedforward", "blocks", "heads")


def _settings(name: str) -> dict[str, Any]:
    """A setting of Table 2 in each preset."""
    if not networks_installed():
        raise NotMeasured("flax or optax is not installed")
    from ..learn import Training
    from ..learn.networks.aden import ADEN_PAPER

    presets = {
        "paper": Training.paper(), "released": Training.released(),
        "small": Training.small(), "medium": Training.medium(),
    }  # fmt: skip
    return {key: _value(name, preset, ADEN_PAPER) for key, preset in presets.items()}


def _value(name: str, training: Any, default: dict[str, Any]) -> Any:
    if name in _NETWORK:
        return dict(training.options).get(name, default[name])
    betas = training.recipe.betas
    if name in ("beta_min", "beta_max", "factor"):
        place = ("beta_min", "beta_max", "factor").index(name)
        return "in units of the problem" if betas is None else betas[place]
    if name == "seed":
        return "any"
    if name == "perturbation":
        low, high = training.perturbation
        return f"{low:g} to {high:g} spacings"
    if name == "centre_rate":
        plain = training.recipe.plain_descent
        return f"{training.centre_rate:g} {'' if plain else 'spacings, by Adam'}".strip()
    return getattr(training, name)


def _count(name: str) -> dict[str, Any]:
    """Parameters of a network of two features."""
    if not networks_installed():
        raise NotMeasured("flax or optax is not installed")
    from .figure5 import parameters

    return {"paper": parameters(name.partition(".")[2])}


def _differences() -> dict[str, Any]:
    if not networks_installed():
        raise NotMeasured("flax or optax is not installed")
    from ..learn.networks.settings import DIFFERENCES

    return {name: list(sentences) for name, sentences in DIFFERENCES.items()}


def _tasks(setting: Setting) -> list[Task]:
    del setting
    rows = []
    for name, value in TABLE_2.items():
        printed = list(value) if isinstance(value, tuple) else value
        rows.append(Task(name, lambda name=name: _settings(name), {"paper": printed}))
    for name, (said, _) in _COUNTS.items():
        key = f"parameters of {name}, d = 2"
        rows.append(Task(key, lambda name=name: _count(name), {"paper": said}))
    return [*rows, Task("differences", _differences)]


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    claims = []
    for name, (said, expected) in _COUNTS.items():
        row = rows.get(f"parameters of {name}, d = 2")
        if row is not None:
            found = row["paper"]
            claims.append(Claim(f"parameters of {name}", said, f"{found:,}", found == expected))
    for name, sentences in rows.get("differences", {}).items():
        where = "both presets" if name == "paper" else "released"
        claims += [Claim(f"what is not theirs in {where}", "-", each) for each in sentences]
    return claims


REPRODUCTION = Reproduction(
    "table2",
    "settings of Algorithm 2, and of the presets of learn.Training",
    "autonomy-aware clustering, Table 2 and appendix G",
    _tasks,
    {
        "paper": "Training.paper",
        "released": "Training.released",
        "small": "Training.small",
        "medium": "Training.medium",
    },
    _claims,
    minutes={"small": 0.2, "medium": 0.2, "paper": 0.2},
)
