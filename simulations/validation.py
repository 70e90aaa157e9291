"""Declared configurations, and pydantic's errors about them as sentences: what was given, what is allowed.

A field says all that is known of a key: its type, its default, its range, its names. `sentences` is the only place
that words what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from simulations.wording import unknown

Item = TypeVar("Item")

# Of pydantic's kinds of errors: what should have been given, and how a number is out of range.
WANTED = {
    "string_type": 'a text in quotes (key="text")',
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
RANGES = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "finite_number": "a finite number",
}


class Checked(BaseModel):
    """A table of a configuration: no other keys, no conversion but from whole to other numbers, dashes in keys."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        alias_generator=lambda name: name.replace("_", "-"),
        validate_by_name=True,
        validate_by_alias=True,
    )


def listed(value: Any) -> tuple[Any, ...]:
    """Return a list's items; something else as the only item; nothing for None."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)


# What may be given as a list or as a single item.
Listed = Annotated[tuple[Item, ...], BeforeValidator(listed)]


def one_of(allowed: Callable[[], Iterable[object]]) -> AfterValidator:
    """Check that a value is among those that are allowed when it is checked."""

    def check(value: Any) -> Any:
        names = list(allowed())
        if value not in names:
            raise PydanticCustomError("unknown", "unknown", {"allowed": names})
        return value

    return AfterValidator(check)


def sentences(
    error: ValidationError, model: type[BaseModel], origin: str = "", headings: Mapping[str, str] | None = None
) -> list[str]:
    """Say what is wrong, a sentence for each mistake, each mistake once.

    Parameters
    ----------
    error : ValidationError
        What pydantic found.
    model : type of BaseModel
        What was to be read.
    origin : str
        Where it is from, such as a file's name.
    headings : mapping, optional
        How tables are written, as in ``{"figure": "[[figure]]"}``.
    """
    headings = headings or {}
    found: dict[str, None] = {}
    for details in error.errors():
        place = [str(part) for part in details["loc"] if not isinstance(part, int)]
        *tables, key = place or [""]
        if details["type"] in ("union_tag_invalid", "union_tag_not_found"):
            tables, key = place, "kind"
        elif details["type"] == "value_error" and key in headings:
            tables, key = place, ""
        where = " ".join([origin, *(headings.get(part, part) for part in tables)]).strip()
        for text in _texts(details, key, headings.get(key), model):
            found[f"{where}: {text}" if where else text] = None
    return list(found)


def _texts(details: ErrorDetails, key: str, heading: str | None, model: type[BaseModel]) -> Iterator[str]:
    kind, given, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        yield unknown(f"the key {key!r}", key, _keys(model, details["loc"][:-1]))
    elif kind == "unknown":
        yield unknown(f"{key}={given!r}", given, context["allowed"])
    elif kind == "union_tag_invalid":
        tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        yield unknown(f"{key}={context['tag']!r}", context["tag"], tags)
    elif kind in ("missing", "union_tag_not_found"):
        yield f"{heading or key} is missing; add it."
    elif kind == "too_short":
        yield f"{key} is empty; give at least one value."
    elif kind == "literal_error":
        yield f"{key}={given!r} is not allowed; give {context['expected']}."
    elif kind in RANGES:
        yield f"{key}={given} is out of range: give {RANGES[kind].format(**context)}."
    elif kind in WANTED:
        wanted = f"write {heading}" if heading else f"give {WANTED[kind]}"
        yield f"{key}={given!r} is of type {type(given).__name__}; {wanted}."
    elif kind == "value_error":
        yield from (f"{key}: {line}" if key else line for line in str(context["error"]).splitlines())
    else:
        yield f"{key}={given!r}: {details['msg']}."


def _keys(model: type[BaseModel], place: Iterable[int | str]) -> list[str]:
    """Return the keys that are allowed in the table of a place."""
    tables = [model]
    for part in place:
        inner = [one for table in tables for one in _tables_at(table, part)]
        kinds = [table for table in tables if part in _kinds(table)]
        tables = inner or kinds or tables
    return [str(field.alias) for table in tables for field in table.model_fields.values()]


def _tables_at(model: type[BaseModel], key: int | str) -> Iterator[type[BaseModel]]:
    for field in model.model_fields.values():
        if field.alias == key:
            yield from _models_in(field.annotation)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    """Return what a table of one of several kinds may be called."""
    field = model.model_fields.get("kind")
    return () if field is None else get_args(field.annotation)
