"""Who may use the endpoints: users as by MQTT, shown by HTTP Basic (RFC 7617)."""

from __future__ import annotations

import base64

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from millstream.errors import DeviceError, TokenError
from millstream.gateway.http.answer import LATER
from millstream.gateway.listeners.auth import Authenticator, BusyError, Credentials, Identity, NotAuthenticatedError
from millstream.rights import Right

_TOKEN = "SharedAccessSignature"  # noqa: S105 (the scheme of `millstream.devices.token`)
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="millstream", charset="UTF-8"'}


class Access:
    """Lets requests in."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def admit(self, connection: HTTPConnection, right: Right | None = None, name: str = "") -> Identity:
        """Who it is. Refuses with 401 who shows no credentials or wrong ones, with 503 while too many are checked, and
        (`NotAuthorizedError`, 403) who lacks the right that is asked for."""
        identity = await self._identify(connection)
        if right is not None:
            identity.rights.check(right, name)
        return identity

    async def _identify(self, connection: HTTPConnection) -> Identity:
        credentials = read_credentials(connection.headers.get("authorization"))
        known = self._authenticator.recall(credentials)
        if known is not None:
            return known
        try:
            return await self._authenticator.authenticate(credentials)
        except NotAuthenticatedError as error:
            raise HTTPException(401, str(error), _CHALLENGE) from None
        except BusyError as error:
            raise HTTPException(503, str(error), LATER) from None


def read_credentials(authorization: str | None) -> Credentials:
    """What HTTP Basic shows, or a device's token; nothing if it is another scheme or does not decode."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme == _TOKEN:
        return _read_token(authorization or "")
    if scheme.lower() != "basic":
        return Credentials(None, None)
    try:
        user_name, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return Credentials(user_name.decode(), password)
    except ValueError:
        return Credentials(None, None)


def _read_token(text: str) -> Credentials:
    """The device or registration that a token is for, which is its user name, and the token in the password's place."""
    from millstream.devices import Token, name_of, registration_of, resource_of_registration

    try:
        resource = Token.parse(text).resource
        registration_id = registration_of(resource)
        user = str(name_of(resource)) if registration_id is None else resource_of_registration(registration_id)
        return Credentials(user, text.encode())
    except (TokenError, DeviceError):
        return Credentials(None, None)
