"""How the library compiles itself: quickly where that saves more than it costs."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .types import Tracer

# XLA's code for a CPU is then compiled in a quarter of the time and runs in about twice the time.
_QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}

# Numbers in the arguments of a call up to which it pays: `python -m benchmarks compile:limit`.
_QUICK_LIMIT = 1 << 18

_CHOICES = ("auto", "quick", "full")


class compile_options:  # noqa: N801 (reads like a function, as `jax.enable_x64` does)
    """Choose how much time XLA spends on the programs that the library compiles itself.

    Sets the choice when called; in a `with` statement the choice before it comes back at the end.

    - `"auto"` (default): on a CPU a call whose arguments have at most 262,144 numbers is compiled
        quickly: in about a quarter of the time, into code that takes about twice the time. All
        other calls are compiled as XLA does by default. The rule looks at shapes and devices only,
        so that the same call always gives the same bits.
    - `"quick"`: every call on a CPU is compiled quickly.
    - `"full"`: as XLA does by default. Right for a program that is called very many times.
    - a mapping: XLA's compiler options, as `jax.jit` takes them, for every call.

    Inside a user's own `jax.jit`, `jax.grad` or `jax.vmap` programs become part of the user's, and
    this has no say. Options that the installed jaxlib does not know are left out of `"auto"` and
    `"quick"`, and refused in a mapping. The last bits of results differ between choices.

    **Raises:** `ValueError` for another choice or an option that XLA refuses.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> with mj.compile_options("full"):
    ...     sol = mj.anneal(problem, key=jax.random.key(0))
    >>> print(sol.code)
    0

    ```
    """

    _now: str | tuple[tuple[str, Any], ...] = "auto"

    def __init__(self, choice: str | Mapping[str, Any] = "auto") -> None:
        new: Any = choice
        if isinstance(choice, Mapping):
            new = tuple(sorted(choice.items()))
            for name, value in new:
                refusal = _refusal(name, value)
                if refusal is not None:
                    raise ValueError(
                        f"compile_options: XLA refuses {name!r} = {value!r}: {refusal}"
                    )
        elif choice not in _CHOICES:
            raise ValueError(
                f"compile_options: expected one of {_CHOICES} or a mapping of XLA's compiler "
                f"options; got {choice!r}."
            )
        self._before = compile_options._now
        compile_options._now = new

    def __enter__(self) -> "compile_options":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        compile_options._now = self._before

    @staticmethod
    def of_call(arguments: Any, is_long: bool = False) -> tuple[tuple[str, Any], ...]:
        """XLA's options for a call with these arguments, none for its defaults.

        `is_long` says that it takes far longer than the size of its arguments shows.
        """
        now = compile_options._now
        leaves = [
            leaf for leaf in jax.tree.leaves(arguments) if isinstance(leaf, jax.Array | np.ndarray)
        ]
        if now == "full" or any(isinstance(leaf, Tracer) for leaf in leaves) or _staging():
            return ()
        if not isinstance(now, str):
            return now
        # Points on disk are no leaves.
        read = jax.tree.leaves(arguments, is_leaf=lambda node: hasattr(node, "numbers_read"))
        numbers = sum(leaf.size for leaf in leaves)
        numbers += sum(getattr(node, "numbers_read", 0) for node in read)
        large = is_long or numbers > _QUICK_LIMIT
        if now == "auto" and large:
            return ()
        placed = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
        devices = {device.platform for leaf in placed for device in leaf.devices()}
        on_cpu = (devices or {jax.default_backend()}) == {"cpu"}
        return _quick() if on_cpu else ()


def program(
    function: Callable[..., Any], *, is_long: Callable[..., bool] | None = None
) -> Callable[..., Any]:
    """`eqx.filter_jit` with the compiler options that `compile_options` chooses for each call.

    For what the library compiles itself. Use it on functions that live as long as the process.
    `is_long`, a function of the same arguments, says which calls take far longer than the size of
    these shows, by what is static in them.

    **Example:**

    ```python
    >>> import jax.numpy as jnp
    >>> from mepjax._core.programs import program
    >>> double = program(lambda x: 2 * x)
    >>> print(double(jnp.array(2.0)))
    4.0

    ```
    """
    variants: dict[tuple[tuple[str, Any], ...], Callable[..., Any]] = {}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        long = is_long is not None and is_long(*args, **kwargs)
        options = compile_options.of_call((args, kwargs), long)
        if options not in variants:
            extra: dict[str, Any] = {"compiler_options": dict(options)} if options else {}
            variants[options] = eqx.filter_jit(function, **extra)
        with own_arithmetic():
            return variants[options](*args, **kwargs)

    return call


@contextlib.contextmanager
def own_arithmetic() -> Iterator[None]:
    """Whatever the user's `jax_debug_nans`, `jax_numpy_dtype_promotion` and rank promotion are.

    These look for faults in a user's arithmetic. In the library's NaN is what a trace does not
    know, and how solves report what is not finite (NON_FINITE), and types and ranks are promoted
    on purpose. Nothing is entered where all are as they are by default, of the programs' key.
    """
    config: Any = jax.config
    with contextlib.ExitStack() as stack:
        if config.jax_debug_nans:
            stack.enter_context(jax.debug_nans(False))
        if config.jax_numpy_dtype_promotion != "standard":
            stack.enter_context(jax.numpy_dtype_promotion("standard"))
        if config.jax_numpy_rank_promotion != "allow":
            stack.enter_context(jax.numpy_rank_promotion("allow"))
        yield


def _staging() -> bool:
    """Whether an outer program is being traced, of which a call would become a part."""
    return isinstance(jnp.asarray(0), Tracer)


@functools.cache
def _refusal(name: str, value: Any) -> str | None:
    """What XLA says against a compiler option; `None` if it takes it."""
    try:
        jax.jit(lambda x: x, compiler_options={name: value}).lower(0.0).compile()
    except jax.errors.JaxRuntimeError as error:
        return str(error).splitlines()[0]
    return None


@functools.cache
def _quick() -> tuple[tuple[str, Any], ...]:
    """The options of quick compiling that this jaxlib knows."""
    return tuple((name, value) for name, value in _QUICK.items() if _refusal(name, value) is None)
