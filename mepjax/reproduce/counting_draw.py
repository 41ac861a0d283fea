"""v(k) of many rows, one small panel each."""

from typing import Any

import numpy as np


def curves(rows: dict[str, dict[str, Any]]) -> Any:
    """A function that draws them: the best size as a dot, the `known` one as a dotted line."""

    def draw(figure: Any) -> None:
        across = int(np.ceil(np.sqrt(len(rows))))
        panels = figure.subplots(-(-len(rows) // across), across, squeeze=False).ravel()
        for axes in panels[len(rows) :]:
            axes.axis("off")
        for axes, (key, row) in zip(panels, rows.items(), strict=False):
            sizes = np.arange(2, len(row["v"]) + 2)
            v = np.array([np.nan if value is None else value for value in row["v"]], float)
            axes.plot(sizes, v, color="0.4", linewidth=0.8)
            if row["best"] > 1:
                axes.plot(row["best"], v[row["best"] - 2], "o", color="C0", markersize=4)
            if row["known"] is not None:
                axes.axvline(row["known"], color="C1", linestyle=":", linewidth=1)
            axes.set_title(key, fontsize=7)
            axes.tick_params(labelsize=6)
            axes.xaxis.get_major_locator().set_params(integer=True)
        figure.supxlabel("k; dotted: the number said to be right", fontsize=8)
        figure.supylabel("v(k)", fontsize=8)

    return draw
