"""`millstream devices …` against a running server."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.millstream import Running, until

from millstream.cli import frame
from millstream.cli.device_files import read_csv, write_csv
from millstream.devices.token import Token, derive_key
from millstream.errors import DeviceError, SettingsError
from millstream.password import hash_password

PASSWORD = "an open secret"

NAMES = st.text("abcé-_'", min_size=1, max_size=5)
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
TAGS = st.dictionaries(NAMES, VALUES, max_size=3)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose devices ada may manage."""
    folder = tmp_path_factory.mktemp("devices")
    config = folder / "millstream.toml"
    user = f'[users.ada]\npassword = "{hash_password(PASSWORD)}"\nmanage = true\nadminister = true\n'
    config.write_text(f'mqtt = "127.0.0.1:0"\nhttp = "127.0.0.1:0"\n{user}')
    run = Running(folder / "data", "--config", str(config))
    yield run
    run.close()


class Done(NamedTuple):
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str


class Shell:
    """Runs commands in this process, which is quicker than starting one for each."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._capfd = capfd
        self._monkeypatch = monkeypatch

    def devices(self, *arguments: str, password: str = PASSWORD, stdin: str = "", group: str = "devices") -> Done:
        self._monkeypatch.setenv("MILLSTREAM_USER", "ada")
        self._monkeypatch.setenv("MILLSTREAM_PASSWORD", password)
        self._monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        self._capfd.readouterr()
        code = frame.execute([group, *arguments, "--data", str(self._folder)])
        return Done(code, *self._capfd.readouterr())

    def shown(self, *arguments: str, stdin: str = "", group: str = "devices") -> Any:
        """What a command that succeeds prints, which is JSON."""
        done = self.devices(*arguments, stdin=stdin, group=group)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def shell(server: Running, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(server.folder, capfd, monkeypatch)


def test_a_device_is_made_changed_and_deleted(shell: Shell) -> None:
    made = shell.shown("create", "press-1", "--keys", "--tags", '{"site": "a", "floor": 3}')
    assert made["credentials"]["keys"] == shell.shown("keys", "press-1")
    again = shell.devices("create", "press-1")
    assert again.returncode == 1
    assert "there is a device 'press-1' already" in again.stderr
    disabling = ("--status", "disabled", "--reason", "stolen", "--tags", '{"floor": null}')
    changed = shell.shown("update", "press-1", *disabling)
    assert (changed["status"], changed["status_reason"], changed["tags"]) == ("disabled", "stolen", {"site": "a"})
    secret = shell.shown("update", "press-1", "--device-password", "-", stdin="hush\n")
    assert secret["credentials"]["password"] is True
    rotated = shell.shown("rotate", "press-1")
    assert rotated["secondary"] == made["credentials"]["keys"]["primary"]
    token = shell.devices("token", "press-1", "--for", "60").stdout.strip()
    assert Token.parse(token).resource == "devices%2Fpress-1"
    assert shell.shown("create", "press-1/eye", "--thumbprint", "AB" * 32)["module"] == "eye"
    assert shell.shown("show", "press-1/eye")["credentials"]["thumbprints"]["primary"] == "ab" * 32
    assert shell.devices("delete", "press-1").stderr == "1 device deleted\n"
    gone = shell.devices("show", "press-1/eye")
    assert gone.returncode == 1
    assert "there is no device 'press-1/eye'" in gone.stderr


def test_a_twin_is_shown_and_changed(shell: Shell) -> None:
    shell.shown("create", "press-7", "--tags", '{"site": "a"}')
    twin = shell.shown("update", "press-7", "--desired", '{"speed": 3, "mode": "x"}', group="twins")
    assert (twin["desired"], twin["tags"]) == ({"speed": 3, "mode": "x"}, {"site": "a"})
    twin = shell.shown("update", "press-7", "--desired", '{"speed": 4}', "--tags", "{}", "--replace", group="twins")
    assert (twin["desired"], twin["tags"]) == ({"speed": 4}, {})
    assert shell.shown("show", "press-7", group="twins") == twin
    wrong = shell.devices("update", "press-7", "--desired", "[1]", group="twins")
    assert (wrong.returncode, "--desired [1]: this is no object" in wrong.stderr) == (2, True)
    assert "no device 'nobody'" in shell.devices("show", "nobody", group="twins").stderr


def test_a_device_that_is_away_is_not_called(shell: Shell) -> None:
    shell.shown("create", "press-8")
    called = shell.devices("call", "press-8", "reboot", '{"delay": 5}', "--timeout", "5")
    assert (called.returncode, "is not connected" in called.stderr) == (1, True)
    assert "payload is JSON" in shell.devices("call", "press-8", "reboot", "{").stderr


def test_an_enrollment_is_made_changed_and_deleted(shell: Shell) -> None:
    made = shell.shown("create", "line-3", "--tags", '{"site": "a"}', "--again", "reset", group="enrollments")
    assert (made["kind"], made["again"]) == ("group", "reset")
    derived = shell.shown("keys", "line-3", "--for", "press-1", group="enrollments")
    assert derived["primary"] == derive_key(made["keys"]["primary"], "press-1")
    rotated = shell.shown("keys", "line-3", "--rotate", group="enrollments")
    assert rotated["secondary"] == made["keys"]["primary"]
    changed = shell.shown("update", "line-3", "--status", "disabled", "--devices", group="enrollments")
    assert changed["status"] == "disabled"
    shell.shown("create", "one", "--individual", "--device", "machine-1", group="enrollments")
    listed = shell.devices("list", "--json", group="enrollments").stdout.splitlines()
    assert [json.loads(line)["id"] for line in listed] == ["line-3", "one"]
    assert "disabled" in shell.devices("list", group="enrollments").stdout
    assert shell.shown("show", "one", group="enrollments")["device"] == "machine-1"
    for name in ("line-3", "one"):
        assert shell.devices("delete", name, group="enrollments").returncode == 0
    assert "no enrollment 'one'" in shell.devices("show", "one", group="enrollments").stderr


def test_a_command_is_queued_and_purged(shell: Shell) -> None:
    shell.shown("create", "press-9")
    sent = shell.shown("send", "press-9", '{"valve": "close"}', "--ttl", "60", group="commands")
    assert (sent["payload"], sent["deliveries"]) == ({"valve": "close"}, 0)
    assert shell.shown("list", "press-9", group="commands") == sent
    assert shell.devices("purge", "press-9", group="commands").stderr == "1 command purged\n"
    assert shell.devices("list", "press-9", group="commands").stdout == ""


def test_jobs_run_and_are_shown(shell: Shell) -> None:
    for name in ("wheel-a", "wheel-b"):
        shell.shown("create", name)
    query = "starts_with(id, 'wheel-')"
    done = shell.shown("twin", query, "--desired", '{"speed": 3}', "--wait", group="jobs")
    assert (done["status"], done["outcomes"]) == ("finished", {"done": 2})
    assert shell.shown("show", done["id"], group="jobs") == done
    failed = shell.devices("call", query, "reboot", '{"delay": 5}', "--wait", group="jobs")
    assert (failed.returncode, json.loads(failed.stdout)["outcomes"]) == (1, {"failed": 2})
    shown = shell.devices("show", json.loads(failed.stdout)["id"], "--devices", "failed", group="jobs").stdout
    assert [json.loads(line)["device"] for line in shown.splitlines()] == ["wheel-a", "wheel-b"]
    later = shell.shown("twin", "", "--start", "2100-01-01T00:00:00Z", group="jobs")
    assert shell.shown("cancel", later["id"], group="jobs")["status"] == "cancelled"
    listed = shell.devices("list", "--json", group="jobs").stdout.splitlines()
    assert json.loads(listed[-1])["id"] == done["id"]
    assert "cancelled" in shell.devices("list", group="jobs").stdout
    assert shell.devices("call", "", "reboot", "{", group="jobs").returncode == 2


def test_many_are_imported_listed_and_exported_again(shell: Shell, tmp_path: Path) -> None:
    source = tmp_path / "many.ndjson"
    lines = [json.dumps({"id": f"m-{n:04}", "tags": {"n": n}, "credentials": {"keys": {}}}) for n in range(2_500)]
    lines[7:7] = ["", "nonsense", json.dumps({"id": "a b"})]
    source.write_text("\n".join(lines))
    done = shell.devices("import", str(source))
    assert done.returncode == 1
    wrong, impossible, told = done.stderr.splitlines()
    assert wrong.startswith("line 9: ")
    assert impossible.startswith("line 10: device id 'a b'")
    assert told == "created 2500, updated 0, unchanged 0, wrong 2"
    listed = shell.devices("list", "tags.n >= 2490", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in listed] == [f"m-{n}" for n in range(2490, 2500)]
    assert "m-0002" in shell.devices("list", "--limit", "3").stdout
    assert len(shell.devices("list", "starts_with(id, 'm-')", "--limit", "1200", "--json").stdout.splitlines()) == 1_200
    for name in ("all.ndjson", "all.csv"):
        target = tmp_path / name
        told = shell.devices("export", str(target), "--secrets", "--query", "starts_with(id, 'm-')").stderr
        assert told == "2500 devices exported\n"
        assert target.stat().st_mode & 0o077 == 0
        again = shell.devices("import", str(target))
        assert again.stderr == "created 0, updated 0, unchanged 2500, wrong 0\n"
    plain = shell.devices("export", "--query", "id = 'm-0001'").stdout
    assert json.loads(plain) == {"id": "m-0001", "status": "enabled", "tags": {"n": 1}}


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["list", "tags.n ="], 1, "cannot be read"),
        (["create", "x", "--tags", "[1]"], 2, "no object"),
        (["create", "x", "--tags", "{"], 2, "--tags"),
        (["create", "a+b"], 1, "device id 'a+b' has '+'"),
        (["import", "nothing.csv"], 2, "nothing.csv: No such file"),
        (["export", "/nowhere/x.csv"], 2, "/nowhere/x.csv: No such file"),
        (["delete", "nobody"], 1, "there is no device 'nobody'"),
        (["keys", "nobody"], 1, "there is no device 'nobody'"),
    ],
)
def test_what_is_wrong_is_told(shell: Shell, arguments: list[str], code: int, told: str) -> None:
    done = shell.devices(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert told in done.stderr


def test_who_may_not_is_told(shell: Shell) -> None:
    done = shell.devices("list", password="wrong")
    assert done.returncode == 1
    assert "does not let ada in" in done.stderr


@given(
    st.lists(
        st.builds(lambda tags, status: {"id": "x", "status": status, "tags": tags}, TAGS, st.sampled_from(["enabled"]))
    )
)
def test_what_a_table_holds_comes_out_of_it(written: list[dict[str, Any]]) -> None:
    file = io.StringIO()
    write_csv(written, file)
    file.seek(0)
    read = [{"tags": {}, **device} for device in read_csv(file)]
    assert read == written


def test_a_table_with_credentials() -> None:
    table = 'id,module,password_hash,primary_key,thumbprint,authority,tags.a.b,tags.t\nx,eye,h,k,ab,true,1,"""2"""\n'
    assert list(read_csv(io.StringIO(table))) == [
        {
            "id": "x",
            "module": "eye",
            "credentials": {
                "password_hash": "h",
                "keys": {"primary": "k"},
                "thumbprints": {"primary": "ab"},
                "authority": True,
            },
            "tags": {"a": {"b": 1}, "t": "2"},
        }
    ]


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ("id,sattus\n", SettingsError),
        ("id,status\nx\n", DeviceError),
        ("id\nx,y\n", DeviceError),
        ("id,tags.a,tags.a.b\nx,1,2\n", DeviceError),
    ],
)
def test_a_wrong_table_is_told(table: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        list(read_csv(io.StringIO(table)))


def test_keys_are_made_listed_rotated_and_revoked(shell: Shell) -> None:
    made = json.loads(shell.devices("create", "viewer", "--note", "for Grafana", group="keys").stdout)
    listed = [json.loads(line) for line in shell.devices("list", "--json", group="keys").stdout.splitlines()]
    (shown,) = (each for each in listed if each["id"] == made["id"])
    assert (shown["role"], shown["note"]) == ("viewer", "for Grafana") and "key" not in shown
    rotated = json.loads(shell.devices("rotate", made["id"], "--keep", "60", group="keys").stdout)
    assert rotated["key"] != made["key"] and rotated["former_until"]
    assert "revoked" in shell.devices("revoke", made["id"], group="keys").stderr
    assert made["id"] not in shell.devices("list", group="keys").stdout
    assert shell.devices("create", "device", group="keys").returncode == 1


def test_the_audit_log_is_printed(shell: Shell) -> None:
    made = json.loads(shell.devices("create", "viewer", group="keys").stdout)
    until(lambda: made["id"] in shell.devices("--json", group="audit").stdout)
    assert re.search(r"Z  done  \S+  127.0.0.1  POST /keys$", shell.devices(group="audit").stdout, flags=re.MULTILINE)
