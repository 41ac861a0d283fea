"""The reproductions there are, by name. Each is one module, imported when it is asked for."""

import importlib

from .reproduction import Reproduction

# Name: module of this package, whose `REPRODUCTION` it is.
REPRODUCTIONS = {
    "table1": "table1",
    "table2": "table2",
    "table3": "table3",
    "table4": "table4",
    "figure1": "figure1",
    "figure2": "figure2",
    "figure4": "figure4",
    "figure5": "figure5",
    "figure6": "figure6",
    "transfer": "transfer",
    "appendix_k": "appendix_k",
    "ablation": "ablation",
    "cvi": "cvi",
    "table_5_1": "table_5_1",
    "figure_3_3": "figure_3_3",
    "figure_3_4": "figure_3_4",
    "figure_3_5": "figure_3_5",
    "figure_4_3": "figure_4_3",
    "table_6_1": "table_6_1",
    "figure_7": "figure_7",
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
