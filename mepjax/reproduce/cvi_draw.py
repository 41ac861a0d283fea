"""Pictures of the reproduction of clustered value iteration."""

from typing import Any

import numpy as np

from .. import mdp
from .numbers import CVI_FIGURE_5
from .reproduction import Setting


def drawn(rows: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """A function that draws each, by its name, of the rows that were measured."""
    del setting

    def ratios(count: int) -> dict[str, Any] | None:
        times = rows.get("6.1 times")
        if times is None or len(times["C"]) != count:
            return None
        return {
            "value iteration, by halves": times["split_over_cvi"],
            "value iteration, joint kernel": times["joint_over_cvi"],
        }

    def picture(key: str) -> Any:
        def draw(figure: Any) -> None:
            from ..plot import value_by_clusters

            row = rows[key]
            value = np.asarray(row["value"])
            cvi = np.stack([value * row["cvi"], value * row["worst"], value * row["cvi"]], -1)
            axes = figure.add_subplot()
            value_by_clusters(range(1, len(value) + 1), value, cvi, ratios(len(value)), ax=axes)
            axes.set_title(key)

        return draw

    def growth(figure: Any) -> None:
        row = rows["6.1 growth, N = C"]
        axes = figure.add_subplot()
        axes.semilogy(row["agents"], row["cvi_ms"], "o-", label="CVI, to its end")
        axes.semilogy(row["agents"], row["sweep_ms"], "s--", label="one exact sweep, by halves")
        axes.set_xticks(row["agents"])
        axes.set_xlabel("agents N = clusters C, 3 signals")
        axes.set_ylabel("milliseconds")
        axes.legend()

    def splits(figure: Any) -> None:
        from ..plot import splitting

        row = rows["6.2 greedy splitting"]
        count = len(row["value"])
        found = mdp.Clusterings(
            np.arange(1, count + 1), np.zeros((count, 10), int), np.array(row["value"]),
            np.array(row["gains"]), np.array(row["looked"]), tuple(row["all"]), 0,
        )  # fmt: skip
        splitting(found, ax=figure.add_subplot())

    def channels(figure: Any) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for number, axes in enumerate(panels, 1):
            axes.plot(range(1, 7), CVI_FIGURE_5[number - 1], "k--", label="paper")
            for key in rows:
                if key.startswith(f"6.3 scenario {number}") and "cvi" in rows[key]:
                    row, said = rows[key], key.partition(", ")[2]
                    axes.plot(range(1, 7), row["value"], "o-", label=f"{said}, exact")
                    axes.plot(range(1, 7), row["cvi"], "x:", label=f"{said}, CVI inside")
            axes.set_title(f"scenario {number}")
            axes.set_xticks(range(1, 7))
            axes.set_xlabel("number of clusters C")
            axes.legend(fontsize=8)
        panels[0].set_ylabel("|V*|, over that at C = 6")

    names = {"6.1 coupled, not separable": "figure1", "6.1 coupled, separable": "figure2"}
    pictures: dict[str, Any] = {name: picture(key) for key, name in names.items() if key in rows}
    if "6.1 growth, N = C" in rows:
        pictures["growth"] = growth
    if "6.2 greedy splitting" in rows:
        pictures["figure4"] = splits
    if any(key.startswith("6.3") for key in rows):
        pictures["figure5"] = channels
    return pictures
