"""Reference data: tables from outside that events are joined with, and their versions."""

from millstream.reference.registry import REGISTRY, Found, RegistrySource, Tables, Wish
from millstream.reference.source import Content, Source
from millstream.reference.version import Pieces, decode, encode, stream_of

__all__ = [
    "REGISTRY",
    "Content",
    "Found",
    "Pieces",
    "RegistrySource",
    "Source",
    "Tables",
    "Wish",
    "decode",
    "encode",
    "stream_of",
]
