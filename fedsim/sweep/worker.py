"""A worker of a sweep: ``python -m fedsim.sweep.worker``, jobs in on standard input, messages out.

A line of JSON each. A job is ``{"kind": "teacher" | "unit", "scenario": ..., ...}`` (:class:`Job`); its
messages are those of its bars (:mod:`fedsim.sweep.relay`) and a last one, ``{"event": "done"}`` or
``{"event": "failed", "message": ...}``. The end of standard input ends the worker at once, in the middle
of whatever it does: it does not outlive the one who started it, however that ends.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["Job", "main"]


@dataclass(frozen=True)
class Job:
    """What a worker does: it trains a teacher that several units need, or makes a unit's run folder.

    Args:
        kind: which of both.
        scenario: the unit's resolved scenario; of a teacher, that of any unit that needs it.
        setting: what names the point; None for a baseline.
        folder: the unit's run folder.
        force: replace what stands there.
        checkpoints: folder of this job alone, for a training that is not finished.
        teachers: folder of trained uncut networks.
    """

    kind: Literal["teacher", "unit"]
    scenario: dict[str, Any]
    setting: dict[str, Any] | None
    folder: str
    force: bool
    checkpoints: str
    teachers: str

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


class _Worker:
    """Takes jobs one after the other; what they share is kept."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._datasets: dict[tuple[str, float | None], Any] = {}

    def send(self, message: dict[str, Any]) -> None:
        """A message to whoever started this process."""
        data = f"{json.dumps(message)}\n".encode()
        while data:
            data = data[os.write(self._out, data) :]

    def do(self, job: Job) -> None:
        """A job and its last message."""
        from fedsim.errors import FedsimError  # noqa: PLC0415

        try:
            self._do(job)
        except FedsimError as error:
            self.send({"event": "failed", "message": str(error)})
        except Exception as error:
            traceback.print_exc()
            said = traceback.format_exception_only(error)[-1].strip()
            self.send({"event": "failed", "message": f"{said} (the worker's log has more)"})
        else:
            self.send({"event": "done"})

    def _do(self, job: Job) -> None:
        from fedsim import data, runner  # noqa: PLC0415
        from fedsim.models import Workshop  # noqa: PLC0415
        from fedsim.scenario import Scenario  # noqa: PLC0415
        from fedsim.sweep.relay import RelayDisplay  # noqa: PLC0415
        from fedsim.threads import torch_threads  # noqa: PLC0415

        scenario = Scenario.model_validate(job.scenario)
        asked = (scenario.data.name, scenario.data.validation)
        if asked not in self._datasets:
            self._datasets = {asked: data.load(*asked)}
        dataset = self._datasets[asked]
        display, folder = RelayDisplay(self.send), Path(job.folder)
        checkpoints, teachers = Path(job.checkpoints), Path(job.teachers)
        if job.kind == "teacher":
            workshop = Workshop(
                dataset,
                scenario.seed,
                folder,
                display,
                checkpoints=checkpoints,
                teachers=teachers,
                device=scenario.training.device,
                precision=scenario.training.precision,
            )
            with torch_threads(scenario.training.threads):
                workshop.teacher(scenario)
            return
        points = [] if job.setting is None else [(job.setting, scenario)]
        equipment = runner.Equipment(dataset, checkpoints, teachers)
        runner.perform(scenario, points, folder, job.force, display, equipment)


def _read(jobs: queue.SimpleQueue[Job]) -> None:
    for line in sys.stdin:
        jobs.put(Job(**json.loads(line)))
    os._exit(1)  # whatever the main thread is at


def main() -> None:
    """Work until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the one who started this ends it
    out = os.dup(1)
    os.dup2(2, 1)  # what libraries print goes to the log
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=_read, args=[jobs], name="jobs", daemon=True).start()
    import torch  # noqa: PLC0415  (takes seconds, in which the end of the input is already watched for)

    torch.set_num_threads(1)
    worker = _Worker(out)
    while True:
        worker.do(jobs.get())


if __name__ == "__main__":
    main()
