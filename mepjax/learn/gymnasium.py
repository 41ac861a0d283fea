"""Entities to be told clusters, as an environment of Gymnasium."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..problems.clustering import Clustering
from .environments import AbstractEnvironment
from .rounds import checked
from .scattered import check_environment


def as_gymnasium(
    problem: Clustering, environment: AbstractEnvironment, *, centres: Any = None
) -> Any:
    """The unit-horizon decision process of a clustering, for libraries that speak Gymnasium.

    An episode is one step: an entity is drawn by its weight and observed by its features, the
    action is the cluster it is told to join, the reward minus what it then pays. `info` has the
    row of the `entity` and, where it is not hidden, the cluster it `realised`.

    **Arguments:** `problem`; `environment`, what answers; `centres` (K, d), in force throughout;
    default K of the entities' own places, drawn by a fixed key.

    **Returns:** a `gymnasium.Env`.

    **Raises:** `ImportError` without gymnasium, naming the command that installs it; `ValueError`
    for centres of another shape. A step raises `RuntimeError` where the environment breaks down,
    `ValueError` where it has no answer, such as a log, or one that cannot be.

    Source: autonomy-aware clustering, section 4, equations (5) and (6).

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> asked = mj.learn.Simulated(mj.autonomy.Uniform(1.0))
    >>> env = mj.learn.as_gymnasium(problem, asked, centres=[[-1.0], [1.0]])
    >>> features, info = env.reset(seed=0)
    >>> _, reward, terminated, _, after = env.step(info["entity"])
    >>> print(reward, terminated, after["realised"] != info["entity"])
    -4.0 True True

    ```
    """
    try:
        import gymnasium
    except ImportError as error:
        raise ImportError(
            '`as_gymnasium` needs gymnasium, which is not installed; run: pip install "mepjax[mdp]"'
        ) from error
    check_environment("as_gymnasium", environment)
    if centres is None:
        centres = problem.centres(problem.scatter(jax.random.key(0)))
    places = jnp.asarray(centres, problem.x.dtype)
    if places.shape != (problem.k, problem.x.shape[1]):
        raise ValueError(
            f"as_gymnasium: `centres` must have shape ({problem.k}, {problem.x.shape[1]}); "
            f"got {places.shape}."
        )
    features = np.asarray(problem.x)
    shares = np.asarray(problem.weights, np.float64)
    shares = shares / shares.sum()

    @jax.jit
    def answered(key: Any, entity: Any, told: Any) -> tuple[Any, Any, Any]:
        seen = environment.observe(key, problem, entity, told, places)
        cost, impossible, known = checked(problem, seen, entity, places)
        failed = False if seen.failed is None else jnp.any(seen.failed)
        return seen.realised, cost, (failed, impossible, known[0])

    class OneStep(gymnasium.Env):
        """One entity, one prescription."""

        metadata = {"render_modes": []}

        def __init__(self) -> None:
            dtype: Any = features.dtype
            self.observation_space = gymnasium.spaces.Box(
                features.min(axis=0), features.max(axis=0), dtype=dtype
            )
            self.action_space = gymnasium.spaces.Discrete(problem.k)
            self.entity = 0

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
            super().reset(seed=seed)
            self.entity = int(self.np_random.choice(len(features), p=shares))
            return features[self.entity].copy(), {"entity": self.entity}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            key = jax.random.key(int(self.np_random.integers(2**32)))
            one = np.asarray([self.entity], np.int32)
            told = np.asarray([int(action)], np.int32)
            realised, cost, (failed, impossible, known) = answered(key, one, told)
            what = f"entity {self.entity} told {int(action)}"
            if failed:
                raise RuntimeError(f"The environment broke down: {environment.failure}")
            if impossible:
                raise ValueError(f"The environment answered what cannot be for {what}.")
            if not known:
                raise ValueError(f"The environment has no answer for {what}.")
            info = {"entity": self.entity}
            if realised is not None:
                info["realised"] = int(realised[0])
            return features[self.entity].copy(), -float(cost[0]), True, False, info

    return OneStep()
