"""What a handler's parameters get, found once, when it is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from millstream.app.function import name_of
from millstream.app.parameter import OF_BATCHES, OF_EVENTS, Gets, Parameter, Signature
from millstream.app.reader import Reader
from millstream.errors import AppError


def read_signature(
    function: Callable[..., Any],
    levels: Sequence[str],
    where: str,
    *,
    per_batch: bool = False,
    names: Mapping[str, Any] | None = None,
    state: Any = None,
) -> Signature:
    """The signature of a handler whose topics name `levels`.

    `where` says in errors which handler it is; `per_batch` lets `list[T]` mean payloads of many events; `names` are
    further names that the annotations may use; `state` is the type of what the app's lifespan yields.

    Raises `AppError`.
    """
    signature = Reader(tuple(levels), per_batch, names or {}, state).read(function, where)
    if sum(parameter.gets is Gets.KEYED for parameter in signature.parameters) > 1:
        raise AppError(f"{where} has two parameters that are a State; keep both in one type")
    return replace(signature, per_batch=_is_per_batch(signature, per_batch, where))


def read_wake(
    function: Callable[..., Any] | None,
    of: Signature,
    levels: Sequence[str],
    where: str,
    names: Mapping[str, Any],
    state: Any,
) -> Signature | None:
    """The signature of what is called for a key at the time that its state, that of a handler, says; None without one.
    Raises `AppError`."""
    if function is None:
        return None
    its = f"{where}: wake={name_of(function)}"
    if of.state is None:
        raise AppError(f"{its} is called at the time that a State says, and the handler has none; give it a State")
    signature = read_signature(function, levels, its, names=names, state=state)
    if signature.state is None or signature.state.kind != of.state.kind:
        raise AppError(f"{its} needs a parameter that is the handler's State")
    if signature.is_async != of.is_async:
        raise AppError(f"{its} and the handler run in one place; make both `async`, or neither")
    for one in (signature, *(each.signature for each in signature.dependencies)):
        for parameter in one.parameters:
            if parameter.gets in (Gets.EVENT, Gets.PAYLOAD):
                raise AppError(f"{its} is called without an event, which parameter {parameter.name!r} asks for")
    return signature


def overridden(
    signature: Signature,
    overrides: Mapping[Callable[..., Any], Callable[..., Any]],
    levels: Sequence[str],
    where: str,
    *,
    state: Any = None,
) -> Signature:
    """The signature with other factories in the place of some dependencies'. Raises `AppError`."""
    if not overrides:
        return signature
    reader = Reader(tuple(levels), signature.per_batch, {}, state)

    def walk(signature: Signature, within: tuple[object, ...]) -> Signature:
        return replace(signature, parameters=tuple(change(one, within) for one in signature.parameters))

    def change(parameter: Parameter, within: tuple[object, ...]) -> Parameter:
        dependency = parameter.dependency
        if dependency is None:
            return parameter
        inner = dependency.signature
        if (other := overrides.get(dependency.factory)) is not None:
            if other in within:
                raise AppError(f"{where}: override {name_of(other)} depends on what it stands in for")
            inner = reader.read_factory(other, dependency.scope, f"{where}: override {name_of(other)}")
        return replace(parameter, dependency=replace(dependency, signature=walk(inner, (*within, other))))

    changed = walk(signature, ())
    _is_per_batch(changed, signature.per_batch, where)
    return changed


def _is_per_batch(signature: Signature, asked: bool, where: str) -> bool:
    all_of_them = [
        parameter
        for one in (signature, *(one.signature for one in signature.dependencies if one.scope == "event"))
        for parameter in one.parameters
    ]
    wholes = [parameter for parameter in all_of_them if parameter.gets in OF_BATCHES]
    singles = [parameter for parameter in all_of_them if parameter.gets in OF_EVENTS]
    if wholes and singles:
        raise AppError(
            f"{where}: parameter {singles[0].name!r} is of one event, and {wholes[0].name!r} of a batch; "
            "read topics, keys and payloads from the batch"
        )
    if asked and not wholes:
        raise AppError(
            f"{where} is declared with batch=…, but no parameter takes a batch; annotate one list[Event], a list of "
            "payloads, Batch, pyarrow.RecordBatch, pyarrow.Table, polars.DataFrame or pandas.DataFrame"
        )
    return bool(wholes)
