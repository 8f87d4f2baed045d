"""`PUT /registrations/{id}`: a device that is in no registry yet registers itself."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from millstream.devices import Provisioning, resource_of_registration
from millstream.devices.provisioning import RegisteredShown
from millstream.gateway.http.answer import answer
from millstream.gateway.http.operation import WHOEVER_IS_LET_IN, Caller, Content, Operation

_SHOWN = Content(RegisteredShown)


class Registrations:
    """Registers devices that hold a key of an enrollment."""

    def __init__(self, provisioning: Provisioning) -> None:
        self._provisioning = provisioning

    def operations(self) -> list[Operation]:
        """See `Part`."""
        return [
            Operation(
                method="PUT",
                path="/registrations/{registration}",
                act=self._register,
                text="Register the device that shows a token for this registration",
                needs=WHOEVER_IS_LET_IN,
                gives={200: _SHOWN, 201: _SHOWN},
            )
        ]

    async def _register(self, request: Request, caller: Caller) -> Response:
        registration_id = request.path_params["registration"]
        applicant = caller.identity.applicant
        if applicant is None or applicant.registration_id != registration_id:
            resource = resource_of_registration(registration_id)
            raise HTTPException(403, f"to register, show a token for the resource {resource!r}")
        registered = await self._provisioning.register(applicant, caller.actor)
        return answer(registered.shown(), 201 if registered.outcome == "created" else 200)
