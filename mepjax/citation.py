"""What to cite for what was used."""

from typing import Any

_BIBTEX = {
    "mepjax": """@software{mepjax,
  title   = {mepjax: maximum-entropy-principle optimisation in {JAX}},
  author  = {{The mepjax authors}},
  version = {VERSION},
}""",
    "deterministic_annealing": """@article{rose1998deterministic,
  title   = {Deterministic annealing for clustering, compression, classification, regression,
             and related optimization problems},
  author  = {Rose, Kenneth},
  journal = {Proceedings of the IEEE},
  volume  = {86},
  number  = {11},
  pages   = {2210--2239},
  year    = {1998},
}""",
    "autonomy_aware_clustering": """@unpublished{autonomyaware,
  title  = {Autonomy-aware clustering: when local decisions supersede global prescriptions},
  author = {{Anonymous authors}},
  note   = {Under double-blind review},
}""",
    "parameterised_decisions": """@phdthesis{srivastava2021parameterized,
  title  = {Parameterized sequential decision making problems},
  author = {Srivastava, Amber},
  school = {University of Illinois Urbana-Champaign},
  year   = {2021},
}""",
    "scalable_resource_allocation": """@article{sharma2009scalable,
  title  = {A maximum entropy based scalable algorithm for resource allocation problems},
  author = {Sharma, Puneet and Salapaka, Srinivasa and Beck, Carolyn},
}""",
}


def citation(problem: Any = None) -> None:
    """Print BibTeX entries for the library and the works that `problem` builds on.

    **Arguments:** `problem`: a `Problem`, such as `Clustering`; `None` for the library alone.

    **Raises:** `TypeError` for anything that does not say what it builds on.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> mj.citation(mj.Clustering(jnp.zeros((2, 1)), 1))
    @software{mepjax,
    ...
    @unpublished{autonomyaware,
    ...

    ```
    """
    from . import __version__
    from .engine.problem import Problem

    keys: tuple[str, ...] = ("mepjax",)
    if problem is not None:
        if not isinstance(problem, Problem):
            raise TypeError(
                f"citation: `problem` must be a mepjax.Problem; got {type(problem).__name__}."
            )
        keys += problem.references
    print("\n\n".join(_BIBTEX[key].replace("VERSION", __version__) for key in keys))
