"""Run benchmarks by name, print their tables and keep their rows."""

import importlib
import sys

from .measure import environment, kept, save, table

NAMES = (
    "compile",
    "autonomy_step",
    "em_step",
    "k_means",
    "doc_figures",
    "public_sets",
    "autonomy",
    "capacities",
    "equal_sizes",
    "plateaus",
    "solve",
    "sweep",
    "table_one",
    "ten_million",
    "from_disk",
    "processes",
    "streams",
    "supply_network",
    "p_median",
    "scale_routes",
    "steering",
    "learning",
    "aden",
    "mdp",
    "markov",
    "sparse",
    "table_5_1",
    "tracking",
    "gpu",
)


def main(names: list[str]) -> int:
    """Run the named benchmarks, all of them by default; `name:part,part` runs parts of one."""
    unknown = [name for name in names if name.split(":")[0] not in NAMES]
    if unknown:
        print(f"benchmarks: unknown {', '.join(unknown)}; known are {', '.join(NAMES)}")
        return 2
    print(environment())
    for asked in names or NAMES:
        name, _, parts = asked.partition(":")
        benchmark = importlib.import_module(f".{name}", __package__)
        chosen = parts.split(",") if parts else []
        rows = kept(name, chosen)
        # Kept as they come: some benchmarks take an hour.
        for row in benchmark.run(chosen) if chosen else benchmark.run():
            rows.append(row)
            print(row, flush=True)
            save(name, rows)
        print(f"\n{name}\n{table(rows)}\nkept in {save(name, rows).name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
