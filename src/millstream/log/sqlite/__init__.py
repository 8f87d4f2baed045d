"""The embedded log: streams, groups and transactions in one SQLite file, or in memory.

`SqliteLog` lives in the server; `docs/log-format.md` describes its file.
"""

from millstream.log.sqlite.log import SqliteLog

__all__ = ["SqliteLog"]
