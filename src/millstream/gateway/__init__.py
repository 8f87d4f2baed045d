"""The cloud gateway: devices connect to it by MQTT and HTTP, and what they publish is on disk before it is
acknowledged."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millstream.gateway.gateway import Gateway
    from millstream.gateway.listeners.auth import Authenticator, Credentials, Identity
    from millstream.password import hash_password, verify_password

__all__ = ["Authenticator", "Credentials", "Gateway", "Identity", "hash_password", "verify_password"]

_PLACES = {
    "Gateway": "millstream.gateway.gateway",
    "hash_password": "millstream.password",
    "verify_password": "millstream.password",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for: who only makes a password's hash need not wait for a web server to be imported."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES.get(name, "millstream.gateway.listeners.auth")), name)
