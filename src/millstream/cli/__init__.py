"""The command line.

`declarations` is what it looks like, `frame` what all commands share; each command's work is in a module of its own,
which is imported only when it runs, so that `--help` is quick. Names and forms of commands, options and JSON
members are fixed: others script against them.
"""

from millstream.cli.frame import main

__all__ = ["main"]
