"""What centres found in different ways cost under the autonomy that holds."""

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import jax

import mepjax as mj

from .. import learn
from .references import reference, schedule_of
from .reproduction import Setting
from .scenarios import Scenario, aware

# What a network needs.
_NEEDS = ("flax", "optax")
# Interactions of a log; its rounds are of centres all over the data.
LOG, ROUNDS = 5_000, 10
# Of that which networks for the choice learn from, and steps on all of it.
CHOICE_LOG, CHOICE_ROUNDS, CHOICE_STEPS = 20_000, 40, 1_500


# What the report of a table shows.
COLUMNS = {
    "aden_frozen": "ADEN, gap to frozen (%)",
    "ignored_frozen": "ignored, gap to frozen (%)",
    "aden": "ADEN, gap to the best (%)",
    "ignored": "ignored, gap to the best (%)",
    "frozen": "frozen, gap to the best (%)",
    "structured": "structured, gap to the best (%)",
    "counts": "counts, gap to the best (%)",
    "choice": "choice, gap to the best (%)",
    "aden_interactions": "ADEN, interactions",
    "structured_interactions": "structured, interactions",
    "counts_interactions": "counts, interactions",
    "choice_interactions": "choice, interactions",
    "aden_seconds": "ADEN, seconds",
    "aden_training": "ADEN, trained as",
    "best": "lowest cost known",
    "reference": "reference",
}


def networks_installed() -> bool:
    """Whether a network can be trained here; without, its columns stay empty."""
    return all(importlib.util.find_spec(name) for name in _NEEDS)


class Cell:
    """One scenario on one data set: costs and gaps of the ways to find centres.

    A gap is 100 (D / D' - 1), with D the hard cost at the best prescriptions under the autonomy
    that holds at the centres found, and D' that of the reference.
    """

    def __init__(self, table: str, base: mj.Clustering, scenario: Scenario, seed: int) -> None:
        self.base, self.truth = base, aware(base, scenario)
        self.scenario, self.environment = scenario, learn.Simulated(scenario.autonomy)
        self.schedule, self.key = schedule_of(base), jax.random.key(seed)
        self.reference = reference(table, scenario)
        self.costs: dict[str, float] = {}
        self.told: dict[str, Any] = {}

    def add(self, name: str, solve: Callable[[], tuple[Any, int]]) -> Any:
        """Centres by `solve()`, which also tells how many interactions it took."""
        began = time.perf_counter()
        centres, interactions = solve()
        self.costs[name] = float(self.truth.harden(centres).cost)
        self.told[f"{name}_seconds"] = round(time.perf_counter() - began, 2)
        if interactions:
            self.told[f"{name}_interactions"] = interactions
        return centres

    def values(self) -> dict[str, Any]:
        """Of a row: gaps to the best known, which these may lower, and to the paper's reference."""
        known = [self.reference] if self.reference is not None else []
        best = min([*known, *self.costs.values()])
        found = {name: _percent(cost, best) for name, cost in self.costs.items()}
        if "frozen" in self.costs:
            paper = self.costs["frozen"]
            others = [name for name in self.costs if name != "frozen"]
            found |= {f"{name}_frozen": _percent(self.costs[name], paper) for name in others}
        return {
            **found,
            **self.told,
            "best": best,
            "reference": "none kept: lowest of this row" if self.reference is None else
            # References are kept with seven digits.
            "lowered by this row" if best < (1 - 1e-6) * self.reference else "kept",
        }  # fmt: skip

    # The ways, each giving centres and the number of interactions that it took.

    def anneal(self, problem: mj.Clustering) -> tuple[Any, int]:
        """One anneal."""
        found = mj.anneal(problem, self.schedule, key=self.key, adjoint=mj.NoGrad())
        return found.raise_if_failed().params, 0

    def ignored(self) -> tuple[Any, int]:
        """As if there were no autonomy."""
        return self.anneal(self.base)

    def frozen(self) -> tuple[Any, int]:
        """Algorithm 1 as printed, which holds p fixed in each update: the paper's reference."""
        return self.anneal(self.truth.replace(stationarity="frozen"))

    def known(self) -> tuple[Any, int]:
        """With the autonomy known, in every way there is."""
        return self._solved(self.truth), 0

    def structured(self) -> tuple[Any, int]:
        """The softmax family, fitted to a log."""
        log = learn.collect(
            self.base, self.environment, key=self.key, rounds=ROUNDS, each=LOG // ROUNDS
        )
        fitted = learn.fit(self.base, log, bootstrap=20).raise_if_failed()
        return self._solved(fitted.problem(self.base)), len(log)

    def counts(self) -> tuple[Any, int]:
        """A table p(k | j), learnt while beta rises: right where centres hardly matter."""
        found = learn.interact(
            self.base, self.environment, learn.Counts(), self.schedule, key=self.key, each=500
        ).raise_if_failed()
        return found.params, int(found.n_interactions)

    def choice(self, starts: int) -> tuple[Any, int]:
        """Two networks for where those go who override, by maximum likelihood on a log."""
        log = learn.collect(
            self.base, self.environment, key=self.key, rounds=CHOICE_ROUNDS,
            each=CHOICE_LOG // CHOICE_ROUNDS,
        )  # fmt: skip
        model = learn.Choice().autonomy_of(self.base, log, steps=CHOICE_STEPS, key=self.key)
        return self._solved(self.base.replace(autonomy=model), starts), len(log)

    def aden(self, training: Any, starts: int = 4) -> tuple[Any, int]:
        """A network, trained on what was paid while beta rises."""
        found = learn.interact(self.base, self.environment, training, key=self.key, starts=starts)
        return found.raise_if_failed().params, int(found.n_interactions)

    def row(
        self, training: Callable[[], Any], setting: Setting, *, always_choice: bool = False
    ) -> dict[str, Any]:
        """Values of a row of the tables.

        `training()`: the learner of ADEN at this setting. It and `Choice` are left out without
        flax. At the small scale `Choice`, whose anneal takes longest, is left out too, but for
        `always_choice`.
        """
        trained = {}
        self.add("ignored", self.ignored)
        self.add("frozen", self.frozen)
        self.add("structured", self.structured)
        self.add("counts", self.counts)
        if networks_installed():
            self.add("aden", lambda: self.aden(training()))
            trained = {"aden_training": setting.pick("small", "medium", "medium")}
            if always_choice or setting.scale != "small":
                self.add("choice", lambda: self.choice(setting.pick(1, 8, 8)))
        return {"kappa": self.scenario.kappa, **trained, **self.values()}

    def _solved(self, problem: mj.Clustering, starts: int = 1) -> Any:
        found = mj.solve(problem, self.schedule, key=self.key, starts=starts, adjoint=mj.NoGrad())
        return found.solution.raise_if_failed().params


def _percent(cost: float, than: float) -> float:
    return 100 * (cost / than - 1)
