"""Who may use the operations: everybody shows who he is, and each operation says what it needs.

Users show themselves as by MQTT, by HTTP Basic (RFC 7617), devices also by a token of their own; whoever has an API key
shows that as a bearer token (RFC 6750).
"""

from __future__ import annotations

import base64
from dataclasses import replace

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request

from millstream.actor import Actor
from millstream.errors import NotAuthorizedError
from millstream.gateway.http.answer import LATER
from millstream.gateway.http.operation import ANYBODY, Caller, Needs, Operation
from millstream.gateway.http.parameters import Parameters
from millstream.gateway.listeners.auth import (
    Authenticator,
    BusyError,
    Credentials,
    Identity,
    NotAuthenticatedError,
    ShownCertificate,
    TooManyFailuresError,
)
from millstream.rights import EVERYTHING, Right

_TOKEN = "SharedAccessSignature"  # noqa: S105 (the scheme of `millstream.devices.token`)
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="millstream", charset="UTF-8"'}
CERTIFICATE = "certificate"
"""What a request's state has of a client that has shown one."""

_NOBODY = Identity(None, EVERYTHING)


class Access:
    """Lets requests in."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def let_in(self, request: Request, operation: Operation) -> Caller:
        """Who asks for an operation, when he may. Refuses as `admit`, and with 400 parameters that it does not have."""
        needs = operation.needs
        identity = _NOBODY if needs is ANYBODY else await self.admit(request)
        request.state.actor = actor = actor_of(request, identity)
        if needs.right is not None and not needs.inside:
            _check(request, identity, needs, needs.right)
        return Caller(identity, Parameters(request, operation.query), actor)

    async def admit(self, connection: HTTPConnection, right: Right | None = None, name: str = "") -> Identity:
        """Who it is. Refuses with 401 who shows no credentials or wrong ones, with 429 who has shown too many wrong
        ones, with 503 while too many are checked, and (`NotAuthorizedError`, 403) who lacks a right that is asked for.
        """
        identity = await self._identify(connection)
        if right is not None:
            identity.rights.check(right, name)
        return identity

    async def _identify(self, connection: HTTPConnection) -> Identity:
        credentials = read_credentials(connection.headers.get("authorization"), address_of(connection))
        shown = connection.scope.get("state", {}).get(CERTIFICATE)
        if shown is not None:
            credentials = _with_certificate(credentials, shown, connection.path_params.get("registration"))
        known = self._authenticator.recall(credentials)
        if known is not None:
            return known
        try:
            return await self._authenticator.authenticate(credentials)
        except NotAuthenticatedError as error:
            connection.state.actor = actor_of(connection, Identity(credentials.user_name, EVERYTHING))
            raise HTTPException(401, str(error), _CHALLENGE) from None
        except TooManyFailuresError as error:
            raise HTTPException(429, str(error), {"Retry-After": "10"}) from None
        except BusyError as error:
            raise HTTPException(503, str(error), LATER) from None


def _with_certificate(credentials: Credentials, shown: ShownCertificate, registration: str | None) -> Credentials:
    """As whom a client comes in that has shown a certificate: by its name, or to register it."""
    if registration is not None and credentials.user_name is None:
        from millstream.devices import resource_of_registration

        return replace(credentials, user_name=resource_of_registration(registration), certificate=shown)
    return replace(credentials, certificate=shown)


def _check(request: Request, identity: Identity, needs: Needs, right: Right) -> None:
    if needs.own and is_self(identity, request):
        return
    identity.rights.check(right, str(request.path_params.get(needs.of, "")))


def is_self(identity: Identity, request: Request) -> bool:
    """Whether it is the device itself that the path names."""
    if identity.admitted is None:
        return False
    its = request.path_params
    return identity.admitted.name == (its.get("device"), its.get("module", ""))


def need_self(caller: Caller, request: Request, text: str) -> None:
    """Refuse everybody but the device itself that the path names."""
    if not is_self(caller.identity, request):
        raise NotAuthorizedError(text)


def actor_of(connection: HTTPConnection, identity: Identity) -> Actor:
    """Who asks for what, for the audit log."""
    asked = f"{connection.scope.get('method', 'GET')} {connection.scope['path']}"
    return Actor(identity.name, asked, address_of(connection))


def address_of(connection: HTTPConnection) -> str:
    """Where a request comes from."""
    return connection.client.host if connection.client is not None else ""


def read_credentials(authorization: str | None, address: str = "") -> Credentials:
    """What HTTP Basic shows, a device's token, or an API key; nothing if it is another scheme or does not decode."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme == _TOKEN:
        return _read_token(authorization or "", address)
    if scheme.lower() == "bearer":
        return Credentials(None, None, address=address, bearer=encoded.strip())
    if scheme.lower() != "basic":
        return Credentials(None, None, address=address)
    try:
        user_name, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return Credentials(user_name.decode(), password, address=address)
    except ValueError:
        return Credentials(None, None, address=address)


def _read_token(text: str, address: str) -> Credentials:
    """The device or registration that a token is for, which is its user name, and the token in the password's place."""
    from millstream.devices import Token, name_of, registration_of, resource_of_registration
    from millstream.errors import DeviceError, TokenError

    try:
        resource = Token.parse(text).resource
        registration_id = registration_of(resource)
        user = str(name_of(resource)) if registration_id is None else resource_of_registration(registration_id)
        return Credentials(user, text.encode(), address=address)
    except (TokenError, DeviceError):
        return Credentials(None, None, address=address)
