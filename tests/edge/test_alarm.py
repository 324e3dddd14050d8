"""Alarms of an event loop."""

import asyncio

import pytest

from edge.alarm import Alarm


@pytest.mark.parametrize("kernel", [True, False])
def test_an_alarm_rings_once_and_never_early(kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:
        monkeypatch.setattr("sys.platform", "darwin")

    async def check() -> None:
        loop = asyncio.get_running_loop()
        rung: list[float] = []
        alarm = Alarm(lambda: rung.append(loop.time()))
        assert alarm.precise or not kernel
        asked: list[float] = []
        for wait in (0.001, 0.0, 0.01, -5.0):
            asked.append(loop.time() + wait)
            alarm.set(loop.time() + 100)
            alarm.set(asked[-1])
            while len(rung) < len(asked):
                assert loop.time() < asked[-1] + 20
                await asyncio.sleep(0.001)
        assert all(at >= due for at, due in zip(rung, asked, strict=True))
        alarm.set(loop.time() + 0.01)
        alarm.set(None)
        await asyncio.sleep(0.03)
        alarm.close()
        alarm.close()
        assert len(rung) == len(asked)

    asyncio.run(check())
