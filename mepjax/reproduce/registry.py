"""The reproductions there are, by name. Each is one module, imported when it is asked for."""

import importlib

from .reproduction import Reproduction

# Name: module of this package, whose `REPRODUCTION` it is, or what stands behind the colon.
REPRODUCTIONS = {
    "table1": "table1",
    "table2": "table2",
    "table3": "table3",
    "table3_k50": "table3:FIFTY",
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
# Other names of what one of those computes.
ALIASES = {
    "table5": "table4",
    "appendix-k": "appendix_k",
    "figure7": "appendix_k",
    "figure8": "appendix_k",
    "figure9": "appendix_k",
}


def load(name: str) -> Reproduction:
    """The reproduction of a name, or of one of `ALIASES`.

    **Raises:** `KeyError` for another name.

    **Example:**

    ```python
    >>> from mepjax.reproduce import load
    >>> load("figure4").source
    'autonomy-aware clustering, appendix E, Figure 4'

    ```
    """
    module, _, which = REPRODUCTIONS[ALIASES.get(name, name)].partition(":")
    found = importlib.import_module(f".{module}", __package__)
    return getattr(found, which or "REPRODUCTION")
