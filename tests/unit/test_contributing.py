"""The worked example of CONTRIBUTING runs as it stands, and its answer is right."""

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import mepjax as mj

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")


def test_the_example_of_a_problem_is_short_runs_and_finds_the_best_middle():
    (example,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)
    assert len([line for line in example.splitlines() if line.strip()]) <= 60
    names: dict[str, Any] = {}
    exec(compile(example, "CONTRIBUTING.md", "exec"), names)
    problem, solution = names["problem"], names["solution"]
    x = np.asarray(problem.x)
    # By force: the middle is the mean of the entities that count.
    grid = np.linspace(-1, 10, 20_001)
    costs = np.minimum((x - grid[:, None]) ** 2, 1.0).mean(axis=1)
    np.testing.assert_allclose(names["answer"].cost, costs.min(), rtol=1e-5)
    np.testing.assert_allclose(solution.params, x[:5].mean(), atol=1e-5)
    np.testing.assert_array_equal(names["answer"].counts, [True] * 5 + [False])
    # The derivative of that mean: the entity left out has none.
    np.testing.assert_allclose(names["slope"], [0.2] * 5 + [0.0], atol=1e-5)


def test_a_problem_without_slots_has_one_place_for_transitions():
    (example,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)
    names: dict[str, Any] = {}
    exec(compile(example.partition("\nx = ")[0], "CONTRIBUTING.md", "exec"), names)
    problem = names["RobustMean"](jax.numpy.arange(4.0), jax.numpy.array(1.0))
    assert problem.n_slots is None and problem.continuation is None
    assert float(problem.beta_floor()) == 0
    assert problem.replace(price=jax.numpy.array(2.0)).price == 2
    with pytest.raises(ValueError, match="RobustMean"):
        problem.replace(price=jax.numpy.array(np.nan))
    schedule = mj.Geometric(0.1, 10.0, 2.0)
    solution = mj.anneal(problem, schedule, key=jax.random.key(0), detector=mj.Growth())
    assert solution.params.shape == () and solution.transitions.shape == (1,)


def test_the_contract_is_listed_whole():
    listed = set(re.findall(r"`(\w+)(?:\([^`]*\))?`", TEXT))
    for kind in (mj.Problem, mj.Growable, mj.Constrained):
        own = {
            name
            for base in kind.__mro__[:-1]
            if base.__module__.startswith("mepjax")
            for name in vars(base)
            if not name.startswith("_")
        }
        # Those of an equation that a problem has no reason to write.
        own -= {"jacobian", "jacobian_solver", "at", "kicked", "scatters", "has_slot_spectrum"}
        assert own <= listed, own - listed
