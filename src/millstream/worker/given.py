"""What a handler's parameters get that is the same for every event, and where they find what is made for one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from millstream.app.devices import Devices
from millstream.app.parameter import Gets, Parameter
from millstream.clock import Clock

Made = Mapping[Callable[..., Any], Any]
"""The values of dependencies, by the factory that was named."""

NOTHING: Made = {}

position: ContextVar[str] = ContextVar("millstream_position")
"""Which event is being handled in this task or thread, as `stream:partition:offset`; of a batch, the first one and the
last one's offset. Told where the handler, or something that it depends on, asks for a logger."""


@dataclass(frozen=True, slots=True)
class Given:
    """Given to one handler. `made` are the values that live as long as the worker."""

    clock: Clock
    logger: logging.Logger
    state: Any
    made: Made
    devices: Devices

    def has(self, parameter: Parameter) -> bool:
        """Whether the parameter gets the same for every event."""
        if parameter.dependency is not None:
            return parameter.dependency.scope == "worker"
        return parameter.gets in (Gets.CLOCK, Gets.LOGGER, Gets.STATE, Gets.DEVICES)

    def of(self, parameter: Parameter) -> Any:
        """What a parameter that `has` said yes to gets."""
        if parameter.dependency is not None:
            return self.made[parameter.dependency.factory]
        its = {Gets.CLOCK: self.clock, Gets.LOGGER: self.logger, Gets.STATE: self.state, Gets.DEVICES: self.devices}
        return its[parameter.gets]


def handlers_logger(name: str) -> logging.Logger:
    """The logger of a handler: its records have `position`."""
    logger = logging.getLogger(name)
    logger.addFilter(_tell_position)  # the same one again changes nothing
    return logger


def _tell_position(record: logging.LogRecord) -> bool:
    record.position = position.get(None)
    return True
