"""The search for a critical beta."""

import jax.numpy as jnp
import numpy as np
import pytest

from mepjax.engine.bracket import critical_bracket


@pytest.mark.parametrize(
    ("curvature", "most"),
    [
        (lambda beta: 1 - beta / 3, 5),
        (lambda beta: 1 - (beta / 3) ** 3, 10),
        (lambda beta: jnp.minimum(1 - beta / 3, 0.5 - beta / 8), 5),
        (lambda beta: jnp.tanh(50 * (3 - beta)), 12),
        (lambda beta: jnp.where(beta < 3, 1.0, -1e-3), 120),
    ],
)
def test_a_bracket_closes_on_the_change_of_sign(curvature, most):
    bracket, looks = critical_bracket(jnp.asarray(2.9)), 0
    while bool(bracket.searching):
        bracket, looks = bracket.narrowed(curvature(bracket.trial)), looks + 1
    np.testing.assert_allclose(bracket.root, 3.0, rtol=1e-12)
    assert looks <= most
