"""How the library compiles itself: by a rule that looks at shapes and devices only."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax._core import programs
from mepjax._core.programs import compile_options, program

QUICK = programs._quick()


def square(x):
    return x @ x.T


@pytest.fixture
def options_used(monkeypatch):
    """The options of every program that is called."""
    used = []
    rule = compile_options.of_call

    def spy(arguments, is_long=False):
        used.append(rule(arguments, is_long))
        return used[-1]

    monkeypatch.setattr(compile_options, "of_call", staticmethod(spy))
    return used


def test_small_calls_are_quick_and_large_ones_are_not(options_used):
    columns = 1 << 9
    rows = programs._QUICK_LIMIT // columns
    call = program(lambda x: jnp.sum(x))
    call(jnp.ones((rows, columns)))
    call(np.ones((rows + 1, columns)))
    assert options_used == [QUICK, ()]
    assert QUICK  # this jaxlib knows them
    long = program(lambda x, times: x * times, is_long=lambda x, times: times > 5)
    long(jnp.ones(2), 5)
    long(jnp.ones(2), 6)
    assert options_used[2:] == [QUICK, ()]


@pytest.mark.parametrize("transform", ["jit", "grad", "hessian", "vmap", "scan", "closed over"])
def test_staged_calls_are_plain(transform, options_used):
    x = jnp.arange(6.0).reshape(2, 3)
    quadratic = lambda x: jnp.sum(square(x) ** 2)  # noqa: E731
    call = program(quadratic)
    run = {
        "jit": lambda call: jax.jit(call)(x),
        "grad": lambda call: jax.grad(call)(x),
        "hessian": lambda call: jax.hessian(call)(x),
        "vmap": lambda call: jax.vmap(call)(x[None]),
        "scan": lambda call: jax.lax.scan(lambda c, _: (c + call(x), 0), 0.0, None, length=2)[0],
        "closed over": lambda call: jax.jit(lambda s: s * call(x))(2.0),
    }[transform]
    np.testing.assert_allclose(run(call), run(quadratic), rtol=1e-12)
    assert set(options_used) == {()}


def test_choices(options_used):
    call, x = program(square), jnp.ones((2, 2))
    level = {"xla_backend_optimization_level": 1}
    for choice, expected in (("full", ()), ("quick", QUICK), (level, tuple(level.items()))):
        with mj.compile_options(choice):
            assert float(call(x)[0, 0]) == 2.0
        assert options_used[-1] == expected
    # The choice before comes back, and without `with` a choice stays.
    call(x)
    assert options_used[-1] == QUICK
    mj.compile_options("full")
    try:
        call(x)
        assert options_used[-1] == ()
    finally:
        mj.compile_options("auto")


def test_bad_choices_are_refused_and_change_nothing():
    with pytest.raises(ValueError, match="expected one of .*'full'.*got 'fast'"):
        mj.compile_options("fast")
    with pytest.raises(ValueError, match="XLA refuses 'xla_no_such_option' = 1"):
        mj.compile_options({"xla_no_such_option": 1})
    assert compile_options._now == "auto"


def test_options_a_jaxlib_does_not_know_are_left_out(monkeypatch):
    monkeypatch.setattr(programs, "_QUICK", {**programs._QUICK, "xla_of_tomorrow": True})
    programs._quick.cache_clear()
    try:
        assert programs._quick() == QUICK
        assert float(program(square)(jnp.ones((1, 1)))[0, 0]) == 1.0
    finally:
        programs._quick.cache_clear()


def test_same_call_compiles_once():
    traced = []

    def count(x):
        traced.append(1)
        return x + 1

    call = program(count)
    for value in (1.0, 2.0):
        call(jnp.asarray(value))
    assert len(traced) == 1


def test_the_limit_of_quick_compiling_is_the_one_that_was_measured():
    file = Path(__file__).parents[3] / "benchmarks/results/compile.json"
    rows = [row for row in json.loads(file.read_text())["rows"] if row["part"] == "limit"]
    *sizes, chosen = rows
    assert programs._QUICK_LIMIT == chosen["numbers"]
    for row in sizes:
        pays = row["quick_s"] <= 0.5 * row["full_s"]
        assert pays == (row["numbers"] <= chosen["numbers"])
