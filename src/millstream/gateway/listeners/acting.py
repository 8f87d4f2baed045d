"""What clients ask for, done: the actions of a session are brought to the parts of the gateway that they concern."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from millstream.gateway.listeners.admission import Admission
from millstream.gateway.pubsub.fanout import FanOut
from millstream.gateway.sessions.sessions import Sessions
from millstream.gateway.statistics import Statistics
from millstream.mqtt import Action, Connecting, Declined, Ended, Granted, Subscribed, Unsubscribed, claimed_topic

if TYPE_CHECKING:
    from millstream.gateway.devices.guests import Guests
    from millstream.gateway.listeners.connection import Connection

_log = logging.getLogger(__name__)


class Acting:
    """For all connections of a listener."""

    def __init__(
        self,
        admission: Admission,
        fan_out: FanOut,
        sessions: Sessions,
        statistics: Statistics,
        guests: Guests | None,
    ) -> None:
        self._admission = admission
        self._fan_out = fan_out
        self._sessions = sessions
        self._statistics = statistics
        self._guests = guests

    def act(self, connection: Connection, action: Action) -> None:
        """Do what a client asks for."""
        if isinstance(action, Subscribed):
            self._subscribed(connection, action)
        elif isinstance(action, Unsubscribed):
            self._unsubscribed(connection, action.subscription)
        elif isinstance(action, Connecting):
            self._admission.admit(connection, action.connect)
        elif isinstance(action, Declined):
            self._declined(connection, action)
        else:
            connection.leave(action)

    def resumed(self, connection: Connection) -> None:
        """A client was let in: from now on it hears what its session is subscribed to."""
        for granted in connection.session.subscriptions:
            if not granted.is_shared:
                self._fan_out.add(connection, granted)

    def came(self, connection: Connection) -> None:
        """It can be told something."""
        for granted in connection.session.subscriptions:
            self._listens(connection, granted)

    def left(self, connection: Connection, ended: Ended) -> None:
        """A session has ended, or the connection of one that is kept."""
        for granted in connection.session.subscriptions:
            self._fan_out.remove(connection, granted)
        client_id, reason = connection.client_id, ended.reason.name.lower()
        if self._admission.left(connection):
            self._sessions.left(connection, ended)
        if self._guests is not None:
            self._guests.gone(connection, reason)
        self._statistics.connections[reason] += 1
        if ended.rejected:
            topic = claimed_topic(ended.packet)
            self._statistics.reject(reason, text=ended.text, client=client_id, topic=topic, payload=ended.packet)
        _log.debug("client %r ended: %s", client_id, ended.text)

    # ---

    def _subscribed(self, connection: Connection, action: Subscribed) -> None:
        granted = action.subscription
        if granted.is_shared:
            self._sessions.joined(connection, granted)
            return
        if action.replaced is not None:
            self._fan_out.remove(connection, action.replaced)
        self._fan_out.add(connection, granted)
        if connection.kept is not None:
            self._sessions.subscribed(connection.kept, granted)
        if action.wants_retained:
            self._sessions.give_retained(connection, granted)
        self._listens(connection, granted)

    def _unsubscribed(self, connection: Connection, granted: Granted) -> None:
        if granted.is_shared:
            self._sessions.parted(connection, granted)
            return
        self._fan_out.remove(connection, granted)
        if connection.kept is not None:
            self._sessions.unsubscribed(connection.kept, granted)

    def _listens(self, connection: Connection, granted: Granted) -> None:
        if self._guests is not None:
            self._guests.listens(connection, granted.filter)

    def _declined(self, connection: Connection, its: Declined) -> None:
        reason, client_id = its.reason.name.lower(), connection.session.client_id
        self._statistics.reject(reason, text=its.text, client=client_id, topic=its.topic, payload=its.payload)
