"""Whether containers can be run."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path

from fedsim.doctor.commands import installed, output
from fedsim.doctor.finding import Finding, State

__all__ = ["compose", "engine"]

_TIMEOUT_S = 5.0
_NEEDED = "device and server in containers"
_SOCKET = "/var/run/docker.sock"
_VARIABLE = "DOCKER_HOST"


def engine() -> list[Finding]:
    """A Docker engine that answers: the docker command asks it; where there is none, its socket is asked."""
    if installed("docker"):
        state, told = _by_command()
    else:
        state, told = _by_socket()
        told = f"no docker command; {told}"
    remedy = "start the engine"
    if state == "not allowed":
        remedy = "add yourself to the group docker, or use a rootless engine"
    elif not installed("docker"):
        remedy = "install Docker"
    return [Finding("docker engine", state, told, _NEEDED, remedy)]


def compose() -> list[Finding]:
    """Docker Compose, as a plug-in of docker or as a command of its own."""
    found = []
    for command in (["docker", "compose"], ["docker-compose"]):
        if installed(command[0]):
            said = output([*command, "version", "--short"], _TIMEOUT_S)
            if said.code == 0:
                found.append(f"{' '.join(command)} {said.text.strip()}")
    told = ", ".join(found) or "neither docker compose nor docker-compose answers"
    return [
        Finding(
            "docker compose", "yes" if found else "no", told, _NEEDED, "install the plug-in docker-compose"
        )
    ]


def _by_command() -> tuple[State, str]:
    said = output(["docker", "version", "--format", "{{json .}}"], _TIMEOUT_S)
    try:
        versions = json.loads(said.text)
        client = f"client {versions['Client']['Version']}"
        server = (versions.get("Server") or {}).get("Version")
    except (ValueError, KeyError, TypeError, AttributeError):
        client, server = "client", None
    if said.code == 0 and server:
        return "yes", f"{client}, engine {server}"
    reason = said.error.strip().splitlines()[-1] if said.error.strip() else f"exit code {said.code}"
    return _refused(reason), f"{client}; {reason}"


def _by_socket() -> tuple[State, str]:
    host = os.environ.get(_VARIABLE, f"unix://{_SOCKET}")
    if not host.startswith("unix://"):
        return "unknown", f"{_VARIABLE} is {host}, and only a unix:// socket can be asked"
    path = Path(host.removeprefix("unix://"))
    connection = http.client.HTTPConnection("docker", timeout=_TIMEOUT_S)
    try:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(_TIMEOUT_S)
            channel.connect(str(path))
            connection.sock = channel
            connection.request("GET", "/version")
            reply = connection.getresponse()
            version = json.loads(reply.read(1 << 20))["Version"]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        reason = f"{path}: {error or type(error).__name__}"
        return _refused(reason), reason
    return "yes", f"{path}: engine {version}"


def _refused(reason: str) -> State:
    return "not allowed" if "permission denied" in reason.lower() else "no"
