"""`millstream ledger`, `explain` and `deadletters` beside a running server, and without one."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.millstream import Running, millstream, running, until

from millstream.cli import frame
from millstream.cli.moments import parse_since
from millstream.clock import VirtualClock
from millstream.errors import SettingsError

APP = Path(__file__).with_name("ledgerplant.py")


class Shell:
    """Runs commands in this process, which is quicker than starting one for each."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capfd = capfd

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self._capfd.readouterr()
        code = frame.execute([*arguments, "--data", str(self._folder)])
        return (code, *self._capfd.readouterr())

    def shown(self, *arguments: str) -> str:
        """What a command that succeeds prints."""
        code, out, err = self.run(*arguments)
        assert (code, err) == (0, "")
        return out

    def told(self, *arguments: str) -> str:
        """What a command that succeeds says beside its output."""
        code, _, err = self.run(*arguments)
        assert code == 0, err
        return err

    def json(self, *arguments: str) -> Any:
        return json.loads(self.shown(*arguments, "--json"))

    def settled(self) -> Any:
        """The ledger, once every group has read everything, and the refusal is counted: refusals are some at a time."""

        def found() -> Any:
            row = self.json("ledger")
            return row["gateway"]["rejected"] and not any(group["lag"] for group in row["groups"]) and row

        return until(found)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server to which three orders have come, a duplicate, a late one, one that is no JSON, and a bad request."""
    folder = tmp_path_factory.mktemp("ledger") / "data"
    with running(folder, str(APP)) as run:
        with httpx.Client(base_url=f"http://{run.http}") as http:
            for event_id, second, n in (("e-1", 1, 1), ("e-2", 2, 2), ("e-2", 2, 2), ("e-3", 3, 3), ("e-4", 30, 4)):
                payload = {"n": n, "ts": f"2026-01-01T00:00:{second:02}Z"}
                assert http.post("/topics/orders/a", json=payload, headers={"ce-id": event_id}).is_success
            late = {"n": 6, "ts": "2026-01-01T00:00:04Z"}
            assert http.post("/topics/orders/a", json=late, headers={"ce-id": "e-5"}).is_success
            assert http.post("/topics/orders/a", json={"n": 100, "ts": late["ts"]}, headers={"ce-id": "e-6"}).is_success
            assert http.post("/topics/orders/b", content=b"no JSON", headers={"ce-id": "e-7"}).is_success
            assert http.post("/topics/else", json=1).is_success
            assert http.post("/topics/a%2B%2F%23", content=b"<rubbish>").status_code == 400
        yield run


@pytest.fixture
def shell(server: Running, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(server.folder, capfd)


@pytest.fixture
def copied(server: Running, capfd: pytest.CaptureFixture[str]) -> Callable[[Path], Path]:
    """Makes a copy of the data folder that nobody serves."""

    def copy(to: Path) -> Path:
        Shell(server.folder, capfd).settled()
        folder = to / "data"
        folder.mkdir()
        for name in ("log.db", "log.db-wal"):
            if (server.folder / name).exists():
                shutil.copy(server.folder / name, folder / name)
        return folder

    return copy


def test_the_ledger_tells_where_everything_ended(shell: Shell) -> None:
    row = shell.settled()
    assert row["balanced"]
    assert row["gateway"] == {
        "received": 10,
        "committed": 8,
        "duplicates": 1,
        "transient": 0,
        "rejected": {"bad_request": 1},
    }
    ended = {group["group"]: group["outcomes"] for group in row["groups"]}
    assert ended["counted"] == {"processed": 4, "filtered": 1, "late": 1, "dead-lettered": 1}
    assert ended["book"].items() >= {"dead-lettered": 3, "processed": 4}.items()
    assert ended["audit"].items() >= {"processed": 7}.items()
    streams = {stream["stream"]: stream for stream in row["streams"]}
    assert streams["orders"] == {"stream": "orders", "events": 7, "held": 7, "dropped": 0, "sources": {"$gateway": 7}}
    kinds = {(aside["group"], aside["kind"]): aside["events"] for aside in row["dead_letters"]}
    assert kinds == {
        ("book", "PayloadError"): 1,
        ("book", "ValueError"): 2,
        ("counted", "the payload is not JSON"): 1,
    }
    assert [(late["group"], late["stream"], late["events"]) for late in row["late"]] == [("counted", "counted.late", 1)]
    (trace,) = row["traces"]
    assert (trace["reason"], trace["topic"], trace["client"]) == ("bad_request", "a+/#", "127.0.0.1")
    assert "wildcard" in trace["text"]


def test_the_ledger_is_shown_as_tables(shell: Shell) -> None:
    shell.settled()
    shown = shell.shown("ledger")
    assert "equations hold" in shown
    for part in ("bad_request 1", "processed 4, filtered 1, late 1, dead-lettered 1", "ValueError: 3 is odd", "a+/#"):
        assert part in shown


def test_since_a_moment_there_is_less(shell: Shell) -> None:
    shell.settled()
    row = shell.json("ledger", "--since", "2100-01-01T00:00:00Z")
    assert (row["dead_letters"], row["late"], row["traces"]) == ([], [], [])
    assert row["gateway"]["received"] == 10
    assert "since 2" in shell.shown("ledger", "--since", "1h")
    code, _, err = shell.run("ledger", "--since", "yesterday")
    assert code == 2
    assert "12h" in err


def test_an_event_is_explained_by_its_id(shell: Shell) -> None:
    shell.settled()
    (row,) = shell.json("explain", "e-1", "--app", str(APP))
    assert (row["topic"], row["id"], row["data"]["n"]) == ("orders/a", "e-1", 1)
    became = {outcome["group"]: outcome for copy in row["copies"] for outcome in copy["outcomes"]}
    assert {group: its["state"] for group, its in became.items()} == {
        "counted": "completed",
        "audit": "completed",
        "book": "dead-lettered",
    }
    assert became["book"]["kept"].startswith("$deadletters:")
    assert "1 is odd" in became["book"]["why"]
    (result,) = row["results"]
    assert result["id"] == "counted:a:1767225610000000"
    assert result["position"].startswith("counted:")
    (found,) = shell.json("explain", result["id"])
    assert found["data"] == {"shop": "a", "n": 3, "window_end": "2026-01-01T00:00:10Z"}


def test_an_event_is_explained_by_its_position(shell: Shell) -> None:
    shell.settled()
    (by_id,) = shell.json("explain", "e-2")
    positions = [copy["position"] for copy in by_id["copies"]]
    assert sorted(position.partition(":")[0] for position in positions) == ["events", "orders"]
    for position in positions:
        (row,) = shell.json("explain", position)
        assert row["id"] == "e-2"
        assert sorted(copy["position"] for copy in row["copies"]) == sorted(positions)
        assert row["results"] is None


@pytest.mark.parametrize(
    ("event_id", "why"), [("e-5", "it is late"), ("e-6", "WHERE leaves the event out"), ("e-7", "it is dead-lettered")]
)
def test_why_an_event_is_in_no_result(shell: Shell, event_id: str, why: str) -> None:
    shell.settled()
    original = next(row for row in shell.json("explain", event_id, "--app", str(APP)) if row["made_from"] is None)
    (result,) = original["results"]
    assert result["position"] is None
    assert why in result["why"]


def test_what_a_late_copy_was_made_from_is_told(shell: Shell) -> None:
    shell.settled()
    original, copy = shell.json("explain", "e-5", "--app", str(APP))
    late = next(o for c in original["copies"] for o in c["outcomes"] if o["group"] == "counted")
    assert late["state"] == "late"
    assert late["kept"] in [c["position"] for c in copy["copies"]]
    assert copy["made_from"] in [c["position"] for c in original["copies"]]
    passed_by = {o["group"]: o["state"] for c in copy["copies"] for o in c["outcomes"]}
    assert passed_by == {"audit": "skipped", "book": "skipped"}
    shown = shell.shown("explain", "e-5")
    assert "its window ended at 2026-01-01T00:00:10Z" in shown
    assert "--app" in shown


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("nobody", "no event with the id 'nobody'"),
        ("orders:0:999", "the partition ends at"),
        ("orders:99:0", "no event with the id"),
        ("orders:x:0", "no event with the id"),
    ],
)
def test_what_cannot_be_explained_is_said(shell: Shell, what: str, told: str) -> None:
    code, out, err = shell.run("explain", what)
    assert (code, out) == (1, "")
    assert told in err


def test_dead_letters_are_listed_and_shown(shell: Shell) -> None:
    shell.settled()
    rows = shell.json("deadletters", "list", "--group", "book", "--reason", "is odd", "--topic", "orders/+")
    assert [row["data"]["n"] for row in rows] == [1, 3]
    assert shell.json("deadletters", "list", "--since", "2100-01-01T00:00:00Z") == []
    assert "the last 1 of 4" in shell.told("deadletters", "list", "--limit", "1")
    row = shell.json("deadletters", "show", rows[0]["letter"])
    assert row == rows[0]
    assert (row["error"], row["id"], row["resolution"]) == ("ValueError: 1 is odd", "e-1", None)
    assert "ValueError: 1 is odd" in shell.shown("deadletters", "show", rows[0]["letter"])
    assert shell.run("deadletters", "show", "0:99")[0] == 1
    assert shell.run("deadletters", "list", "--topic", "a/#/b")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("drop",), "or say --all"),
        (("drop", "1:0", "--all"), "or say --all"),
        (("drop", "1:0", "--group", "book"), "leave the names out"),
        (("resend", "--all", "--payload", "-"), "for one dead letter"),
        (("resend", "--all"), "--yes"),
    ],
)
def test_an_operator_says_clearly_what_is_meant(
    shell: Shell, arguments: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.settled()
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    monkeypatch.setattr("millstream.cli.resolving._read", lambda source: b"")
    code, _, err = shell.run("deadletters", *arguments)
    assert code == 2
    assert told in err


def test_an_operator_mends_what_is_broken(
    server: Running, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole story: one with another payload, one edited, the rest again, what is hopeless dropped."""
    before = shell.settled()
    first, second = (row["letter"] for row in shell.json("deadletters", "list", "--reason", "is odd"))
    mended = tmp_path / "mended.json"
    mended.write_text('{"n": 1, "mended": true}')
    assert "1 dead letter sent again" in shell.told("deadletters", "resend", first, "--payload", str(mended))
    monkeypatch.setenv("VISUAL", "sed -i s/3,/8,/")
    assert "1 dead letter sent again" in shell.told("deadletters", "edit", second)
    monkeypatch.setenv("VISUAL", "true")
    hopeless = shell.json("deadletters", "list", "--group", "book")[0]["letter"]
    assert "nothing was changed" in shell.told("deadletters", "edit", hopeless)
    monkeypatch.setenv("VISUAL", "false")
    assert shell.run("deadletters", "edit", hopeless)[0] == 1
    assert "1 dead letter sent again" in shell.told("deadletters", "resend", "--all", "--yes", "--group", "book")
    after = shell.settled()
    assert after["balanced"]
    ends = {name: {g["group"]: g["outcomes"] for g in row["groups"]} for name, row in (("was", before), ("is", after))}
    assert ends["is"]["book"]["processed"] == ends["was"]["book"]["processed"] + 2
    assert ends["is"]["book"]["dead-lettered"] == ends["was"]["book"]["dead-lettered"] + 1, "it is no JSON still"
    assert ends["is"]["audit"]["processed"] == ends["was"]["audit"]["processed"], "it is for one group alone"
    assert "2 dead letters dropped" in shell.told("deadletters", "drop", "--all", "--yes")
    assert shell.json("deadletters", "list") == []
    done = {row["letter"]: row["resolution"] for row in shell.json("deadletters", "list", "--all")}
    assert {name: done[name]["action"] for name in (first, second, hopeless)} == dict.fromkeys(
        (first, second, hopeless), "resent"
    )
    assert done[second]["edited"]
    assert [its["action"] for its in done.values()].count("dropped") == 2
    original, again = shell.json("explain", "e-3")
    assert original["sent_again"] == [again["copies"][0]["position"]]
    assert again["made_from"] == next(c["position"] for c in original["copies"] if c["position"].startswith("events"))
    assert shell.run("deadletters", "resend", first)[0] == 1
    assert {aside["open"] for aside in shell.json("ledger")["dead_letters"]} == {0}


def test_without_a_server_all_is_shown_and_nothing_changed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], copied: Callable[[Path], Path]
) -> None:
    folder = copied(tmp_path)
    shell = Shell(folder, capfd)
    assert shell.json("ledger")["balanced"]
    assert shell.json("explain", "e-1")
    (letter, *_) = shell.json("deadletters", "list", "--all")
    code, _, err = shell.run("deadletters", "drop", letter["letter"])
    assert code == 1
    assert "no server runs" in err


def test_the_exit_code_tells_that_counts_do_not_balance(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], copied: Callable[[Path], Path]
) -> None:
    folder = copied(tmp_path)
    with sqlite3.connect(folder / "log.db") as db:
        db.execute("UPDATE counts SET n = n + 1 WHERE name = 'received'")
    code, out, _ = Shell(folder, capfd).run("ledger")
    assert code == 1
    assert "received by the gateway" in out
    assert "≠" in out


def test_as_a_person_starts_them(server: Running) -> None:
    for command in (("ledger",), ("explain", "e-1"), ("deadletters", "list", "--all")):
        done = millstream(*command, "--data", str(server.folder))
        assert (done.returncode, done.stderr) == (0, "")
        assert "orders" in done.stdout
        assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", "2025-12-31T23:58:30+00:00"),
        ("30m", "2025-12-31T23:30:00+00:00"),
        ("12h", "2025-12-31T12:00:00+00:00"),
        ("7d", "2025-12-25T00:00:00+00:00"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00+00:00"),
        ("2026-01-01T02:00:00+02:00", "2026-01-01T02:00:00+02:00"),
    ],
)
def test_moments(text: str, moment: str) -> None:
    found = parse_since(text, VirtualClock())
    assert found is not None
    assert found.isoformat() == moment


@pytest.mark.parametrize("text", ["", "12", "h", "12h ", "--1h", "tomorrow", "2026-01-01T00:00:00"])
def test_what_is_no_moment_is_said(text: str) -> None:
    with pytest.raises(SettingsError, match="--since"):
        parse_since(text, VirtualClock())
