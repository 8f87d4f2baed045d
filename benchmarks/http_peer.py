"""The peer of the HTTP benchmark: an endpoint that does nothing but append what comes to a file, with fsync."""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_file = os.open(os.environ["BENCH_FILE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


async def append(request: Request) -> Response:
    """2xx comes after the fsync, as it does at Millstream."""
    os.write(_file, await request.body() + b"\n")
    os.fsync(_file)
    return Response(status_code=200)


app = Starlette(routes=[Route("/topics/{topic:path}", append, methods=["POST"])])
