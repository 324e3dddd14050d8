"""A pool of worker processes for the jobs of a sweep; none of them outlives it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsim.sweep.worker import Job

__all__ = ["Entry", "Pool"]

_STOP_S = 10.0  # until a worker whose input has ended is killed
_LAST_LINES = 15  # of the log of a worker that died


@dataclass(frozen=True)
class Entry:
    """A job in the queue."""

    name: str  #: unique
    job: Job
    needs: str | None = None  #: name of an entry that has to end well before


#: Called with an entry and a message of its worker; ``begun``, ``done`` and ``failed`` come for each.
Listener = Callable[[Entry, dict[str, Any]], None]


class _Worker:
    """A worker process and the entry that it is at."""

    def __init__(self, number: int, log: Path, inbox: queue.SimpleQueue[tuple[_Worker, bytes]]) -> None:
        self.entry: Entry | None = None
        self.log = log / f"worker-{number}.log"
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        with self.log.open("ab") as errors:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "fedsim.sweep.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | threads,
            )
        self._reader = threading.Thread(target=self._read, args=[inbox], name=f"worker-{number}", daemon=True)
        self._reader.start()

    def _read(self, inbox: queue.SimpleQueue[tuple[_Worker, bytes]]) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            inbox.put((self, line))
        inbox.put((self, b""))

    def give(self, entry: Entry) -> None:
        """Let it begin a job."""
        assert self._child.stdin is not None
        self.entry = entry
        with suppress(BrokenPipeError):  # its end is noticed by the end of its output
            self._child.stdin.write(f"{entry.job.to_json()}\n".encode())
            self._child.stdin.flush()

    def death(self) -> str:
        """What to say of a worker that ended by itself."""
        code = self._child.wait()
        said = self.log.read_text(errors="replace").strip().splitlines()[-_LAST_LINES:]
        ending = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        colon = ":" if said else ", and said nothing"
        return "\n".join([f"the worker process ended ({ending}){colon}", *(f"  {line}" for line in said)])

    def stop(self) -> None:
        """End its input, and with it the process."""
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):
            self._child.stdin.close()

    def wait(self) -> None:
        """Wait for its end, and kill it where it does not come."""
        try:
            self._child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._reader.join()
        assert self._child.stdout is not None
        self._child.stdout.close()


class Pool:
    """Runs entries on a number of workers, the first that can run first.

    Args:
        size: workers at once.
        logs: folder for what they write to their standard error.
    """

    def __init__(self, size: int, logs: Path) -> None:
        self._size = size
        self._logs = logs
        self._inbox: queue.SimpleQueue[tuple[_Worker, bytes]] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._started = 0

    def run(self, entries: Sequence[Entry], listener: Listener) -> dict[str, str]:
        """Carry all entries out; what fails does not stop the others, but for those that need it.

        A worker that dies takes its entry with it and is replaced.

        Returns:
            why they failed, by the names of the entries that did.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        waiting, done, failures = list(entries), set[str](), dict[str, str]()
        try:
            while waiting or any(worker.entry for worker in self._workers):
                for entry in [e for e in waiting if e.needs in failures]:
                    waiting.remove(entry)
                    assert entry.needs is not None
                    failures[entry.name] = failures[entry.needs]
                    listener(entry, {"event": "failed", "message": failures[entry.name]})
                self._fill(waiting, done, listener)
                if not any(worker.entry for worker in self._workers):
                    continue
                worker, line = self._inbox.get()
                ended = self._heard(worker, line, listener)
                if ended is not None:
                    entry, why = ended
                    done |= {entry.name} if why is None else set()
                    failures |= {} if why is None else {entry.name: why}
        finally:
            for worker in self._workers:
                worker.stop()
            for worker in self._workers:
                worker.wait()
            self._workers = []
        return failures

    def _fill(self, waiting: list[Entry], done: set[str], listener: Listener) -> None:
        """Give every idle worker an entry; start workers while there are entries and room for them."""
        ready = [entry for entry in waiting if entry.needs is None or entry.needs in done]
        idle = [worker for worker in self._workers if worker.entry is None]
        for entry in ready:
            if not idle and len(self._workers) < self._size:
                idle.append(_Worker(self._started, self._logs, self._inbox))
                self._workers.append(idle[-1])
                self._started += 1
            if not idle:
                return
            waiting.remove(entry)
            listener(entry, {"event": "begun"})
            idle.pop().give(entry)

    def _heard(self, worker: _Worker, line: bytes, listener: Listener) -> tuple[Entry, str | None] | None:
        """Pass a message on; an entry that has ended with it, and why it failed, if it did."""
        entry = worker.entry
        if not line:
            self._workers.remove(worker)
            message = {"event": "failed", "message": worker.death()}
            worker.stop()
            worker.wait()
        elif line.endswith(b"\n"):
            message = json.loads(line)
        else:
            return None  # its writer was killed in the middle of it
        if entry is None:
            return None
        listener(entry, message)
        if message["event"] not in {"done", "failed"}:
            return None
        worker.entry = None
        return entry, message.get("message") if message["event"] == "failed" else None
