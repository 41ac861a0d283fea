"""Small scenes, with velocities whose parameters are arrays so that programs are shared."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

import mepjax as mj


class Scaling(eqx.Module):
    """Nodes move away from the origin at `rate` times their distance, destinations by `drift`."""

    rate: Any
    drift: Any

    def __call__(self, time, problem, values):
        away = jnp.broadcast_to(jnp.asarray(self.drift), problem.destinations.shape)
        return {"nodes": self.rate * problem.nodes, "destinations": away}


class Translation(eqx.Module):
    """Everything moves with one velocity."""

    velocity: Any

    def __call__(self, time, problem, values):
        return {
            "nodes": jnp.broadcast_to(self.velocity, problem.nodes.shape),
            "destinations": jnp.broadcast_to(self.velocity, problem.destinations.shape),
        }


def network(dtype: Any = np.float64, **options):
    rng = np.random.default_rng(3)
    nodes = rng.normal(size=(9, 2)).astype(dtype)
    return mj.FacilityPath(nodes, np.array([[3.0, 0.5]], dtype), 3, **options)


BETA = 2.0


def places(problem, beta=BETA):
    """Locations at which F is stationary, by an anneal in NumPy's precision of the data."""
    schedule = mj.Geometric(0.1, beta, 1.3)
    return mj.anneal(problem, schedule, key=jax.random.key(0)).params


class ValueAlone(mj.Problem):
    """A problem that is a function to follow: it has no policy and no hard decisions."""

    def policy(self, params, beta):
        return jnp.zeros((1,), params.dtype)

    def terms(self, params, beta):
        energy = self.free_energy(params, beta)
        return mj.Terms(energy, energy, jnp.zeros((), params.dtype))

    def harden(self, params):
        raise NotImplementedError


class Bowl(ValueAlone):
    """F = |y|^2 + offset: the closed oracle of the printed laws."""

    offset: Any

    def init(self, key):
        return jnp.ones((1,), self.offset.dtype)

    def free_energy(self, params, beta):
        return jnp.sum(params**2) + self.offset

    def metric(self, params, beta):
        return lx.DiagonalLinearOperator(2 * jnp.ones_like(params))


class Rising(eqx.Module):
    """The offset of a bowl rises."""

    rate: Any

    def __call__(self, time, problem, values):
        return {"offset": self.rate}
