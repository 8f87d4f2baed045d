"""Millstream: an event-driven platform for devices."""

from millstream.event import Event

__all__ = ["Event"]
