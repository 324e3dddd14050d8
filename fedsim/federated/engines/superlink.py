"""A SuperLink of one run: started, given the run, watched until its result is there, and stopped.

What ``flwr run`` does on a machine of its user's, without the daemon that this leaves behind::

    Flower app = pyproject.toml, with the run as its configuration --flwr run--> SuperLink --> ServerApp
    results folder <------------------------------------------------------------------------------'
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedsim.errors import FederationError
from fedsim.federated.engines.certificates import Certificates
from fedsim.federated.engines.outcome import ResultFolder
from fedsim.federated.engines.programs import Program, alive, environment, tail
from fedsim.federated.runspec import RunSpec

__all__ = ["HOST", "Federation", "app_of", "free_ports", "listens"]

HOST = "127.0.0.1"
_START_S = 60.0  # until a program serves
_EXCHANGES = 4  # of a round at most: keys, training, secrets, evaluation
_COMMAND_S = 60.0  # that one of Flower's commands may take
_POLL_S = 0.1
_STATUS_S = 10.0  # between two looks at what Flower thinks of a run whose server has not begun
_CONNECTION = "fedsim"  # of Flower's own configuration file


def app_of(spec: RunSpec, folder: Path) -> Path:
    """Write a run as a Flower app, which ``flwr run`` takes.

    Args:
        spec: of the run; its ``results`` is a folder on the machine of the SuperLink.
        folder: is made.

    Returns:
        the folder.
    """
    folder.mkdir(parents=True)
    text = json.dumps(spec.to_json())  # JSON of ASCII is a basic string of TOML, too
    (folder / "pyproject.toml").write_text(
        f"""[project]
name = "fedsim-run"
version = "1.0.0"
description = "A federated run of fedsim"
license = {{text = "Apache-2.0"}}
dependencies = []

[tool.flwr.app]
publisher = "fedsim"

[tool.flwr.app.components]
serverapp = "fedsim.federated.flower:server_app"
clientapp = "fedsim.federated.flower:client_app"

[tool.flwr.app.config]
fedsim-run = {text}
"""
    )
    return folder


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now, none of them twice."""
    with ExitStack() as held:
        found = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in found]


@dataclass
class Federation:
    """A SuperLink that serves.

    Args:
        address: host and port.
        certificates: of it; None where it is not encrypted.
        home: folder of Flower's own files.
        logs: folder of log files.
        env: what its programs find in their environment.
        programs: that were started; the first is the SuperLink.
    """

    address: str
    certificates: Certificates | None
    home: Path
    logs: Path
    env: Mapping[str, str]
    programs: list[Program]

    @classmethod
    @contextmanager
    def started(
        cls, folder: Path, arguments: Sequence[str] = (), *, tls: bool = False
    ) -> Iterator[Federation]:
        """A SuperLink on loopback, and at the end nothing of it or of what was started beside it.

        Args:
            folder: of logs; is made.
            arguments: for the SuperLink, beside address and encryption.
            tls: encrypted, with certificates made for this run.

        Raises:
            FederationError: it does not serve.
        """
        logs = folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        home = Path(tempfile.mkdtemp(prefix="fedsim-"))
        programs: list[Program] = []
        try:
            env = environment(home)
            if shutil.which("flower-superlink", path=env["PATH"]) is None:
                raise FederationError("flower-superlink is not installed beside this Python")
            certificates = Certificates.made(home) if tls else None
            federation = cls("", certificates, home, logs, env, programs)
            federation._serve(arguments)
            yield federation
        finally:
            for program in reversed(programs):
                program.terminate()
            for program in reversed(programs):
                program.wait()
            shutil.rmtree(home, ignore_errors=True)

    def start(self, name: str, command: Sequence[str]) -> Program:
        """Start another of Flower's programs; it is stopped with the rest."""
        program = Program(name, command, self.env, self.logs)
        self.programs.append(program)
        return program

    def carry_out(
        self,
        spec: RunSpec,
        results: Path,
        options: Sequence[str] = (),
        *,
        report: Callable[[int], None] | None = None,
        watch: Callable[[], None] | None = None,
    ) -> ResultFolder:
        """Submit a run, and wait for its end.

        Args:
            spec: of the run.
            results: folder that the server writes to; what is there is removed.
            options: of ``flwr run``.
            report: called with the number of rounds that are over.
            watch: called a few times a second; what it raises ends the run.

        Raises:
            FederationError: the server failed, in its own words, or was not heard of in time.
        """
        shutil.rmtree(results, ignore_errors=True)  # of another run
        folder = ResultFolder(results)
        app = app_of(replace(spec, results=str(results.absolute())), self.home / "run")
        run = str(self._flwr("run", str(app), _CONNECTION, *options)["run-id"])
        limits, exchanges = spec.bounds, 1 + _EXCHANGES * spec.rounds
        patience = _START_S + limits.nodes_s + exchanges * (limits.reply_s + _START_S)
        started = asked = time.monotonic()
        reported = 0
        while not folder.done():
            self.check(folder)
            if watch is not None:
                watch()
            now = time.monotonic()
            if self.unsure(folder, now - asked):
                self._check_status(run, folder)
                asked = now
            if now - started > patience:
                raise FederationError(self.with_log(f"the run has not ended in {patience:g} s"))
            if report is not None and (rounds := folder.rounds()) > reported:
                report(rounds)
                reported = rounds
            time.sleep(_POLL_S)
        if report is not None and reported < spec.rounds:
            report(spec.rounds)
        return folder

    def unsure(self, folder: ResultFolder, since_s: float) -> bool:
        """Whether Flower is to be asked what it thinks of the run, so long after it was asked last."""
        return folder.server() is None and since_s > _STATUS_S

    def check(self, folder: ResultFolder) -> None:
        """See that server and SuperLink have not failed."""
        server = folder.server()
        killed = server is not None and not alive(server)  # asked ahead of what it may have written last
        if (failure := folder.failure()) is not None:
            message, expected = failure
            raise FederationError(message if expected else self.with_log(message))
        if killed and not folder.done():
            raise FederationError(self.with_log("the ServerApp was killed"))
        self._check_superlink()

    def _check_status(self, run: str, folder: ResultFolder) -> None:
        """See that Flower takes the run for one that goes on: a server may have ended before it began."""
        found = self._flwr("list", _CONNECTION, "--run-id", run)["runs"][0]
        status, details = str(found["status"]), str(found.get("status-details") or "").strip()
        if status.startswith("finished") and not folder.done():
            self.check(folder)
            said = f"the ServerApp ended without a result ({status}{': ' if details else ''}{details})"
            raise FederationError(self.with_log(said))

    # --- the SuperLink --------------------------------------------------------------------------

    def configure(self) -> None:
        """Tell Flower's own commands where it is."""
        connection = "insecure = true"
        if self.certificates is not None:
            connection = f"root-certificates = {json.dumps(str(self.certificates.authority))}"
        (self.home / "config.toml").write_text(
            f'[superlink]\ndefault = "{_CONNECTION}"\n\n'
            f'[superlink.{_CONNECTION}]\naddress = "{self.address}"\n{connection}\n'
        )

    def _serve(self, arguments: Sequence[str]) -> None:
        (port,) = free_ports(1)
        self.address = f"{HOST}:{port}"
        command = ["flower-superlink", "--host", HOST, "--port", str(port)]
        if self.certificates is None:
            command += ["--insecure"]
        else:
            command += ["--ssl-ca-certfile", str(self.certificates.authority)]
            command += ["--ssl-certfile", str(self.certificates.certificate)]
            command += ["--ssl-keyfile", str(self.certificates.key)]
        self.configure()
        self.start("superlink", [*command, *arguments])
        end = time.monotonic() + _START_S
        while not listens(HOST, port):
            self._check_superlink()
            if time.monotonic() > end:
                raise FederationError(self.with_log(f"the SuperLink does not serve after {_START_S:g} s"))
            time.sleep(_POLL_S)

    def _check_superlink(self) -> None:
        superlink = self.programs[0]
        if (code := superlink.poll()) is not None:
            raise superlink.ended(code)

    def with_log(self, message: str) -> str:
        """The message with what the SuperLink said last."""
        return f"{message}\n{tail(self.programs[0].log)}"

    def _flwr(self, command: str, *arguments: str) -> dict[str, Any]:
        """What one of Flower's commands says, as JSON."""
        asked = ["flwr", command, *arguments, "--format", "json"]
        try:
            done = subprocess.run(
                asked,
                env=self.env,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_COMMAND_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise FederationError(f"flwr {command} has not answered in {_COMMAND_S:g} s") from error
        answer = _last_json(done.stdout)
        if done.returncode or answer is None or not answer.get("success"):
            said = (answer or {}).get("error-message") or f"{done.stdout}\n{done.stderr}".strip()
            raise FederationError(f"flwr {command}: {said}")
        return answer


def listens(host: str, port: int) -> bool:
    """Whether somebody does there."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def _last_json(text: str) -> dict[str, Any] | None:
    """The JSON object at the end of what a command printed; messages may stand ahead of it."""
    for start in (at for at, sign in enumerate(text) if sign == "{"):
        try:
            found = json.loads(text[start:])
        except json.JSONDecodeError:
            continue
        if isinstance(found, dict):
            return found
    return None
