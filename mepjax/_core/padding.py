"""Rows of weight zero, so that data of many sizes share few compiled programs."""

import numpy as np

_SMALLEST = 128


def padded_size(n: int) -> int:
    """`n` rounded up to one of four sizes an octave: at most a quarter more, and at least 128.

    **Example:**

    ```python
    >>> from mepjax._core.padding import padded_size
    >>> [padded_size(n) for n in (1, 100, 128, 129, 1000, 1025)]
    [128, 128, 128, 160, 1024, 1280]

    ```
    """
    if n <= _SMALLEST:
        return _SMALLEST
    step = 1 << (n.bit_length() - 3)
    return -(-n // step) * step


def pad_rows(x: np.ndarray) -> np.ndarray:
    """The first row repeated at the end: finite, and legal for whatever the others are legal."""
    return np.concatenate([x, np.repeat(x[:1], padded_size(len(x)) - len(x), axis=0)])


def pad_weights(weights: np.ndarray) -> np.ndarray:
    """Zeros at the end, which leave every weighted sum as it is."""
    return np.concatenate([weights, np.zeros(padded_size(len(weights)) - len(weights))])
