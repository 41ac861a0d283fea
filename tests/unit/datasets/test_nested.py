"""Nested groups, and the numbers of distinct centres they lead to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax.datasets import nested_groups


def test_points_belong_to_their_gaussians():
    x, labels = nested_groups(3200)
    centres = np.stack([np.mean(np.asarray(x)[np.asarray(labels) == j], axis=0) for j in range(16)])
    exact, order = nested_groups(16, spread=0.0)
    assert order.tolist() == list(range(16))
    np.testing.assert_allclose(centres, exact, atol=0.05)
    again, _ = nested_groups(3200)
    np.testing.assert_array_equal(x, again)
    assert not np.array_equal(x, nested_groups(3200, seed=1)[0])


@pytest.mark.parametrize(
    "bad",
    [{"n": 0}, {"spread": -1.0}, {"half_distances": (1.0, 2.0)}, {"half_distances": (1, 2, -1)}],
)
def test_numbers_are_checked(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        nested_groups(**bad)


@pytest.mark.slow
def test_distinct_centres_stay_at_four_eight_and_sixteen():
    # The paper's kappa; a seed is the draw of the data and the key together.
    data = jnp.stack([nested_groups(320, seed=seed)[0] for seed in range(3)])

    def build(x):
        return mj.Clustering(x, 16, autonomy=mj.autonomy.Uniform(1 / 16))

    count = lambda problem, params, beta: mj.n_distinct(problem, params)  # noqa: E731
    b = float(build(data[0]).beta_scale())
    result = mj.sweep(
        build,
        data,
        key=jax.random.key(0),
        schedule=mj.Geometric(0.5 * b, 300 * b, 1.05),
        detector=mj.Growth(sample=None, max_steps=100, rtol=1e-3),
        record=mj.Record(statistic=count),
    )
    for lane in range(3):
        numbers = np.asarray(result.solutions.trace.statistic[lane, 0])
        beta = np.asarray(result.solutions.trace.beta[lane, 0])
        for number in (1, 4, 8, 16):
            at = beta[numbers == number]
            assert at[-1] / at[0] > 1.2
            assert np.all(numbers[(beta >= at[0]) & (beta <= at[-1])] == number)
