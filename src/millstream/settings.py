"""Every setting of Millstream, typed, in one object.

Read from `millstream.toml` in the working folder (or the file in `MILLSTREAM_CONFIG`), then from the environment
(`MILLSTREAM_HTTP`, `MILLSTREAM_LIMITS__PACKET_BYTES`), then from the command line; later ones win. An unknown or
impossible setting is a `SettingsError` that names it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource
from pydantic_settings import SettingsError as SourceError

from millstream.errors import SettingsError, TopicError
from millstream.topic import check_filter

PREFIX = "MILLSTREAM_"
_CONFIG = "MILLSTREAM_CONFIG"
_NO_SETTINGS = (
    _CONFIG,
    "MILLSTREAM_DEBUG",
    "MILLSTREAM_USER",
    "MILLSTREAM_PASSWORD",
    "MILLSTREAM_KEY",
    "MILLSTREAM_GROUP_KEY",
)

_CLOSE = 0.65  # of 1: `http` and `htpp` are, and not `devices` and the `service_host` that Kubernetes sets

_Duration = Annotated[timedelta, Field(gt=timedelta(0))]


def _bytes(count: int) -> Any:
    return Field(default=ByteSize(count), gt=0)


PLACEHOLDERS = ("{user}", "{client_id}")


def _check_right(text: str) -> str:
    """What a right names: a filter in MQTT's notation, in which placeholders stand for a part of a level."""
    bare = text
    for placeholder in PLACEHOLDERS:
        bare = bare.replace(placeholder, "x")
    if "{" in bare or "}" in bare:
        raise ValueError(f"{text!r} has a placeholder that there is not; there are {' and '.join(PLACEHOLDERS)}")
    try:
        check_filter(bare)
    except TopicError as error:
        raise ValueError(str(error)) from None
    return text


_Filters = tuple[Annotated[str, AfterValidator(_check_right)], ...]
_OWN_NAME: _Filters = tuple(f"{levels}{{user}}/#" for levels in ("", "+/", "+/+/", "+/+/+/"))


class Rights(BaseModel):
    """What a user may do. Everything is named by filters as for topics; `{user}` and `{client_id}` stand for its own
    names, and are nothing where those are no plain part of a level."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    publish: _Filters = _OWN_NAME
    """Topics to publish to. By default those that have the user's name as one of their first four levels."""
    subscribe: _Filters = _OWN_NAME
    """Topics to subscribe to. A subscription is granted if one of these filters covers all of it."""
    read: _Filters = ()
    """Streams to read by HTTP."""
    join: _Filters = ()
    """Groups to join by HTTP. Their streams must be readable too."""
    observe: bool = False
    """See `/status` and `/metrics`."""
    view: bool = False
    """See devices, twins, enrollments and jobs, without secrets."""
    operate: bool = False
    """Tell devices what to do: twins, methods, commands, jobs. Includes `view`."""
    manage: bool = False
    """See and change the registry of devices, with its secrets. Includes `operate`."""
    administer: bool = False
    """See and change API keys."""


class OwnRights(BaseModel):
    """Rights of one's own; one that is not said is as in `[rights]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    publish: _Filters | None = None
    """Topics to publish to."""
    subscribe: _Filters | None = None
    """Topics to subscribe to."""
    read: _Filters | None = None
    """Streams to read by HTTP."""
    join: _Filters | None = None
    """Groups to join by HTTP."""
    observe: bool | None = None
    """See `/status` and `/metrics`."""
    view: bool | None = None
    """See devices, twins, enrollments and jobs, without secrets."""
    operate: bool | None = None
    """Tell devices what to do: twins, methods, commands, jobs. Includes `view`."""
    manage: bool | None = None
    """See and change the registry of devices, with its secrets. Includes `operate`."""
    administer: bool | None = None
    """See and change API keys."""


class User(OwnRights):
    """Somebody who may connect. Without rights of its own it may be written as the hash alone."""

    password: str
    """The hash that `millstream password` prints."""

    @model_validator(mode="before")
    @classmethod
    def _of_hash(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"password": given}
        if not isinstance(given, dict | cls):
            raise ValueError("write the hash that millstream password prints, or a table with it as 'password'")
        return given


class Limits(BaseModel):
    """What one client, or all together, may cost. Sizes are in bytes, or text such as `"16MiB"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    packet_bytes: ByteSize = _bytes(1 << 20)
    """The largest MQTT packet or HTTP body. EMQX has 1 MiB too, AWS IoT Core 128 KiB."""
    connections: int = Field(default=10_000, gt=0)
    """MQTT connections at a time; more are refused with `server busy`."""
    connect_timeout: _Duration = timedelta(seconds=10)
    """From the TCP connection to a complete CONNECT."""
    max_keep_alive: _Duration = timedelta(hours=1)
    """The longest keep-alive; MQTT 5 clients are told, others that ask for more get it."""
    subscriptions: int = Field(default=100, gt=0)
    """Subscriptions a session."""
    receive_maximum: int = Field(default=1_000, gt=0, le=65_535)
    """QoS 1 and 2 messages to a subscriber that it has not acknowledged yet."""
    publish_maximum: int = Field(default=65_535, gt=0, le=65_535)
    """QoS 1 and 2 messages of a client that are not acknowledged yet; MQTT 5 clients are told, and cut off beyond. With
    less than there are packet identifiers, some clients lock themselves out: paho-mqtt 2 sends all that it has gathered
    while it was away at once, whatever it was told."""
    client_messages: int = Field(default=100_000, gt=0)
    """Messages a second of one client, with as many at once after a pause. Beyond, it is read more slowly."""
    client_bytes: ByteSize = _bytes(64 << 20)
    """Bytes a second of one client, likewise."""
    topic_aliases: int = Field(default=32, ge=0, le=65_535)
    """Topic aliases that a client may give in a connection. Azure IoT has 10."""
    retained: int = Field(default=100_000, ge=0)
    """Topics with a retained message. Beyond, a new one is published and not retained."""
    retained_bytes: ByteSize = _bytes(64 << 20)
    """What these messages may cost in memory together."""
    readers: int = Field(default=256, gt=0)
    """Requests, tails and members of groups that read streams by HTTP at a time. Each may hold about 1 MiB."""
    session_bytes: ByteSize = _bytes(8 << 20)
    """Messages waiting in memory for one subscriber. Beyond, QoS 0 is dropped and counted, and QoS 1 and 2 end the
    connection, unless the session is kept: its messages wait on disk."""
    pending_bytes: ByteSize = _bytes(64 << 20)
    """Published and not yet committed, over all clients. Beyond, the gateway stops reading from the sockets."""


class ListenerSettings(BaseModel):
    """A further address to listen at."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str
    """`HOST:PORT`; port 0 takes a free one."""
    protocol: Literal["mqtt", "mqtts", "ws", "wss", "https"] = "mqtt"
    """MQTT over TCP, over TLS, over WebSocket, or over WebSocket over TLS; or HTTP over TLS."""
    certificate: Path | None = None
    """For TLS: a PEM file with the server's certificate and those between it and its root."""
    key: Path | None = None
    """Its private key, if that is not in the same file."""
    client_ca: Path | None = None
    """If set, clients must show a certificate that this PEM file vouches for. Its common name is their user name."""
    client_crl: Path | None = None
    """A PEM file with the revocation lists of those authorities: whose certificate is on one of them is not let in."""

    @property
    def is_secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.protocol in ("mqtts", "wss", "https")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.is_secure and self.certificate is None:
            raise ValueError(f"{self.protocol} needs a certificate")
        if self.client_crl and not self.client_ca:
            raise ValueError("client_crl needs client_ca, which says whose certificates may be revoked")
        if not self.is_secure and (self.certificate or self.key or self.client_ca):
            raise ValueError(f"{self.protocol} has no certificates; for TLS say mqtts, wss or https")
        return self


class SessionSettings(BaseModel):
    """MQTT sessions that outlive their connections, and the queue of messages for them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_expiry: _Duration = timedelta(days=7)
    """How long a session outlives its connection at most; MQTT 5 clients are told. Those of 3.1.1 get it."""
    count: int = Field(default=20_000, gt=0)
    """Sessions that are kept; more are refused with `quota exceeded`. One costs about 2 KiB of memory."""
    queue_age: _Duration = timedelta(days=7)
    """Messages that wait for longer are dropped, and counted for each session that has not got them."""
    queue_bytes: ByteSize = _bytes(1 << 30)
    """Messages for all sessions on disk, each once. Beyond, the oldest are dropped, and counted likewise."""
    backlog_bytes: ByteSize = _bytes(256 << 20)
    """Messages that wait for one session, or one shared subscription. Beyond, its oldest are dropped likewise."""


class KafkaSettings(BaseModel):
    """How the brokers of `[log] url` are spoken to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,100}$")
    """What stands before the names of all topics and groups, so that several systems can share brokers."""
    replication: int | None = Field(default=None, gt=0)
    """Copies of topics that are made. Unset: as the brokers' `default.replication.factor` says."""
    session_timeout: _Duration = timedelta(seconds=20)
    """How long a worker may be silent before its partitions go to others. It has to be longer than brokers take to
    replace one of them that has died (`broker.session.timeout.ms`, 9 seconds, and a few more)."""
    tls: bool = False
    """Speak TLS."""
    ca: Path | None = None
    """For TLS: a PEM file of those who vouch for the brokers' certificates. Unset: those of the system."""
    certificate: Path | None = None
    """For TLS: our own certificate, a PEM file, where brokers ask for one."""
    key: Path | None = None
    """Its private key."""
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How `username` and `password` are shown (SASL)."""
    username: str = ""
    """Unset: nobody is asked for."""
    password: str = Field(default="", repr=False)
    """Its password."""
    options: dict[str, str] = {}
    """Further properties of librdkafka, as its CONFIGURATION.md names them, over ours."""


class LogSettings(BaseModel):
    """The durable log. Instead of a table, its `url` alone may be written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(default="", pattern=r"^$|^kafka://[^/,@\s]+:\d+(,[^/,@\s]+:\d+)*/?$")
    """Where the log is: `kafka://HOST:PORT`, with commas between several brokers. Unset: in the data folder."""
    kafka: KafkaSettings = KafkaSettings()
    retention_age: _Duration | None = None
    """For streams that do not say: events older than this are dropped. Unset: kept."""
    retention_bytes: Annotated[ByteSize, Field(gt=0)] | None = None
    """For streams that do not say: the oldest events beyond this size a stream are dropped. Unset: kept."""
    ballast_bytes: ByteSize = Field(default=ByteSize(16 << 20), ge=0)
    """A file kept beside the log and freed when the disk is full, so that there is room to clean up."""
    deduplication_window: _Duration = timedelta(minutes=10)
    """How long the `id` of an event is remembered. Azure Service Bus has 10 minutes, NATS JetStream 2."""
    deduplication_ids: int = Field(default=1_000_000, gt=0)
    """How many are remembered at most."""

    @model_validator(mode="before")
    @classmethod
    def _of_url(cls, given: Any) -> Any:
        return {"url": given} if isinstance(given, str) else given


class MetricsSettings(BaseModel):
    """What Prometheus reads at `/metrics`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    anonymous: bool = False
    """Let anybody read the metrics. Without it, who reads them shows a user and password."""


class LoggingSettings(BaseModel):
    """What the processes tell on standard error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["text", "json"] = "text"
    """Lines for people, or a JSON object a line for machines."""


class OtelSettings(BaseModel):
    """OpenTelemetry, which the extra `otel` installs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    traces: bool = False
    """Make spans and export them by OTLP, as the standard `OTEL_…` variables say."""
    metrics: bool = False
    """Export what `/metrics` tells by OTLP as well, every `OTEL_METRIC_EXPORT_INTERVAL` milliseconds (60,000)."""


class Settings(BaseSettings):
    """All settings. `Settings.load()` reads them; the constructor takes them as given."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    data: Path = Path("data")
    """The folder of the log and everything else that must be kept."""
    mqtt: str = "127.0.0.1:1883"
    """Where MQTT listens, `HOST:PORT`; port 0 takes a free one, an empty value turns it off."""
    http: str = "127.0.0.1:8080"
    """Where HTTP listens, likewise."""
    listeners: tuple[ListenerSettings, ...] = ()
    """Where MQTT listens besides: by TLS, by WebSocket, at other addresses."""
    allow_anonymous: bool = False
    """Let anybody in. Without it, `users` must name who may connect."""
    users: dict[str, User] = {}
    """User names, each with the hash that `millstream password` prints, or a table with it and with its rights."""
    rights: Rights = Rights()
    """What users may do who have no rights of their own."""
    anonymous: OwnRights | None = None
    """What those may do who show no user name, where `allow_anonymous` lets them in. Unset: everything."""
    devices: OwnRights = OwnRights()
    """What devices of the registry may do. What is not said is as in `[rights]`, but for `manage`."""
    registry: str = Field(default="", repr=False)
    """Where devices are kept: a URL of PostgreSQL, `postgresql://USER:PASSWORD@HOST/DATABASE`. Unset: a file in the
    data folder."""
    registry_key: str = Field(default="", repr=False)
    """What secrets in the registry are encrypted with, 32 bytes in Base64. Unset: a key of the data folder's own."""
    workers: int = Field(default=1, ge=0, le=256)
    """Worker processes. 0: run `millstream work` elsewhere on this machine."""
    state_memory: ByteSize = _bytes(1 << 30)
    """What the queries of a worker may keep in memory of the rows of open windows, and of events that wait in joins.
    More of them go to a file without a name in the data folder."""
    drain_timeout: _Duration = timedelta(seconds=10)
    """How long SIGTERM waits for what is under way."""
    limits: Limits = Limits()
    sessions: SessionSettings = SessionSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    logging: LoggingSettings = LoggingSettings()
    otel: OtelSettings = OtelSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _settings_file())

    @classmethod
    def load(cls, **given: Any) -> Settings:
        """The settings of file and environment, with those `given` (not None) over them.

        Raises `SettingsError` with the setting's name, what is wrong, and where settings are written."""
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            lines = [_explain(cls, problem["loc"], problem) for problem in error.errors(include_url=False)]
            raise SettingsError("; ".join(lines) + f" ({_settings_file()}, {PREFIX}… or an option)") from None
        except SourceError as error:  # names the setting and where it stands
            raise SettingsError(f"{error}; in the environment, tables are JSON: {PREFIX}USERS='{{…}}'") from None
        except ValueError as error:  # TOML that does not parse
            raise SettingsError(f"{_settings_file()}: {error}") from None
        except OSError as error:
            raise SettingsError(f"{_settings_file()} cannot be read: {error.strerror}") from None


def _settings_file() -> Path:
    """Where settings are read from. `SettingsError`: a file was named, and is not there."""
    named = os.environ.get(_CONFIG)
    path = Path(named or "millstream.toml")
    if named and not path.is_file():
        raise SettingsError(f"{path}: there is no such file (named by --config or {_CONFIG})")
    return path


def _explain(model: type[BaseModel], place: Sequence[int | str], problem: Mapping[str, Any]) -> str:
    """What is wrong with a setting; for one that does not exist, which one may have been meant."""
    name = ".".join(str(part) for part in place)
    if problem["type"] != "extra_forbidden":
        return f"setting {name!r}: {problem['msg']}"
    *outer, wrong = (str(part) for part in place)
    for part in outer:
        model = _model_below(model, part)
    nearest = [".".join((*outer, close)) for close in _close_to(wrong, model.model_fields)]
    return f"setting {name!r}: there is no such setting" + "".join(f"; did you mean {each!r}?" for each in nearest)


def _model_below(model: type[BaseModel], part: str) -> type[BaseModel]:
    """The model of a field; where a field has models by name, that of the name is the same one again."""
    field = model.model_fields.get(part)
    if field is None:
        return model
    kinds = (field.annotation, *get_args(field.annotation))
    return next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))


def misspelt_variables(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Variables of the environment that are no setting's but look like one's, each with the one that may be meant."""
    names = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    others = {variable.partition("__")[0].upper() for variable in environment if variable.upper().startswith(PREFIX)}
    return [
        (each, close) for each in sorted(others.difference(names, _NO_SETTINGS)) for close in _close_to(each, names)
    ]


def _close_to(name: str, known: Iterable[str]) -> list[str]:
    """The name that may be meant, if there is one."""
    bare = {each.lower().removeprefix(PREFIX.lower()): each for each in known}
    return [
        bare[each] for each in difflib.get_close_matches(name.lower().removeprefix(PREFIX.lower()), bare, 1, _CLOSE)
    ]


class GivenSettings(Settings):
    """Settings as they are given, whatever the file and the environment say."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def host_and_port(address: str, setting: str) -> tuple[str, int]:
    """`HOST:PORT` or `[IPV6]:PORT` as a pair. Raises `SettingsError` naming the setting."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise SettingsError(f"setting {setting!r}: {address!r} is not HOST:PORT, for example 127.0.0.1:1883")
    return host.strip("[]"), int(port)
