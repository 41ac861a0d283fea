"""Checks of arrays that may be large: one by one they say the same."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from mepjax._core import checks


def rows(change):
    p = np.full((3, 2, 4), 0.25, np.float32)
    change(p)
    return p


def nothing(p):
    pass


def missing(p):
    p[1, 1, 1:3] = np.inf, -np.inf


def unknown(p):
    p[0] = np.nan


def negative(p):
    p[0, 0, :2] = -0.5, 1.0


def too_much(p):
    p[2, 1, 0] = 0.3


def one_by_one(p):
    return checks.report(
        [
            checks.check_finite("Owner", "p", p),
            checks.check_range("Owner", "p", p, low=0.0),
            checks.check_rows_sum_to_one("Owner", "p", p),
        ]
    )


def test_two_passes_say_what_single_checks_say():
    together = lambda p: checks.report(checks.check_stochastic("Owner", "p", p))  # noqa: E731
    all_ = np.stack([rows(f) for f in (nothing, missing, unknown, negative, too_much)])
    traced = jax.vmap(together)(jnp.asarray(all_))
    for i, p in enumerate(all_):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            expected, told = one_by_one(p), together(p)
        assert told.sentences == expected.sentences and told.codes == expected.codes
        assert int(told.index) == int(expected.index) == int(traced.index[i])
        if int(expected.index) < 3:
            assert told.got == expected.got == traced.got[i]
