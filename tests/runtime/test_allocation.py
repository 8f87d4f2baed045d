"""An application decides about devices that register: by real processes, since the function runs in a worker."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from tests.support.millstream import Running

from millstream import App
from millstream.allocation import Allocation, Registration
from millstream.clock import SECOND, SystemClock
from millstream.devices import derive_key, make_token
from millstream.errors import AppError

APP = """
import dataclasses
from millstream import Allocation, App, Registration
from millstream.errors import RegistrationError

app = App("fleet")

@app.allocate("line-3")
async def place(registration: Registration) -> Allocation | None:
    if registration.id.startswith("x-"):
        raise RegistrationError("devices of that series are not ours")
    if registration.id == "fails":
        raise ValueError("secret")
    if registration.id == "plain":
        return None
    return Allocation(tags={"hall": registration.id[-1], "site": None}, desired={"speed": 5})

@app.allocate("line-4")
def place_slowly(registration: Registration) -> Allocation:
    return Allocation(tags={"enrollment": registration.enrollment})
"""


class Site:
    def __init__(self, run: Running) -> None:
        (key,) = re.findall(r"^msk_\S+$", run.logs(), flags=re.MULTILINE)
        self.admin = httpx.Client(base_url=f"http://{run.http}", headers={"Authorization": f"Bearer {key}"}, timeout=30)
        self.device = httpx.Client(base_url=f"http://{run.http}", timeout=30)

    def enroll(self, name: str) -> None:
        said = {"tags": {"site": "a", "line": name}, "desired": {"speed": 1}, "allocate": True}
        self.admin.put(f"/enrollments/{name}", json=said).raise_for_status()

    def register(self, enrollment: str, device: str) -> httpx.Response:
        group_key = self.admin.get(f"/enrollments/{enrollment}/keys").json()["primary"]
        expiry = SystemClock().now() + 3_600 * SECOND
        token = make_token(derive_key(group_key, device), f"provisioning/registrations/{device}", expiry)
        return self.device.put(f"/registrations/{device}", headers={"Authorization": token})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("allocation")
    (folder / "fleet.py").write_text(APP)
    run = Running(folder / "data", str(folder / "fleet.py"), "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0")
    site = Site(run)
    for name in ("line-3", "line-4", "line-5"):
        site.enroll(name)
    yield site
    site.admin.close()
    site.device.close()
    run.close()


def test_the_function_says_what_a_device_begins_with(site: Site) -> None:
    assert site.register("line-3", "press-7").status_code == 201
    twin = site.admin.get("/devices/press-7/twin").json()
    assert twin["tags"] == {"hall": "7", "line": "line-3"}
    assert twin["desired"] == {"speed": 5}


def test_nothing_said_is_as_the_enrollment_says(site: Site) -> None:
    assert site.register("line-3", "plain").status_code == 201
    assert site.admin.get("/devices/plain").json()["tags"] == {"site": "a", "line": "line-3"}


def test_a_plain_function_runs_in_a_thread(site: Site) -> None:
    assert site.register("line-4", "press-8").status_code == 201
    assert site.admin.get("/devices/press-8").json()["tags"]["enrollment"] == "line-4"


@pytest.mark.parametrize(
    ("enrollment", "device", "status", "told"),
    [
        ("line-3", "x-1", 409, "not ours"),
        ("line-3", "fails", 503, "cannot say"),
        ("line-5", "press-9", 503, "no application"),
    ],
)
def test_who_is_not_let_in_is_in_no_registry(site: Site, enrollment: str, device: str, status: int, told: str) -> None:
    refused = site.register(enrollment, device)
    assert refused.status_code == status
    assert told in refused.json()["error"]["message"]
    assert "secret" not in refused.text
    assert site.admin.get(f"/devices/{device}").status_code == 404


def test_two_functions_for_one_enrollment_are_one_too_many() -> None:
    app = App("fleet")

    @app.allocate("line-3")
    def first(registration: Registration) -> Allocation | None:
        return None

    with pytest.raises(AppError, match="line-3"):
        app.allocate("line-3")
