"""JSON Schemas of payload types, as AsyncAPI takes them: a superset of draft 07."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import TypeAdapter

from millstream.app.payload import is_pydantic

Schema = dict[str, Any]

_PLACE = "#/components/schemas/"
_SQL = {
    "BOOLEAN": "boolean",
    "TINYINT": "integer",
    "SMALLINT": "integer",
    "INTEGER": "integer",
    "BIGINT": "integer",
    "HUGEINT": "integer",
    "UBIGINT": "integer",
    "FLOAT": "number",
    "DOUBLE": "number",
}


class Schemas:
    """Gathers schemas under names. Types of one name in two modules get the modules' names too."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema | None:
        """The schema of a payload's type, mostly a reference to a component; None where nothing is known of it."""
        if kind in (Any, bytes, None):
            return None
        if kind is str:
            return {"type": "string"}
        schema, components = _generated(kind, "")
        if any(self.components.get(name, one) != one for name, one in components.items()):
            schema, components = _generated(kind, f"{getattr(kind, '__module__', 'other')}.")
        self.components |= components
        return schema

    def of_columns(self, name: str, columns: Mapping[str, str], certain: set[str]) -> Schema:
        """The schema of a query's results: DuckDB types by name, and which of them are never null."""
        self.components[name] = {
            "type": "object",
            "properties": {column: _of_column(type_, column in certain) for column, type_ in columns.items()},
            "required": list(columns),
        }
        return {"$ref": _PLACE + name}


def _generated(kind: Any, prefix: str) -> tuple[Schema, dict[str, Schema]]:
    """A schema, and those that it refers to, whose names get the prefix."""
    if is_pydantic(kind):
        schema = TypeAdapter(kind).json_schema(ref_template=f"{_PLACE}{prefix}{{model}}")
        components = schema.pop("$defs", {})
        if schema.get("type") == "object" and "title" in schema:  # a model that does not refer to itself
            name = safe_name(str(schema["title"]))
            components, schema = {**components, name: schema}, {"$ref": f"{_PLACE}{prefix}{name}"}
    else:
        (schema,), components = msgspec.json.schema_components([kind], ref_template=f"{_PLACE}{prefix}{{name}}")
    return _as_draft_07(schema), {f"{prefix}{name}": _as_draft_07(one) for name, one in components.items()}


def _as_draft_07(schema: Any) -> Any:
    """Tuples as draft 07 has them: the later `prefixItems` with `items: false` would mean that they are empty."""
    if isinstance(schema, list):
        return [_as_draft_07(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _as_draft_07(value) for name, value in schema.items()}
    if isinstance(found.get("prefixItems"), list):
        rest = found.pop("items", None)
        found["items"] = found.pop("prefixItems")
        if rest is not None:
            found["additionalItems"] = rest
    return found


def _of_column(type_: str, certain: bool) -> Schema:
    name = "number" if type_.startswith("DECIMAL") else _SQL.get(type_, "string")
    found: Schema = {"type": name if certain else [name, "null"]}
    return {**found, "format": "date-time"} if type_.startswith("TIMESTAMP") else found


def safe_name(text: str) -> str:
    """A text as the name of a component: with letters, digits, `.`, `-` and `_` only, as the specification demands."""
    return "".join(char if (char.isalnum() and char.isascii()) or char in ".-_" else "_" for char in text).strip("_")
