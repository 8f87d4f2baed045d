"""The errors of Millstream, named by situation.

Every error says what was wrong, where, and how to mend it. `MillstreamError` is what a caller catches;
the command line prints its message without a traceback.
"""

from __future__ import annotations


class MillstreamError(Exception):
    """Base of every error that Millstream raises on purpose. Its text is written for a person."""


class SettingsError(MillstreamError):
    """A setting has an impossible value, or settings contradict each other."""


class AppError(MillstreamError):
    """An application is declared wrongly: a filter, a handler's signature, two things of one name."""


class NotAuthorizedError(MillstreamError):
    """A client lacks the right to do what it asks for."""


class TopicError(MillstreamError):
    """A topic name or a filter that the MQTT specification (4.7) or a limit of ours forbids."""


class PayloadError(MillstreamError):
    """A payload does not decode as what was asked for."""


class StateError(MillstreamError):
    """What a handler keeps of a key cannot be kept, or is not of the type that it asks for."""


class ScratchError(MillstreamError):
    """There is no room for what a query keeps. Nothing is lost: it is read again when there is."""


class PositionError(MillstreamError):
    """Where to begin reading is said in a way that means nothing."""


class QueryError(MillstreamError):
    """A query that cannot be planned. `line` and `column` (from 1) point into its text where known."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


class MissingExtraError(MillstreamError):
    """What was asked for needs an optional part of the installation."""


class ReferenceDataError(MillstreamError):
    """Reference data cannot be read, or is not what queries can be joined with."""


class RefusedError(MillstreamError):
    """A server refused a request. `status` and `code` are those of its answer."""

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class UnreachableError(MillstreamError):
    """A server cannot be reached, or did not answer. What it was asked for may or may not have happened."""


class DeviceError(MillstreamError):
    """What is said about a device is impossible: its id, a tag, a credential."""


class UnknownDeviceError(DeviceError):
    """The registry has no such device."""


class UnknownEnrollmentError(DeviceError):
    """The registry has no such enrollment."""


class UnknownJobError(DeviceError):
    """The registry has no such job."""


class UnknownCommandError(DeviceError):
    """No such command waits for the device: it was settled, purged, or has expired."""


class UnknownKeyError(DeviceError):
    """No API key has this id."""


class RegistrationError(DeviceError):
    """A device may not register: it is disabled, registered already, or another's."""


class PreconditionError(DeviceError):
    """A device is not in the state in which it was to be changed. Nothing was changed."""


class DeviceOfflineError(MillstreamError):
    """A device is not there, or takes no calls. It was not called."""


class DeviceTimeoutError(MillstreamError):
    """A device has not answered a call in time. It may have done what was asked, or do it still."""


class DeviceAnswerError(MillstreamError):
    """What a device has answered to a call is no answer."""


class OverloadError(MillstreamError):
    """Too much of a kind is asked for at a time. Nothing was done; come again later."""


class TokenError(MillstreamError):
    """A token is malformed, or lets nobody in."""


class RegistryError(MillstreamError):
    """The registry cannot be used: of another version, in use by another server, encrypted with another key."""


class RegistryUnavailableError(RegistryError):
    """The registry does not answer at the moment. What was asked of it may or may not have happened."""


class LogError(MillstreamError):
    """Base of the log's errors."""


class UnknownStreamError(LogError):
    """No stream has that name."""


class StreamMismatchError(LogError):
    """A stream exists with a different key or another number of partitions, which never change."""


class FencedError(LogError):
    """The transaction's member no longer owns a partition it commits. Nothing was committed.

    The work is somebody else's now: forget it, and poll again."""


class LogUnavailableError(LogError):
    """The log cannot be reached, or went away before it answered. The outcome of a commit under way is
    unknown: rejoin, and go on from the positions that the log then tells."""


class LogClosedError(LogError):
    """The log was closed by its owner."""


class DeadLetterError(LogError):
    """A dead letter cannot be found, or not be sent again as was asked."""


class CorruptChunkError(LogError):
    """A chunk on disk does not have its checksum, or does not decode."""


class DataFolderError(LogError):
    """The data folder cannot be used: of another format version, in use by another server, not writable."""


class DiskFaultError(LogError):
    """A write or fsync failed. What was being committed may or may not be there after a restart, so
    nothing of it is acknowledged; the process must exit and recover."""


class DiskFullError(LogError):
    """There is no room on the disk. Nothing was committed, and the same commit may be tried again."""
