"""Known parameters of a decision process that are uncertain: expectations by listing all draws."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import mdp

from ..jitted import jitted
from .test_parametric_horizon import BASE, CELLS, STAGES, USERS, M, N, chained

RNG = np.random.default_rng(7)
# User 0 stays or goes to the cell, 1 goes to the cell or to user 0's place; the cell to the base.
AFTER = np.array([[0, 2], [2, 0], [3, 3], [3, 3]])
POINTS = RNG.normal(size=(4, 3, 2))
WEIGHTS = RNG.dirichlet(np.ones(3), size=4)
CELL = np.array([[0.4, 0.2]])


def softened(s, a, n):
    return jnp.sqrt(0.04 + jnp.sum((s - n) ** 2))


def expected(cost, kernel):
    """Mean cost of every action over all joint draws of the known states' places."""
    p = np.zeros((4, 2, 4))
    if isinstance(kernel, mdp.Dense):
        p = np.asarray(kernel.p)
    else:
        np.put_along_axis(p, AFTER[..., None], 1.0, axis=2)
    total = np.zeros((4, 2))
    for draw in itertools.product(range(3), repeat=4):
        at = POINTS[np.arange(4), draw].copy()
        at[2] = CELL
        chance = np.prod([WEIGHTS[i, draw[i]] for i in (0, 1, 3)]) * WEIGHTS[2, draw[2]]
        apart = np.sum((at[:, None] - at[None]) ** 2, axis=-1)
        costs = apart if cost == "sqeuclidean" else np.sqrt(0.04 + apart)
        total += chance * np.einsum("sat,st->sa", p, costs)
    return total


@pytest.mark.parametrize("cost", ["sqeuclidean", softened], ids=["squared", "function"])
@pytest.mark.parametrize("noisy", [False, True])
def test_costs_are_means_over_all_draws(cost, noisy):
    with jax.enable_x64(True):
        kernel = mdp.Deterministic(AFTER)
        if noisy:
            kernel = mdp.Dense(0.8 * np.eye(4)[AFTER] + 0.2 * np.eye(4)[3])
        problem = mj.ParametricMDP(
            kernel, cost, state_params=mj.paths.Samples(POINTS, WEIGHTS), unknown_states=[2],
            terminal=[3],
        )  # fmt: skip
        found = eqx.filter_jit(lambda q, y: q.costs(y))(problem, jnp.asarray(CELL))
        np.testing.assert_allclose(found, expected(cost, kernel), rtol=1e-12)


def test_a_covariance_says_as_much_as_its_samples_of_squared_distances():
    with jax.enable_x64(True):
        mean = np.einsum("ps,psd->pd", WEIGHTS, POINTS)
        offsets = POINTS - mean[:, None]
        spread = np.einsum("ps,psd,pse->pde", WEIGHTS, offsets, offsets)
        options: dict[str, Any] = {"unknown_states": [2], "terminal": [3]}
        kernel = mdp.Deterministic(AFTER)
        one, other = (
            mj.ParametricMDP(kernel, state_params=given, **options)
            for given in (mj.paths.Samples(POINTS, WEIGHTS), mj.paths.Covariance(mean, spread))
        )
        y = jnp.asarray(CELL)
        for beta in (0.5, 5.0):
            energies = [jitted.free_energy(q, y, beta) for q in (one, other)]
            np.testing.assert_allclose(*energies, rtol=1e-12)
        with pytest.raises(ValueError, match="Covariance determine expected squared distances"):
            mj.ParametricMDP(
                kernel, softened, state_params=mj.paths.Covariance(mean, spread), **options
            )
        with pytest.raises(ValueError, match="`state_params.weights` must be >= 0"):
            mj.ParametricMDP(
                kernel, state_params=mj.paths.Samples(POINTS, [3.0, -1.0, 1.0]), **options
            )


def test_in_stages_it_is_a_facility_path_with_uncertain_nodes():
    with jax.enable_x64(True):
        points = USERS[:, None] + 0.3 * RNG.normal(size=(N, 4, 2))
        every = np.concatenate([points, np.zeros((M, 4, 2)), np.repeat(BASE[:, None], 4, axis=1)])
        problem = chained(state_params=mj.paths.Samples(every))
        same = mj.FacilityPath(
            mj.paths.Samples(points), BASE[0], M, n_stages=STAGES, self_loops=True
        )
        y = jnp.asarray(CELLS)
        for name in ("free_energy", "update"):
            ours, theirs = (getattr(jitted, name)(q, y, 4.0) for q in (problem, same))
            np.testing.assert_allclose(ours, theirs, rtol=1e-10)
