import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj

KEY = jax.random.key(0)
X = np.array([[-1.1], [-0.9], [0.9], [1.1]])


def test_five_lines_with_the_numbers():
    schedule = mj.Geometric(0.1, 10.0, 1.2)
    solution = mj.anneal(mj.Clustering(X, 2), schedule, key=KEY)
    lines = solution.summary().splitlines()
    assert str(solution) == solution.summary()
    assert len(lines) == 5
    assert lines[0] == "Solution: OK. The solve converged."
    assert f"F = {float(solution.free_energy):.6g}" in lines[1]
    assert f"stages: {schedule.max_stages}, from beta = 0.1" in lines[2]
    assert "phase transitions: 1, at beta = 0.49505" in lines[3]
    assert f"{float(solution.trace.curvature[-1]):.6g}" in lines[4]


def test_lanes_are_counted_and_given_as_ranges():
    def run(beta_max):
        return mj.anneal(mj.Clustering(X, 2), mj.Geometric(0.1, beta_max, 1.5), key=KEY)

    text = str(jax.vmap(run)(jnp.asarray([5.0, 10.0, -1.0])))
    assert "3 lanes: 2 OK, 1 INVALID_INPUT" in text
    assert "at beta = -1 to 10" in text


def test_without_a_detector_curvature_is_not_invented():
    solution = mj.anneal(mj.Clustering(X, 2), mj.Explicit([0.1]), key=KEY, detector=mj.NoDetector())
    assert "curvature at the end: not computed" in solution.summary()


def test_traced_solutions_have_no_numbers_to_tell():
    def run(x):
        solution = mj.anneal(mj.Clustering(x, 2), mj.Explicit([0.1]), key=KEY)
        assert str(solution).startswith("Solution(")
        with pytest.raises(TypeError, match="outside `jit`"):
            solution.summary()
        return solution.params

    jax.jit(run)(jnp.asarray(X))


def test_citation_names_what_was_used(capsys):
    mj.citation(mj.Clustering(X, 2, autonomy=mj.autonomy.Uniform(0.1)))
    assert "autonomyaware" in capsys.readouterr().out
    mj.citation()
    assert mj.__version__ in capsys.readouterr().out
    with pytest.raises(TypeError, match="got int"):
        mj.citation(3)


def test_the_error_of_a_sample_is_told_where_there_was_one():
    x = np.random.default_rng(0).normal(size=(300, 2))
    for sample, told in ((50, True), (None, False)):
        growth = mj.Growth(sample=sample, detector=mj.NoDetector(noise=0.0))
        solution = mj.anneal(mj.Clustering(x, 3), key=KEY, detector=growth)
        assert (float(solution.sampling_gap) > 0) == told
        assert ("on a sample; all data then lowered F by" in solution.summary()) == told
