"""What a configuration is refused for, in one line: the first thing wrong, where, its value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    C = TypeVar("C", bound=BaseModel)


def line(error: ValidationError, given: bool = False) -> str:
    """The first complaint; given: with the value that was refused."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    value = first.get("input")
    plain = given and isinstance(value, str | int | float)
    shown = f" (given {value!r})" if plain else ""
    return f"{where}: {said}{shown}" if where else f"{said}{shown}"


def checked(kind: type[C], values: Any, given: bool = False) -> C:
    """The configuration of this kind from plain values; ValueError in one line where refused."""
    from pydantic import ValidationError

    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ValueError(line(error, given)) from None
