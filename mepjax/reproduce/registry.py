"""The reproductions there are, by name. Each is one module, imported when it is asked for."""

import importlib

from .reproduction import Reproduction

# Name: module of this package, whose `REPRODUCTION` it is.
REPRODUCTIONS = {
    "figure1": "figure1",
    "figure4": "figure4",
    "cvi": "cvi",
}


def load(name: str) -> Reproduction:
    """The reproduction of a name.

    **Raises:** `KeyError` for another name.

    **Example:**

    ```python
    >>> from mepjax.reproduce import load
    >>> load("figure4").source
    'autonomy-aware clustering, appendix E, Figure 4'

    ```
    """
    return importlib.import_module(f".{REPRODUCTIONS[name]}", __package__).REPRODUCTION
