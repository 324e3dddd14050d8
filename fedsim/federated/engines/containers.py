"""The engine ``containers``: a SuperLink, and a SuperNode for each client, in containers of docker compose.

This process submits the run and waits for what comes of it, as in
:mod:`~fedsim.federated.engines.deployment`; it starts none of the others. In the folder that all share, a
SuperNode finds which client it is, and the server leaves its results::

    shared/ supernodes/N/  node-config  claimed  alive (a pipe, open while the SuperNode runs)
            federation/    results of the method that is carried out

What passes between SuperNodes and SuperLink is encrypted, with certificates that were made for these
containers.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from fedsim.engines.containers import FOLDER, let_rest
from fedsim.errors import FederationError
from fedsim.federated.engines.certificates import Certificates
from fedsim.federated.engines.outcome import Outcome, ResultFolder
from fedsim.federated.engines.programs import environment
from fedsim.federated.engines.superlink import Federation, listens
from fedsim.federated.runspec import RunSpec

__all__ = ["run"]

#: Environment variable that says where the certificates lie.
_CERTIFICATES = "FEDSIM_CERTIFICATES"
_HOST, _PORT = "superlink", 9092  # name of the service
_COME_S = 120.0  # until SuperLink and SuperNodes are there
_POLL_S = 0.2
_BACK_S = 10.0  # in which a SuperNode that crashed is started again
_ASK_S = 30.0  # between two looks at what Flower thinks of the run
_GONE_S = 10.0  # that nobody answers at the SuperLink's address until it is taken for gone


def run(
    spec: RunSpec, folder: Path, *, tls: bool = True, report: Callable[[int], None] | None = None
) -> Outcome:
    """Carry a run out.

    Args:
        spec: of the run.
        folder: of its own, for ``logs``.
        tls: as in other engines; here it is encrypted in any case.
        report: called with the number of rounds that are over.

    Returns:
        what came of it; a SuperNode that died on the way is among the troubles.

    Raises:
        FederationError: the run failed, or SuperLink or SuperNodes did not come; says why.
    """
    shared = os.environ.get(FOLDER)
    if shared is None or not Path(shared).is_dir():
        raise FederationError(
            f"the engine 'containers' needs the folder that its containers share, in {FOLDER}: it is for "
            "docker compose --profile federated up; see docs/containers.md"
        )
    let_rest(Path(shared))
    nodes = _nodes(Path(shared) / "supernodes", spec.clients)
    with _Remote.joined(folder) as federation:
        nodes.wait()

        def watch() -> None:
            nodes.look()
            federation.look()

        results = Path(shared) / "federation"
        nodes.settle()
        there = replace(spec, absent=tuple(nodes.gone))
        return federation.carry_out(there, results, report=report, watch=watch).outcome(nodes.troubles())


class _Remote(Federation):
    """A SuperLink in a container of its own."""

    _heard_s = 0.0

    @classmethod
    def joined(cls, folder: Path) -> _Remote:
        """The one that serves, or comes to.

        Raises:
            FederationError: none does.
        """
        _wait_for(lambda: listens(_HOST, _PORT), f"no SuperLink answers at {_HOST}:{_PORT}")
        certificates = Certificates.within(Path(os.environ.get(_CERTIFICATES, "/certificates")))
        home = Path(tempfile.mkdtemp(prefix="fedsim-"))
        logs = folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        found = cls(f"{_HOST}:{_PORT}", certificates, home, logs, environment(home), [])
        found.configure()
        return found

    def __enter__(self) -> _Remote:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    def look(self) -> None:
        """See that the SuperLink is there.

        Raises:
            FederationError: it is not any more.
        """
        now = time.monotonic()
        if now - self._heard_s < _GONE_S / 2:
            return
        if listens(_HOST, _PORT):
            self._heard_s = now
        elif self._heard_s and now - self._heard_s > _GONE_S:
            raise FederationError(self.with_log("the SuperLink is gone"))

    def unsure(self, folder: ResultFolder, since_s: float) -> bool:
        """Now and then: nobody here sees the server's process."""
        return since_s > _ASK_S

    def check(self, folder: ResultFolder) -> None:
        """See that the server has not failed; its process is in another container."""
        if (failure := folder.failure()) is not None:
            raise FederationError(failure[0])

    def with_log(self, message: str) -> str:
        """The message with where more is told."""
        return f"{message}; the log of the service {_HOST!r} may say more"


class _Nodes:
    """The SuperNodes of a run, each a client, which stay from one method to the next."""

    def __init__(self, folder: Path, clients: int) -> None:
        self._alive: dict[int, int] = {}  # pipes, by client
        self._heard: set[int] = set()
        self._away: dict[int, float] = {}  # since when they have ended
        self._back: set[int] = set()  # that had ended, and were started again
        self._folder, self._clients = folder, clients
        for client in range(clients):
            node = folder / str(client)
            if not node.exists():
                node.mkdir(parents=True)
                os.mkfifo(node / "alive")
                partial = node / "node-config.partial"
                partial.write_text(f"partition-id={client} num-partitions={clients}\n")
                partial.rename(node / "node-config")
            self._alive[client] = os.open(node / "alive", os.O_RDONLY | os.O_NONBLOCK)
        (folder / "complete").touch()

    def wait(self) -> None:
        """Wait until each client has a SuperNode.

        Raises:
            FederationError: one has none.
        """
        told = f"not each of the {self._clients} clients has a SuperNode; start as many (--scale supernode=N)"

        def there() -> bool:
            return all((self._folder / str(one) / "claimed").exists() for one in range(self._clients))

        _wait_for(there, told)

    def look(self) -> None:
        """Note who has ended, and who has come back: a SuperNode that crashes is started again.

        Raises:
            FederationError: all have ended.
        """
        for client, pipe in self._alive.items():
            try:
                ended = not os.read(pipe, 1)
            except BlockingIOError:  # its other end is open
                self._heard.add(client)
                if self._away.pop(client, None) is not None:
                    self._back.add(client)
                continue
            if ended and client in self._heard:
                self._away.setdefault(client, time.monotonic())
        if len(self.gone) == self._clients:
            raise FederationError("all SuperNodes have ended")

    def settle(self) -> None:
        """Wait for those that have just crashed to be started again.

        Raises:
            FederationError: all have ended.
        """
        self.look()
        while any(time.monotonic() - since < _BACK_S for since in self._away.values()):
            time.sleep(_POLL_S)
            self.look()

    @property
    def gone(self) -> list[int]:
        """The clients whose SuperNodes are not there any more."""
        return sorted(self._away)

    def troubles(self) -> list[str]:
        """Whose SuperNode has ended, in words."""
        again = sorted(self._back - self._away.keys())
        return [
            *(f"the SuperNode of client {one} has ended" for one in self.gone),
            *(f"the SuperNode of client {one} has ended, and was started again" for one in again),
        ]


@cache
def _nodes(folder: Path, clients: int) -> _Nodes:
    """The SuperNodes that all methods of this process have."""
    return _Nodes(folder, clients)


def _wait_for(what: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _COME_S
    while not what():
        if time.monotonic() > deadline:
            raise FederationError(f"{otherwise}, within {_COME_S:g} s; see docs/containers.md")
        time.sleep(_POLL_S)
