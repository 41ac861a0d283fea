"""What the estimators that choose a number have in common."""

import warnings
from typing import Any

import jax
from sklearn.utils import check_random_state


def key_of(random_state: Any) -> Any:
    """A JAX key from what scikit-learn takes."""
    return jax.random.key(int(check_random_state(random_state).randint(2**31 - 1)))


def largest(max_size: int | None, default: int, most: int) -> int:
    """The largest size to compare: at most `most`, told by a warning if more was asked for."""
    if max_size is not None and max_size > most:
        warnings.warn(
            f"`max_size` {max_size} is more than there is to tell apart; comparing up to {most}.",
            UserWarning,
            stacklevel=3,
        )
    return max(1, min(default if max_size is None else max_size, most))
