"""What each of several processes runs in `test_processes.py`."""

import argparse
import os
import signal
from pathlib import Path

import mepjax as mj


def main() -> None:
    """Join the others, and anneal in pieces that are saved."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--die", type=int, nargs=2, help="a process, and the stage after which")
    parser.add_argument("--every", type=int, default=4)
    arguments = parser.parse_args()
    number = mj.exec.join(heartbeat=60, wait=120)

    import jax
    import numpy as np

    rows = mj.exec.Rows(arguments.folder / "points.npy", weights=3)
    executor = mj.Sharded()
    x, weights = executor.load(rows)
    problem = mj.Clustering(x, 3, weights=weights).on(executor)
    places = np.load(arguments.folder / "places.npy")
    energy = jax.jit(mj.Clustering.free_energy)(problem, places, 2.0)

    schedule, path = mj.Geometric(0.05, 30.0, 1.4), arguments.folder / "anneal.mepjax"
    state = mj.begin(problem, schedule, key=jax.random.key(0))
    begun = path.exists()
    if begun:
        state = mj.load(path, problem, state)
    while not state.done:
        state = mj.advance(problem, state, arguments.every)
        mj.save(path, problem, state)
        if arguments.die is not None:
            who, when = arguments.die
            if number == who and int(state.n_stages) >= when:
                os.kill(os.getpid(), signal.SIGKILL)
    solution = mj.finish(problem, state).raise_if_failed()
    if number == 0:
        np.savez(
            arguments.folder / "found.npz",
            energy=energy,
            params=solution.params,
            free_energy=solution.free_energy,
            devices=jax.device_count(),
            begun=begun,
        )


# Collected by pytest like any module: imported it does nothing.
if __name__ == "__main__":
    main()
