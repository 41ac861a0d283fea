"""Anneals of points on disk, in this process or in several, saved on the way."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

import mepjax as mj

from .errors import SOLVE, CommandError
from .options.clustering import Request
from .options.reading import ReadingOptions


@dataclass(frozen=True)
class Found:
    """The best of all restarts as plain numbers, which one it is, from 0, and its hard cost."""

    centres: np.ndarray
    beta: float
    code: mj.Code
    cost: float
    restart: int


@dataclass(frozen=True)
class Checkpoints:
    """Anneals under way, a file for each restart: read from one folder, written to another.

    **Fields:** `start`: where to go on from, `None` to begin; `folder`: where they are kept;
    `every`: stages after which, `None` for never.
    """

    start: Path | None
    folder: Path
    every: int | None

    @staticmethod
    def name(restart: int) -> str:
        """Of the file of a restart, from 0."""
        return f"anneal-{restart + 1}.mepjax"

    @staticmethod
    def of(folder: Path) -> list[Path]:
        """Those that a folder holds."""
        return sorted(folder.glob("anneal-*.mepjax"))

    @staticmethod
    def remove(folder: Path) -> None:
        """Remove them, and parts of some that were being written when the process was killed."""
        for file in (*Checkpoints.of(folder), *folder.glob(".anneal-*.mepjax.*.part")):
            with contextlib.suppress(OSError):
                file.unlink()

    def begun(self, known: mj.Problem, state: mj.AnnealState, restart: int) -> mj.AnnealState:
        """The state that was kept, or `state`. `known`: by which data files are known.

        **Raises:** `CommandError` for a file of another anneal.
        """
        file = None if self.start is None else self.start / self.name(restart)
        if file is None or not file.exists():
            return state
        try:
            return mj.load(file, known, state)
        except (ValueError, OSError) as error:
            raise CommandError(f"--resume: {error}") from None

    def advanced(
        self, known: mj.Problem, problem: mj.Problem, state: mj.AnnealState, restart: int
    ) -> mj.AnnealState:
        """The state after all stages but what `finish` does, kept on the way if that was asked.

        **Raises:** `CommandError` where a file cannot be written.
        """
        while self.every is not None and not state.done:
            state = mj.advance(problem, state, self.every)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                mj.save(self.folder / self.name(restart), known, state)
            except OSError as error:
                raise CommandError(f"--checkpoint-every: {error}") from None
        return state


@contextlib.contextmanager
def told_of_files() -> Iterator[None]:
    """What `Rows` says of a file while it is used, also inside of a program, as `CommandError`."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        # Inside of a program it is the end of a traceback, in an error of JAX's choice.
        _, found, sentence = str(error).rpartition("Rows: ")
        if not found:
            raise
        raise CommandError(f"POINTS: {found}{sentence}") from None


@dataclass(frozen=True)
class Job:
    """What each of several processes is asked to do; it travels as a pickle."""

    points: Path
    reading: ReadingOptions
    request: Request
    checkpoints: Checkpoints

    def rows(self) -> mj.exec.Rows:
        """The points.

        **Raises:** `CommandError` for a file that is not as it should be.
        """

        def column(text: str) -> int | str:
            text = text.strip()
            return int(text) if text.isdecimal() else text

        asked, weights = self.reading.columns, self.reading.weights
        columns = None if asked is None else [*map(column, asked.split(","))]
        try:
            return mj.exec.Rows(
                self.points, columns=columns, weights=None if weights is None else column(weights)
            )
        except (ValueError, TypeError, OSError, ImportError) as error:
            raise CommandError(f"POINTS: {error}") from None

    def problem(self, rows: mj.exec.Rows) -> mj.Clustering:
        """Of points on disk; checkpoints know the data by it, on whatever executor."""
        request = self.request
        model = request.autonomy.model(request.k, None, request.anneal.dtype)
        return mj.Clustering(rows, request.k, autonomy=model)

    def solve(self, rows: mj.exec.Rows, executor: mj.Sharded | None = None) -> Found:
        """The restart of least hard cost; with an executor of points that its devices hold.

        **Raises:** `CommandError` if every restart failed, or a file has changed meanwhile.
        """
        with told_of_files():
            return self._solved(rows, executor)

    def _solved(self, rows: mj.exec.Rows, executor: mj.Sharded | None) -> Found:
        request, anneal = self.request, self.request.anneal
        known = problem = self.problem(rows)
        schedule = anneal.schedule(known)
        if executor is not None:
            x, weights = executor.load(rows)
            held = mj.Clustering(x, request.k, weights=weights, autonomy=known.autonomy)
            problem = held.on(executor)
        detector = mj.Growth(sample=request.cluster.sample or None)
        cost_of = jax.jit(lambda problem, params: problem.harden(params).cost)
        found: list[Found] = []
        message = ""
        keys = jax.random.split(jax.random.key(anneal.seed), request.starts)
        for restart, key in enumerate(keys):
            state = mj.begin(
                problem, schedule, key=key, detector=detector,
                repair=mj.Repair(swaps=2 * request.k), adjoint=mj.NoGrad(),
            )  # fmt: skip
            state = self.checkpoints.begun(known, state, restart)
            state = self.checkpoints.advanced(known, problem, state, restart)
            solution = mj.finish(problem, state)
            try:
                solution.raise_if_failed()
            except mj.SolveError as error:
                message = str(error)
                continue
            found.append(
                Found(
                    np.asarray(solution.params), float(solution.beta),
                    mj.Code(int(solution.code)), float(cost_of(problem, solution.params)), restart,
                )
            )  # fmt: skip
        if not found:
            raise CommandError(message, SOLVE)
        return min(found, key=lambda result: result.cost)
