"""The first application under test: `pytest` in this folder runs it."""

from plant import app


async def test_overheating() -> None:
    async with app.test() as plant:
        await plant.publish("site/a/press-1/telemetry", {"ts": "2026-01-01T00:00:00Z", "celsius": 91})
        await plant.advance("30s")
        assert [e.data["device"] for e in plant.stream("alerts")] == ["press-1"]
