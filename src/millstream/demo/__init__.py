"""The demo: recordings of a real machine, an office and road sensors, replayed as devices into the whole platform."""

from millstream.demo.show import run

__all__ = ["run"]
