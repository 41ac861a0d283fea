"""Groups of options: a dataclass that several commands take as one parameter."""

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def spread(function: Callable[..., None]) -> Callable[..., None]:
    """The function for typer: parameters that are dataclasses become one option a field.

    Fields are annotated as typer's own parameters are; each group is built, and so checked by its
    `__post_init__`, before the function is called.

    **Example:**

    ```python
    >>> import inspect
    >>> from dataclasses import dataclass
    >>> from mepjax.cli.options.groups import spread
    >>> @dataclass(frozen=True)
    ... class Size:
    ...     width: int = 1
    ...     height: int = 2
    >>> def command(size: Size, name: str = "x") -> None:
    ...     print(name, size.width * size.height)
    >>> command = spread(command)
    >>> str(inspect.signature(command))
    "(*, width: int = 1, height: int = 2, name: str = 'x')"
    >>> command(width=3, height=2, name="y")
    y 6

    ```
    """
    hints = get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = hints[name]
        if is_dataclass(kind):
            groups[name] = kind
            inner = get_type_hints(kind, include_extras=True)
            parameters += [
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default,
                    annotation=inner[field.name],
                )
                for field in fields(kind)
            ]  # fmt: skip
        else:
            parameters.append(
                parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY)
            )

    def call(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        function(**given)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return call
