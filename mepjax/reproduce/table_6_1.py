"""Figures 6.3 to 6.5 and Table 6.1: how many superstates chains have."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..problems.markov_aggregation import MarkovAggregation
from ..select.marginal_return import aggregations, marginal_return
from .counting import counted_as_printed, tasks_of
from .counting_draw import curves
from .reproduction import Claim, NotMeasured, Reproduction, Setting

Chain = np.ndarray


@dataclass(frozen=True)
class _Chain:
    """A chain, how many superstates it is said to have, and those that are `known` to be right."""

    key: str
    load: Callable[[Setting], Chain]
    printed: int | None
    known: int | None
    largest: int | None = None


def nearly_decomposable(sizes: tuple[int, ...], eps: float) -> Callable[[Setting], Chain]:
    """Random rows in blocks, mixed with random rows over all states: a share `eps` of them."""

    def load(setting: Setting) -> Chain:
        rng = np.random.default_rng(setting.seed)
        part = np.repeat(np.arange(len(sizes)), sizes)
        inside = rng.uniform(size=(len(part),) * 2) * (part[:, None] == part)
        noise = rng.uniform(size=inside.shape)
        inside, noise = (m / m.sum(axis=1, keepdims=True) for m in (inside, noise))
        return (1 - eps) * inside + eps * noise

    return load


def copies(n: int, k: int, eps: float) -> Callable[[Setting], Chain]:
    """Rows that are one of k random distributions, mixed with random rows."""

    def load(setting: Setting) -> Chain:
        rng = np.random.default_rng(setting.seed)
        rows = rng.dirichlet(np.ones(n), k)[np.arange(n) % k]
        return (1 - eps) * rows + eps * rng.dirichlet(np.ones(n), n)

    return load


def _matrix(*parts: str) -> Callable[[Setting], Chain]:
    def load(setting: Setting) -> Chain:
        path = setting.file(*parts)
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                rows = np.loadtxt(file)
        else:
            rows = np.loadtxt(path, delimiter=",")
        return rows / rows.sum(axis=1, keepdims=True)

    return load


def bigrams(setting: Setting) -> Chain:
    """What letter follows which, in English."""
    path = setting.file("bigrams_norvig", "bigram_counts_26x26.csv")
    counts = np.genfromtxt(path, delimiter=",", skip_header=1)[:, 1:]
    return counts / counts.sum(axis=1, keepdims=True)


def _emotions(setting: Setting) -> Chain:
    raise NotMeasured(
        "the measured transitions of 22 emotions are not public; a model is no stand-in"
    )


_CHAINS = [
    _Chain(
        "Figure 6.3(a1), nearly decomposable, eps .1", nearly_decomposable((3, 3, 3), 0.1), 3, 3
    ),
    _Chain("Figure 6.3(a2), the same, eps .5", nearly_decomposable((3, 3, 3), 0.5), 3, 3),
    _Chain(
        "Figure 6.3(a3), Courtois", _matrix("markov_chains", "Courtois_matrix.csv"), 3, 3
    ),
    _Chain(
        "Figure 6.3(a4), 100 states, eps .3",
        nearly_decomposable((10, 30, 20, 20, 20), 0.3), 5, 5, 12,
    ),
    _Chain("Figure 6.4(a1), copies, 10 states", copies(10, 3, 0.1), 3, 3),
    _Chain("Figure 6.4(a2), copies, 10 states", copies(10, 4, 0.1), 4, 4),
    _Chain("Figure 6.4(a3), copies, 9 states", copies(9, 3, 0.1), 3, 3),
    _Chain("Figure 6.5(a1), emotions", _emotions, 2, None),
    _Chain("Figure 6.5(a2), Table 6.1, letters", bigrams, 2, None, 8),
    _Chain("karate club", _matrix("markov_chains", "Zacharys_karate_club.csv"), None, None, 8),
    _Chain(
        "251 states of a molecule", _matrix("markov_chains", "msmtools_P_rev_251x251.dat.gz"),
        None, None, 8,
    ),
]  # fmt: skip
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_VOWELS_AND_N, _VOWELS_AND_Y = "aeinou", "aeiouy"


def _compute(setting: Setting, each: _Chain) -> dict[str, Any]:
    rows = each.load(setting)
    n = len(rows)
    most = max(2, n // 2) if each.largest is None else each.largest
    with jax.enable_x64(True):
        chain = jnp.asarray(rows)
        labels = aggregations(chain, most, starts=8, key=jax.random.key(setting.seed))
        order = marginal_return(chain, labels)
        problem = MarkovAggregation(chain, most)
        lost = [float(problem.of_partition(row).information_loss) for row in labels]
        total = float(problem.information())
        found = {
            "known": each.known,
            "best": int(order.best),
            "v": np.round(np.asarray(order.returns[1:]), 4),
            "D": np.round(lost, 4),
            "information": total,
        }
        if each.load is bigrams:
            two = np.asarray(labels[1])
            parts = sorted("".join(_LETTERS[i] for i in np.flatnonzero(two == j)) for j in range(2))
            found["two"] = min(parts, key=len)
            for name, letters in (("D_vowels_n", _VOWELS_AND_N), ("D_vowels_y", _VOWELS_AND_Y)):
                split = jnp.asarray([int(letter in letters) for letter in _LETTERS])
                found[name] = float(problem.of_partition(split).information_loss)
    return found


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    printed = {each.key: each.printed for each in _CHAINS if each.printed is not None}
    claims = counted_as_printed("chains counted as printed", rows, printed)
    letters = rows.get("Figure 6.5(a2), Table 6.1, letters")
    if letters is not None:
        claims.append(
            Claim(
                "two groups of letters that lose least, and what they lose",
                "a e i o u y, .3230 by (6.2)", f"{' '.join(letters['two'])}, {letters['D'][1]:.4f}",
                letters["D"][1] >= letters["D_vowels_y"] - 1e-9,
            )
        )  # fmt: skip
    return claims


REPRODUCTION = Reproduction(
    "table_6_1",
    "how many superstates, by the marginal return",
    "parameterized sequential decision making, Figures 6.3 to 6.5 and Table 6.1",
    partial(tasks_of, _CHAINS, _compute),
    {
        "known": "blocks or copies there are",
        "best": "marginal return",
        "v": "v(2), v(3), ...",
        "D": "information lost, k = 1, 2, ... (nats)",
        "two": "of two groups, the smaller",
    },
    _claims,
    lambda rows, setting: {"returns": curves(rows)} if rows else {},
    minutes={"small": 1, "medium": 1, "paper": 1},
)
