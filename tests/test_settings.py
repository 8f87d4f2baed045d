"""Settings from a file, the environment and the command line, and what is told where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from millstream.errors import SettingsError
from millstream.settings import Settings, misspelt_variables


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "site.toml"
    path.write_text("")
    monkeypatch.setenv("MILLSTREAM_CONFIG", str(path))
    return path


def test_the_environment_wins_over_the_file_and_what_is_given_over_both(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('workers = 2\nmqtt = "127.0.0.1:1"\nhttp = "127.0.0.1:2"\n[limits]\nsubscriptions = 7')
    monkeypatch.setenv("MILLSTREAM_MQTT", "127.0.0.1:3")
    monkeypatch.setenv("MILLSTREAM_HTTP", "127.0.0.1:4")
    monkeypatch.setenv("MILLSTREAM_LIMITS__CONNECTIONS", "9")
    settings = Settings.load(http="127.0.0.1:5", data=None)
    assert (settings.workers, settings.mqtt, settings.http) == (2, "127.0.0.1:3", "127.0.0.1:5")
    assert (settings.limits.subscriptions, settings.limits.connections) == (7, 9)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dta = 1", "setting 'dta': there is no such setting; did you mean 'data'?"),
        ("colour = 1", "setting 'colour': there is no such setting ("),
        (
            "[limits]\npacket_byte = 1",
            "'limits.packet_byte': there is no such setting; did you mean 'limits.packet_bytes'",
        ),
        ("workers = 999", "setting 'workers': Input should be less than or equal to 256"),
        ("workers = ", "Invalid value (at end of document)"),
        ('[limits]\npacket_bytes = "12 bananas"', "setting 'limits.packet_bytes'"),
    ],
)
def test_a_wrong_setting_is_told_with_its_file(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert told in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_that_is_no_text_is_told(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=f"{file}: .* can't decode"):
        Settings.load()


def test_a_file_that_was_named_must_be_there(file: Path) -> None:
    file.unlink()
    with pytest.raises(SettingsError, match=f"{file}: there is no such file"):
        Settings.load()


def test_a_variable_that_is_no_json_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_USERS", '{"ada"')
    with pytest.raises(
        SettingsError, match=r"\"users\".*; in the environment, tables are JSON: MILLSTREAM_USERS="
    ) as caught:
        Settings.load()
    assert str(file) not in str(caught.value)


def test_a_variable_that_looks_like_a_setting_is_noticed() -> None:
    known = {"MILLSTREAM_HTTP": "", "MILLSTREAM_LIMITS__CONNECTIONS": "", "MILLSTREAM_CONFIG": "", "PATH": ""}
    others = {"MILLSTREAM_PORT": "", "MILLSTREAM_SERVICE_HOST": "", "MILLSTREAM_USER": "", "MILLSTREAM_DEBUG": ""}
    assert misspelt_variables({**known, **others}) == []
    wrong = {"MILLSTREAM_HTPP": "", "MILLSTREAM_LIMIT__CONNECTIONS": ""}
    assert misspelt_variables({**known, **wrong}) == [
        ("MILLSTREAM_HTPP", "MILLSTREAM_HTTP"),
        ("MILLSTREAM_LIMIT", "MILLSTREAM_LIMITS"),
    ]
