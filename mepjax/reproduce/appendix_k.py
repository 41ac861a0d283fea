"""Appendix K: whether learning is stable, over sizes of the network, starts and seeds."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from .. import learn
from .gaps import networks_installed
from .numbers import APPENDIX_K_BETAS, APPENDIX_K_FAILURES, APPENDIX_K_RUNS
from .references import reference
from .reproduction import Claim, NotMeasured, Reproduction, Setting, Task
from .scenarios import Scenario, aware, square

# Width, blocks, heads, feed-forward and rate of learning; the last is printed, the others are ours.
NETWORKS = {
    "M1": (32, 1, 2, 64, 1e-4),
    "M2": (64, 2, 4, 128, 1e-4),
    "M3": (64, 4, 8, 128, 1e-4),
    "M4": (128, 6, 8, 256, 5e-4),
}
KAPPAS, STARTS, SEEDS = (0.2, 0.5), ("mean_noise", "sample"), (0, 1)
# Steps of the network in a cycle, and sets of centres in each, at the small scale: large networks
# learn more in each step, and take more time for it.
_STEPS = {"M1": (1000, 1), "M2": (800, 1), "M3": (500, 1), "M4": (60, 2)}
# Ways in which the published head begins and is trained, each from 20 seeds.
FLAT_SEEDS = 20
_ZERO = "M4 at 5e-4, zero-initialised head"
_DEAD = "M4 at 5e-4"
FLAT: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    _DEAD: ("M4", {}, {}, "mean_noise"),
    "M4 at 1e-4": ("M4", {}, {"learning_rate": 1e-4}, "mean_noise"),
    "M4 at 5e-4, sample start": ("M4", {}, {}, "sample"),
    "M4 at 5e-4, warm-up and clipping": ("M4", {}, {"warm_up": 40, "clip": 1.0}, "mean_noise"),
    "M4 at 5e-4, pre-norm": ("M4", {"norm": "pre"}, {}, "mean_noise"),
    "network of Table 2 at 5e-4": ("M3", {}, {"learning_rate": 5e-4}, "mean_noise"),
    _ZERO: ("M4", {"zero_head": True}, {}, "mean_noise"),
}
# Excess loss at the end of a level, relative to that of a network that has learnt nothing, and by
# how many standard deviations of a level a free energy may rise.
_LEARNT, _NOISE = 0.1, 2.0


def _scenario(kappa: float) -> Scenario:
    return Scenario(kappa, 0, 1, 0.01)


def _options(name: str) -> tuple[dict[str, Any], float]:
    width, blocks, heads, feedforward, rate = NETWORKS[name]
    sizes = {"width": width, "blocks": blocks, "heads": heads, "feedforward": feedforward}
    return sizes, rate


def training(setting: Setting, name: str) -> Any:
    """The learner of a run: ours but for the network's sizes and its rate.

    Its block of attention among centres is ours too: without one a fifth of the excess loss is left
    where pairs of centres meet, whatever the number of steps. In each cycle centres may go half a
    spacing, which asks nothing: with fewer steps they do not leave the mean in time.
    """
    from ..learn.networks.settings import Recipe

    sizes, rate = _options(name)
    steps, batch = _STEPS[name]
    steps = setting.pick(steps, 4 * steps, 1000)
    return learn.Training(
        options=sizes | {"centre_blocks": 1},
        learning_rate=np.float64(rate),
        batch=setting.pick(batch, 4, 32),
        entities=setting.pick(64, 64, 128),
        draws=setting.pick(8, 8, 16),
        network_steps=steps, prefit=8 * steps, cycles=60, warm_up=400, average=np.float64(0.99),
        centre_steps=50, centre_rate=np.float64(8e-3), centre_entities=256,
        recipe=Recipe(from_mean=True),
    )  # fmt: skip


def is_stable(row: dict[str, Any]) -> tuple[bool, bool]:
    """Whether the excess loss is small after every level, and whether F never rises beyond noise.

    What rises with beta in any right solution, dF / d beta = H / beta^2, is taken off: `level` is
    F + log K / beta.
    """
    reached = len(row["excess"]) == len(APPENDIX_K_BETAS)
    finite = reached and None not in row["excess"] and bool(np.all(np.isfinite(row["excess"])))
    if not finite:
        return False, False
    learnt = np.array(row["excess"]) < _LEARNT * np.array(row["unlearnt"])
    level, wobble = np.array(row["level"]), np.array(row["wobble"])
    falls = np.diff(level) <= _NOISE * np.hypot(wobble[1:], wobble[:-1])
    return bool(np.all(learnt)), bool(np.all(falls))


def _run(setting: Setting, name: str, kappa: float, start: str, seed: int) -> dict[str, Any]:
    if not networks_installed():
        raise NotMeasured("flax or optax is not installed")
    from .appendix_k_runs import levels_of

    base, scenario = square(), _scenario(kappa)
    key = jax.random.fold_in(jax.random.key(setting.seed), seed)
    found = levels_of(
        base, aware(base, scenario), training(setting, name), APPENDIX_K_BETAS, start, key
    )
    learnt, falls = is_stable(found)
    best = reference("table1", scenario)
    gap = {} if best is None else {"gap": 100 * (found["cost"] / best - 1)}
    return {
        "network": name, "kappa": kappa, "start": start, **found, **gap,
        "left": [a / b for a, b in zip(found["excess"], found["unlearnt"], strict=True)],
        "learnt": learnt, "falls": falls, "stable": learnt and falls,
    }  # fmt: skip


def _flat(setting: Setting, name: str) -> dict[str, Any]:
    if not networks_installed():
        raise NotMeasured("flax or optax is not installed")
    from .appendix_k_runs import flat_seeds

    network, options, settings, start = FLAT[name]
    sizes, rate = _options(network)
    batch, entities, draws = setting.pick((1, 64, 4), (4, 64, 4), (32, 128, 16))
    taken = {"learning_rate": rate, "batch": batch, "entities": entities, "draws": draws} | settings
    keys = [jax.random.fold_in(jax.random.key(setting.seed), seed) for seed in range(FLAT_SEEDS)]
    base = square()
    truth = aware(base, _scenario(KAPPAS[0]))
    return flat_seeds(base, truth, sizes | options, taken, start, keys)


def _tasks(setting: Setting) -> list[Task]:
    flat = [Task(f"flat: {name}", lambda name=name: _flat(setting, name)) for name in FLAT]
    runs = [
        Task(
            f"{name}, kappa {kappa:g}, {start}, seed {seed}",
            lambda at=(name, kappa, start, seed): _run(setting, *at),
        )
        for name in NETWORKS
        for kappa in KAPPAS
        for start in STARTS
        for seed in SEEDS
    ]
    return [*flat, *runs]


def _claims(rows: dict[str, dict[str, Any]]) -> Sequence[Claim]:
    claims = []
    runs = [row for row in rows.values() if "stable" in row]
    if runs:
        stable, falls = (sum(row[name] for row in runs) for name in ("stable", "falls"))
        largest = [row for row in runs if row["network"] == "M4"]
        printed = APPENDIX_K_RUNS - APPENDIX_K_FAILURES
        claims += [
            Claim(
                "stable runs: after every level at most a tenth of the excess loss is left, and F "
                "has not risen",
                f"{printed} of {APPENDIX_K_RUNS}", f"{stable} of {len(runs)}",
                stable == len(runs),
            ),
            Claim("runs in which F never rises between levels", "-", f"{falls} of {len(runs)}",
                  falls == len(runs)),
        ]  # fmt: skip
        if largest:
            good = sum(row["stable"] for row in largest)
            claims.append(
                Claim("stable runs of M4, with a head that is zero at the start",
                      f"{8 - APPENDIX_K_FAILURES} of 8", f"{good} of {len(largest)}",
                      good == len(largest))
            )  # fmt: skip
        worst = [max((x for x in row["left"] if x is not None), default=np.nan) for row in runs]
        claims.append(
            Claim("share of the excess loss that is left, worst level: median and largest run", "-",
                  f"{np.median(worst):.2g}, {np.max(worst):.2g}")
        )  # fmt: skip
    for name in FLAT:
        row = rows.get(f"flat: {name}")
        if row is not None:
            holds = {_ZERO: row["flat"] == 0, _DEAD: row["flat"] > 0}.get(name)
            claims.append(
                Claim(f"seeds in which the published head is flat after 80 steps: {name}",
                      "4 of 4 that are flat" if name == _DEAD else "-",
                      f"{row['flat']} of {row['seeds']}", holds)
            )  # fmt: skip
    return claims


def _draw(rows: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Figures 7 to 9: loss and free energy at each beta, one panel for each network."""
    del setting
    runs = {key: row for key, row in rows.items() if "stable" in row}
    pictures: dict[str, Any] = {}

    def panels(figure: Any, name: str, label: str) -> None:
        places = figure.subplots(2, 2, sharex=True)
        for axes, network in zip(places.flat, NETWORKS, strict=True):
            for row in runs.values():
                if row["network"] == network:
                    style = "-" if row["start"] == "mean_noise" else "--"
                    colour = f"C{KAPPAS.index(row['kappa'])}"
                    values = row[name]
                    axes.plot(APPENDIX_K_BETAS[: len(values)], values, style, color=colour,
                              label=f"kappa {row['kappa']:g}, {row['start']}")  # fmt: skip
            axes.set_xscale("log")
            axes.set_title(network)
        for axes in places[-1]:
            axes.set_xlabel("beta")
        for axes in places[:, 0]:
            axes.set_ylabel(label)
        handles, labels = places.flat[0].get_legend_handles_labels()
        once = dict(zip(labels, handles, strict=True))
        places.flat[0].legend(once.values(), once, fontsize=7)

    for name, label in (
        ("loss", "loss"), ("excess", "loss without the noise of targets"),
        ("free_energy", "free energy"),
    ):  # fmt: skip
        if runs:
            pictures[name] = lambda figure, at=(name, label): panels(figure, *at)
    return pictures


REPRODUCTION = Reproduction(
    "appendix_k",
    "stability of learning over sizes of the network, starts and seeds; why runs are flat",
    "autonomy-aware clustering, appendix K and Figures 7 to 9",
    _tasks,
    {
        "stable": "stable",
        "learnt": "excess below a tenth",
        "falls": "F never rises",
        "left": "excess left at each beta",
        "loss": "loss at each beta",
        "free_energy": "F at each beta",
        "gap": "gap to the best (%)",
        "flat": "flat seeds",
        "seeds": "seeds",
        "interactions": "interactions",
    },
    _claims,
    _draw,
    minutes={"small": 60, "medium": 300, "paper": None},
)
