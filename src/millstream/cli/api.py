"""A server's HTTP side, for commands that ask it for something."""

from __future__ import annotations

import base64
import http.client
import json
import os
from collections.abc import Mapping
from typing import Any

from millstream.errors import MillstreamError

KEY = "MILLSTREAM_KEY"
_TIMEOUT_SECONDS = 60.0


class Api:
    """A connection to a server."""

    def __init__(self, host: str, port: int, user: str | None, password: str | None, patience: float = 0.0) -> None:
        """Without a user, the API key of the environment is shown. `patience`: seconds that the server itself may wait
        for something before it answers."""
        self._connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS + patience)
        self._address = f"{host}:{port}"
        self._user = user
        self._headers: dict[str, str] = {}
        key = os.environ.get(KEY)
        if user is None and key:
            self._user = f"the API key in {KEY}"
            self._headers["Authorization"] = f"Bearer {key}"
        if user is not None:
            secret = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
            self._headers["Authorization"] = f"Basic {secret}"

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Any:
        """What the server answers, which is JSON, or nothing (None). `MillstreamError` says why it did not."""
        try:
            self._connection.request(method, path, body, {**self._headers, **(headers or {})})
            response = self._connection.getresponse()
            answer = response.read()
        except ConnectionRefusedError:
            raise MillstreamError(
                f"no server answers at {self._address}; start one with: millstream run (or name it with --http)"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise MillstreamError(
                f"the server at {self._address} did not answer ({error or type(error).__name__}); what was under way "
                "may or may not have happened"
            ) from error
        if response.status >= 300:
            raise self._refusal(response.status, answer)
        try:
            return json.loads(answer) if answer else None
        except ValueError:
            raise MillstreamError(f"what answers at {self._address} is no Millstream server") from None

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _refusal(self, status: int, answer: bytes) -> MillstreamError:
        if status == 401:
            return MillstreamError(
                f"the server at {self._address} does not let {self._user or 'nobody in particular'} in: give --user "
                f"and MILLSTREAM_PASSWORD as in its [users], an API key in {KEY}, or run it with --allow-anonymous"
            )
        try:
            told = json.loads(answer)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            told = f"HTTP status {status}"
        return MillstreamError(f"the server at {self._address} refused: {told}")
