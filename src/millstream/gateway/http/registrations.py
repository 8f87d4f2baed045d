"""`PUT /registrations/{id}`: a device that is in no registry yet registers itself."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from millstream.devices import Provisioning, resource_of_registration
from millstream.gateway.http.access import Access
from millstream.gateway.http.answer import answer


class Registrations:
    """Registers devices that hold a key of an enrollment."""

    def __init__(self, provisioning: Provisioning, access: Access) -> None:
        self._provisioning = provisioning
        self._access = access

    def routes(self) -> list[BaseRoute]:
        """See `Part`."""
        return [Route("/registrations/{registration}", self._register, methods=["PUT"])]

    async def _register(self, request: Request) -> Response:
        registration_id = request.path_params["registration"]
        applicant = (await self._access.admit(request)).applicant
        if applicant is None or applicant.registration_id != registration_id:
            resource = resource_of_registration(registration_id)
            raise HTTPException(403, f"to register, show a token for the resource {resource!r}")
        registered = await self._provisioning.register(applicant)
        return answer(registered.shown(), 201 if registered.outcome == "created" else 200)
