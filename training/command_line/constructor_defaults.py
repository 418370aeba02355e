"""The defaults of a class's constructor, read from its source.

To import an agent takes seconds, which `heed train --help` should not.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path


def constructor_defaults(place: str) -> dict[str, str]:
    """Return how the arguments of a constructor are left out, by name, as a reader wants them.

    A schedule from one number to another, such as `LinearSchedule(1e-3, 1e-4, 1.0)`, is "0.001, falling to 0.0001". An
    argument whose default is None, or another expression, is left out.

    Args:
        place: of the class, "package.module:Class". Nothing of the module is executed.
    """
    module, _, name = place.partition(":")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return {}
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    return _defaults(method.args)
    return {}


def _defaults(arguments: ast.arguments) -> dict[str, str]:
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [*zip(reversed(positional), reversed(arguments.defaults), strict=False)]
    pairs += [(one, value) for one, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value]
    told = {one.arg: _told(value) for one, value in pairs}
    return {name: text for name, text in told.items() if text is not None}


def _told(value: ast.expr) -> str | None:
    if isinstance(value, ast.Constant):
        return None if value.value is None else str(value.value)
    if isinstance(value, ast.Call):
        numbers = [one.value for one in value.args if isinstance(one, ast.Constant) and isinstance(one.value, float)]
        if len(numbers) >= 2:
            start, end = numbers[:2]
            return f"{start}, {'falling' if end < start else 'rising'} to {end}"
    return None
