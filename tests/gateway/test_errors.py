"""Every endpoint refuses in one shape; what there is is asked of the gateway itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from tests.support.gateway import Plant
from tests.support.http import client_of, error_of

from millstream.gateway import hash_password
from millstream.gateway.http import Access

PUBLIC = ("/health/", "/openapi.json")  # need no user


def endpoints(plant: Plant) -> Iterator[tuple[str, str]]:
    """Methods and paths, with something in the place of their parameters."""
    for operation in plant.gateway.operations:
        path = re.sub(r"\{\w+:int\}", "0", operation.path)
        yield operation.method, re.sub(r"\{\w+(:path)?\}", "events", path)


def in_shape(response: httpx.Response, status: int, code: str) -> bool:
    """Whether it is that error, in the one shape, and dated."""
    return error_of(response)[:2] == (status, code) and response.headers["date"].endswith("GMT")


async def test_without_a_user(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0", allow_anonymous=False, users={"ann": hash_password("secret")})
    async with client_of(plant) as client:
        asked = [each for each in endpoints(plant) if not each[1].startswith(PUBLIC)]
        assert len(asked) >= 15
        for method, path in asked:
            response = await client.request(method, path)
            assert in_shape(response, 401, "unauthorized"), path
            assert response.headers["www-authenticate"].startswith("Basic")


async def test_by_another_method(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0")
    async with client_of(plant) as client:
        for _, path in endpoints(plant):
            response = await client.request("PATCH", path)
            assert in_shape(response, 405, "method_not_allowed"), path
            assert response.headers["allow"]


async def test_where_we_fail(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*given: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(Access, "admit", broken)
    await plant.start(http="127.0.0.1:0")
    async with client_of(plant) as client:
        for method, path in endpoints(plant):
            if not path.startswith(PUBLIC):
                response = await client.request(method, path)
                assert in_shape(response, 500, "internal_error"), path
                assert "secret" not in response.text


@pytest.mark.parametrize("path", ["/", "/nothing", "/topics", "/streams/", "/groups/", "/streams/events/0/0/0/"])
async def test_where_nothing_is(plant: Plant, path: str) -> None:
    await plant.start(http="127.0.0.1:0")
    async with client_of(plant) as client:
        assert in_shape(await client.get(path), 404, "not_found")
