"""The embedded log: streams, groups and transactions in one SQLite file, or in memory.

`SqliteLog` lives in the server, and `serve_log` lets other processes use it, each through a `RemoteLog`. `ReadOnlyLog`
looks at the file, with or without a server. `docs/log-format.md` describes the file.
"""

from millstream.log.sqlite.log import SqliteLog
from millstream.log.sqlite.readonly import ReadOnlyLog
from millstream.log.sqlite.remote import RemoteLog
from millstream.log.sqlite.serve import serve_log

__all__ = ["ReadOnlyLog", "RemoteLog", "SqliteLog", "serve_log"]
