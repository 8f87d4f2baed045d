"""The commands against a running server with users, and without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.publish import single
from tests.support.commands import execute
from tests.support.millstream import END_SECONDS, Running, environment, millstream, running, until

from millstream.gateway import hash_password, verify_password

PASSWORD = "an open secret"
ADA = {"MILLSTREAM_USER": "ada", "MILLSTREAM_PASSWORD": PASSWORD}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that only `ada` may use, and `bob` a little."""
    folder = tmp_path_factory.mktemp("cli")
    config = folder / "millstream.toml"
    hashed = hash_password(PASSWORD)
    config.write_text(
        f'mqtt = "127.0.0.1:0"\nhttp = "127.0.0.1:0"\n[users]\nbob = "{hashed}"\n'
        f'[users.ada]\npassword = "{hashed}"\npublish = ["#"]\nsubscribe = ["#"]\n'
    )
    run = Running(folder / "data", "--config", str(config))
    yield run
    run.close()


def command(server: Running, name: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return execute(
        name,
        *arguments,
        "--data",
        str(server.folder),
        **{**ADA, **options},
    )


def in_a_process(server: Running, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """As a person starts it: its arguments, its input and its exit code are the system's."""
    return millstream(*arguments, "--data", str(server.folder), stdin=stdin, **ADA)


def shown(server: Running, *arguments: str) -> str:
    """What a command that succeeds prints."""
    done = command(server, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def lines(server: Running, *options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shown(server, "tail", "events", "--json", *options).splitlines()]


def start(server: Running, *arguments: str) -> subprocess.Popen[str]:
    """A command that goes on; its output is a pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "millstream", *arguments, "--data", str(server.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), **ADA},
    )


def test_one_event_is_published_and_read(server: Running) -> None:
    done = in_a_process(server, "publish", "one/a b/ü", '{"celsius": 91.50}', "--id", "e-1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    again = command(server, "publish", "one/a b/ü", '{"celsius": 91.50}', "--id", "e-1")
    assert again.returncode == 0
    assert "has an event with the id 'e-1' on this topic already" in again.stderr
    (event,) = [event for event in lines(server) if event["topic"] == "one/a b/ü"]
    assert list(event) == ["stream", "partition", "offset", "time", "topic", "key", "id", "data"]
    assert (event["stream"], event["key"], event["id"], event["data"]) == (
        "events",
        "one/a b/ü",
        "e-1",
        {"celsius": 91.5},
    )


def test_text_and_nothing_are_published_as_they_are(server: Running) -> None:
    assert command(server, "publish", "plain/text", "it is hot").returncode == 0
    assert command(server, "publish", "plain/nothing").returncode == 0
    found = {event["topic"]: event for event in lines(server)}
    assert found["plain/text"]["data_base64"] == "aXQgaXMgaG90"
    assert found["plain/nothing"]["data_base64"] == ""


def test_an_id_and_a_payload_may_be_anything(server: Running) -> None:
    assert in_a_process(server, "publish", "odd", os.fsdecode(b"\xff"), "--id", "50%25 日").returncode == 0
    (event,) = [event for event in lines(server) if event["topic"] == "odd"]
    assert (event["id"], event["data_base64"]) == ("50%25 日", "/w==")


@pytest.mark.parametrize("arguments", [["a", "-", "--id", "1"], [os.fsdecode(b"a/\xff"), "x"]])
def test_what_cannot_be_published_is_a_wrong_command(server: Running, arguments: list[str]) -> None:
    done = command(server, "publish", *arguments, stdin="1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_lines_of_standard_input_are_events_in_their_order(server: Running) -> None:
    count = 20_000
    text = "".join(f'{{"n": {number}}}\n\n' for number in range(count))
    done = in_a_process(server, "publish", "many", "-", stdin=text.rstrip("\n"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"published {count} events\n")
    found = [event["data"]["n"] for event in lines(server) if event["topic"] == "many"]
    assert found == list(range(count))


def test_a_line_that_is_no_json_is_named(server: Running) -> None:
    done = command(server, "publish", "broken", "-", stdin='{"n": 1}\n{"n": \n')
    assert done.returncode == 1
    assert done.stderr.startswith("error: event 2 on standard input is no JSON")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"MILLSTREAM_PASSWORD": "wrong"}, "does not let ada in"),
        ({"MILLSTREAM_USER": "", "MILLSTREAM_PASSWORD": ""}, "does not let"),
    ],
)
@pytest.mark.parametrize("name", ["publish", "subscribe"])
def test_who_may_not_come_in_is_told_how(server: Running, name: str, options: dict[str, str], told: str) -> None:
    done = command(server, name, "a", **options)
    assert done.returncode == 1
    assert told in done.stderr
    assert "MILLSTREAM_PASSWORD" in done.stderr


@pytest.mark.parametrize(("name", "topic"), [("publish", "a/+"), ("subscribe", "a/#/b")])
def test_a_wrong_topic_is_a_wrong_command(server: Running, name: str, topic: str) -> None:
    done = command(server, name, topic)
    assert done.returncode == 2
    assert topic in done.stderr


@pytest.mark.parametrize("name", ["publish", "subscribe", "work"])
def test_no_server_is_told(tmp_path: Path, name: str) -> None:
    what = tmp_path / "plant.py"
    what.write_text("from millstream import App\napp = App('plant')")
    nowhere = {"MILLSTREAM_HTTP": "127.0.0.1:1", "MILLSTREAM_MQTT": "127.0.0.1:1"}
    done = execute(name, str(what), "--data", str(tmp_path), **nowhere)
    assert done.returncode == 1
    assert "millstream run" in done.stderr


def test_subscribe_prints_what_comes(server: Running) -> None:
    retain(server, "live/first", "0")
    reading = start(server, "subscribe", "live/#", "--json", "--limit", "3")
    try:
        assert reading.stdout is not None
        first = reading.stdout.readline()  # what is retained comes when it has subscribed
        command(server, "publish", "live/a", '{"n": 1}')
        command(server, "publish", "dead/a", '{"n": 2}')
        command(server, "publish", "live/b", "hot")
        out, err = reading.communicate(timeout=END_SECONDS)
    finally:
        reading.kill()
        reading.communicate()
    assert reading.returncode == 0, err
    assert [json.loads(line) for line in [first, *out.splitlines()]] == [
        {"topic": "live/first", "data": 0},
        {"topic": "live/a", "data": {"n": 1}},
        {"topic": "live/b", "data_base64": "aG90"},
    ]


def retain(server: Running, topic: str, payload: str) -> None:
    single(
        topic,
        payload,
        qos=1,
        retain=True,
        hostname="127.0.0.1",
        port=server.mqtt_port,
        auth={"username": "ada", "password": PASSWORD},
    )


def test_tail_follows_until_its_reader_leaves(server: Running) -> None:
    reading = start(server, "tail", "events", "--from", "latest", "--follow")
    try:
        assert reading.stdout is not None
        os.set_blocking(reading.stdout.fileno(), False)

        def came() -> str:
            command(server, "publish", "follow/me", '{"n": 1}')
            assert reading.stdout is not None
            return reading.stdout.readline()

        assert until(came, what="a line").endswith('  follow/me  {"n": 1}\n')
        reading.stdout.close()
        assert reading.wait(timeout=END_SECONDS) == 0
        assert reading.stderr is not None
        assert reading.stderr.read() == ""
    finally:
        reading.kill()
        reading.wait()
        if reading.stderr is not None:
            reading.stderr.close()


def test_tail_goes_on_without_the_server_and_with_the_next_one(tmp_path: Path) -> None:
    with running(tmp_path / "data") as run:
        run.publish("a", "1")
        reading = start(run, "tail", "events", "--follow")
        assert reading.stdout is not None
        try:
            assert reading.stdout.readline().endswith("  a  1\n")
            run.close()
            with running(tmp_path / "data") as again:
                again.publish("a", "2")
                assert reading.stdout.readline().endswith("  a  2\n")
            reading.send_signal(signal.SIGINT)
            assert reading.communicate(timeout=END_SECONDS)[1].startswith("the server has gone")
        finally:
            reading.kill()
            reading.communicate()


def test_tail_ends_with_ctrl_c(server: Running) -> None:
    reading = start(server, "tail", "events", "--follow", "--json")
    try:
        assert reading.stdout is not None
        command(server, "publish", "a", "1")
        until(reading.stdout.readline, what="a line")
        reading.send_signal(signal.SIGINT)
        _, err = reading.communicate(timeout=END_SECONDS)
        assert (reading.returncode, err) == (130, "")
    finally:
        reading.kill()
        reading.communicate()


def test_tail_begins_where_it_is_told(server: Running) -> None:
    command(server, "publish", "places", "-", stdin='{"n": 1}\n{"n": 2}\n{"n": 3}\n')
    events = [event for event in lines(server) if event["topic"] == "places"]
    later = lines(server, "--from", events[0]["time"])
    assert [event["data"]["n"] for event in later if event["topic"] == "places"] == [1, 2, 3]
    from_offset = lines(server, "--from", str(events[1]["offset"]))
    assert [event["data"]["n"] for event in from_offset if event["topic"] == "places"] == [2, 3]
    assert lines(server, "--from", "latest") == []
    assert len(lines(server, "--limit", "2")) == 2


def test_tail_names_the_streams_there_are(server: Running) -> None:
    done = command(server, "tail", "evnets")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there are:" in done.stderr and "events" in done.stderr


def test_streams_groups_and_status_are_tables_and_json(server: Running) -> None:
    command(server, "publish", "a", "1")
    streams = json.loads(shown(server, "streams", "--json"))
    (stream,) = (each for each in streams if each["stream"] != "$audit")  # which a refused command has made
    assert (stream["stream"], stream["topics"], stream["partitions"]) == ("events", ["#"], 8)
    assert stream["records"] == stream["events"] >= 1
    assert json.loads(shown(server, "groups", "--json"))[0]["group"] == "$gateway"
    status = json.loads(shown(server, "status", "--json"))
    assert status["server"]["running"] is True
    assert status["server"]["mqtt"] == server.mqtt
    assert status["server"]["statistics"]["committed"] >= 1
    table = shown(server, "status")
    assert server.http in table
    assert "events" in table
    assert "\x1b" not in table


@pytest.mark.parametrize("arguments", [["streams"], ["groups"], ["status"], ["tail", "events"]])
def test_a_folder_without_a_log_is_told(tmp_path: Path, arguments: list[str]) -> None:
    done = execute(*arguments, "--data", str(tmp_path / "nothing"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "nothing" in done.stderr


def test_password_prints_a_hash_that_fits() -> None:
    done = millstream("password", stdin="secret\n")
    assert done.returncode == 0
    assert verify_password(b"secret", done.stdout.strip())
    assert execute("password", stdin="").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (["--mqtt", "nowhere"], {}, "setting 'mqtt'"),
        (["--config", "nothing.toml"], {}, "nothing.toml: there is no such file"),
        ([], {"MILLSTREAM_WORKERS": "many"}, "setting 'workers'"),
        (["--mqtt", "nowhere"], {"MILLSTREAM_HTPP": "x"}, "warning: MILLSTREAM_HTPP in the environment is no setting"),
    ],
)
def test_a_wrong_setting_is_told(tmp_path: Path, arguments: list[str], variables: dict[str, str], told: str) -> None:
    done = execute("run", *arguments, "--allow-anonymous", "--data", str(tmp_path / "data"), **variables)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert told in done.stderr


@pytest.mark.parametrize("name", ["publish", "subscribe"])
def test_who_lacks_a_right_is_told_which_setting_gives_it(server: Running, name: str) -> None:
    done = command(server, name, "site/a", MILLSTREAM_USER="bob")
    assert done.returncode == 1
    assert "'site/a'" in done.stderr
    assert f"the setting '{name}' in [users.bob] or [rights] gives the right" in done.stderr
