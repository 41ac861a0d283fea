"""Supports of unknown size found exactly, 100 x 1000 with 12 non-zeros, beside OMP told 12."""

import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mepjax.select import ebic, sparse_path
from mepjax.select.sparse_marginal_return import sparse_marginal_return

from .measure import clocked

_R, _N, _M, _LARGEST = 100, 1000, 12, 24
_BLOCKS = (0, 100, 200)


def instance(seed: int, signs: bool, decibels: float | None) -> tuple[Any, Any, set[int]]:
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(_R, _N))
    support = rng.choice(_N, _M, replace=False)
    amplitudes = rng.choice([-1.0, 1.0], _M) if signs else rng.normal(size=_M)
    clean = design[:, support] @ amplitudes
    noise = 0.0
    if decibels is not None:
        noise = np.linalg.norm(clean) / np.sqrt(_R) * 10 ** (-decibels / 20)
    response = clean + noise * rng.normal(size=_R)
    return design.astype(np.float32), response.astype(np.float32), set(support.tolist())


def run(seeds: int = 20) -> Iterator[dict[str, Any]]:
    from sklearn.linear_model import orthogonal_mp

    for signs in (False, True):
        for decibels in (None, 30.0):
            for first in _BLOCKS:
                hits = {"path + ebic": 0, "path + return": 0, "OMP told 12": 0}
                times: dict[str, list[float]] = {"path": [], "OMP": []}
                for seed in range(first, first + seeds):
                    design, response, truth = instance(seed, signs, decibels)
                    a, y = jnp.asarray(design), jnp.asarray(response)
                    jax.block_until_ready(sparse_path(a, y, _LARGEST))
                    path, seconds = clocked(sparse_path, a, y, _LARGEST)
                    times["path"].append(seconds)
                    supports = np.asarray(path.supports)
                    size = int(np.argmin(ebic(path, _R, _N)))
                    hits["path + ebic"] += set(supports[size - 1, :size].tolist()) == truth
                    size = int(sparse_marginal_return(a, y, path).best)
                    hits["path + return"] += set(supports[size - 1, :size].tolist()) == truth
                    found, seconds = clocked(
                        lambda a=design, y=response: orthogonal_mp(a, y, n_nonzero_coefs=_M)
                    )
                    times["OMP"].append(seconds)
                    hits["OMP told 12"] += set(np.flatnonzero(found).tolist()) == truth
                yield {
                    "amplitudes": "+-1" if signs else "normal",
                    "noise_db": decibels,
                    "seeds": f"{first}-{first + seeds - 1}",
                    **{name: count / seeds for name, count in hits.items()},
                    "path_ms": 1e3 * float(np.median(times["path"])),
                    "path over OMP": float(np.median(times["path"]) / np.median(times["OMP"])),
                }
    for signs in (False, True):
        for decibels in (None, 30.0):
            yield _peers(signs, decibels, seeds)
    yield _batch()


def _abess(design: Any, response: Any) -> Any:
    from abess import LinearRegression  # type: ignore

    model = LinearRegression(support_size=range(_LARGEST + 1), ic_type="ebic")
    model.fit(design.astype(np.float64), response.astype(np.float64))
    return model.coef_


def _omp_cv(design: Any, response: Any) -> Any:
    from sklearn.linear_model import OrthogonalMatchingPursuitCV

    return OrthogonalMatchingPursuitCV(max_iter=_LARGEST, cv=5).fit(design, response).coef_


def _lasso_ic(design: Any, response: Any) -> Any:
    """BIC; the noise from the residual of OMP, as columns are more than responses."""
    from sklearn.linear_model import LassoLarsIC, orthogonal_mp

    left = response - design @ orthogonal_mp(design, response, n_nonzero_coefs=_LARGEST)
    noise = max(float(left @ left) / (_R - _LARGEST), 1e-12)
    return LassoLarsIC(criterion="bic", noise_variance=noise).fit(design, response).coef_


def _peers(signs: bool, decibels: float | None, seeds: int) -> dict[str, Any]:
    """Methods that are not told how many columns there are, on the first block of seeds."""
    row: dict[str, Any] = {
        "amplitudes": "+-1" if signs else "normal",
        "noise_db": decibels,
        "seeds": f"0-{seeds - 1}, peers",
    }
    cases = [instance(seed, signs, decibels) for seed in range(seeds)]
    arrays = [(jnp.asarray(a), jnp.asarray(y)) for a, y, _ in cases]
    jax.block_until_ready(sparse_path(*arrays[0], _LARGEST))
    ours = [clocked(sparse_path, a, y, _LARGEST)[1] for a, y in arrays]
    for name, peer in (("abess", _abess), ("OMP-CV", _omp_cv), ("LassoLarsIC", _lasso_ic)):
        hits, times = 0, []
        try:
            for design, response, truth in cases:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found, seconds = clocked(peer, design, response)
                times.append(seconds)
                hits += set(np.flatnonzero(found).tolist()) == truth
        except ImportError:
            row[name] = "not measured: not installed"
            continue
        row[name] = hits / seeds
        row[f"path over {name}"] = float(np.median(ours) / np.median(times))
    return row


def _batch(lanes: int = 64) -> dict[str, Any]:
    """Designs in one call by `vmap`, beside one after the other."""
    cases = [instance(seed, True, None) for seed in range(lanes)]
    designs, responses = (jnp.stack([jnp.asarray(case[i]) for case in cases]) for i in (0, 1))
    solve = jax.jit(jax.vmap(lambda a, y: sparse_path(a, y, _LARGEST)))
    jax.block_until_ready(solve(designs, responses))
    path, together = clocked(solve, designs, responses)
    sizes = np.argmin(np.asarray(ebic(path, _R, _N)), axis=1)
    hits = [
        set(np.asarray(path.supports[lane, size - 1, :size]).tolist()) == cases[lane][2]
        for lane, size in enumerate(sizes)
    ]
    start = clocked(
        lambda: [sparse_path(a, y, _LARGEST) for a, y in zip(designs, responses, strict=True)]
    )[1]
    return {
        "amplitudes": "+-1", "noise_db": None, "seeds": f"0-{lanes - 1}, one batch",
        "path + ebic": float(np.mean(hits)), "path_ms": 1e3 * together / lanes,
        "batch over a loop": together / start,
    }  # fmt: skip
