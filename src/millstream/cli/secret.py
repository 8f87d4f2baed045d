"""`millstream password`: from a password to the hash that the settings keep."""

from __future__ import annotations

import sys

import typer

from millstream.cli import output
from millstream.errors import SettingsError


def password() -> None:
    """Print the hash of a password that is asked for, or is the first line of standard input."""
    from millstream.password import hash_password

    output.write_line(hash_password(_ask() if sys.stdin.isatty() else _read()))
    if sys.stdin.isatty():
        output.tell('In millstream.toml:\n[users]\nNAME = "the line above"')
        output.tell("NAME may then publish and subscribe under its own name; more is a matter of [rights]")


def _ask() -> str:
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


def _read() -> str:
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise SettingsError("standard input has no password on its first line")
    return line
