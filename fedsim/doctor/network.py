"""What the kernel and this user's rights allow of network emulation, tried out in throw-away namespaces."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from edge.sockets import SocketCounter
from fedsim.doctor.commands import Output, installed, output
from fedsim.doctor.finding import Finding, State

__all__ = ["namespaces", "net_admin", "qdiscs", "root", "tcp_counters", "tun"]

_TIMEOUT_S = 5.0
_CAP_NET_ADMIN = 12  # include/uapi/linux/capability.h
#: The way of an ordinary user, and that of root where user namespaces are switched off.
_UNSHARE = (["unshare", "--user", "--map-root-user", "--net"], ["unshare", "--net"])
_DENIED = ("not permitted", "permission denied")
_ABSENT = (
    "kind is unknown",
    "unknown device type",
    "not supported",
    "no such file",
    "classifier not found",
    "action module",
)
_SHAPING = "python -m edge.link --interface"
#: What is tried, what it is needed for, and how a kernel comes by it.
_KINDS = {
    "tbf": (
        "tc qdisc add dev lo root tbf rate 1mbit burst 3028 limit 9000",
        f"{_SHAPING}: rate",
        "CONFIG_NET_SCH_TBF",
    ),
    "netem": (
        "tc qdisc add dev lo root netem delay 1ms",
        f"{_SHAPING}: delay, jitter, loss",
        "CONFIG_NET_SCH_NETEM (often in a package of extra modules)",
    ),
    "ifb": (
        "ip link add fedsim0 type ifb && tc qdisc add dev lo ingress && tc filter add dev lo parent ffff: "
        "protocol all u32 match u32 0 0 action mirred egress redirect dev fedsim0",
        f"{_SHAPING}: what comes in",
        "CONFIG_IFB, CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32 and CONFIG_NET_ACT_MIRRED",
    ),
}
_PROGRAMS = {"tc": "iproute2", "ip": "iproute2", "unshare": "util-linux"}


def tcp_counters() -> list[Finding]:
    """Whether the kernel counts the bytes of a connection, tried on one over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_TIMEOUT_S)
        with socket.create_connection(listener.getsockname(), timeout=_TIMEOUT_S) as near:
            far, _ = listener.accept()
            with far, SocketCounter(near.fileno()) as counter:
                near.sendall(bytes(100))
                traffic = counter.read()
    told = "TCP_INFO has no byte counters here"
    if traffic is not None:
        told = f"TCP_INFO counts: 100 bytes are {traffic.wire_sent} with the headers of the connection so far"
    state: State = "no" if traffic is None else "yes"
    return [Finding("tcp counters", state, told, "wire_bytes: measured", "Linux 4.19 or newer")]


def root() -> list[Finding]:
    """Whether this user is root."""
    user = os.geteuid()
    return [
        Finding("root", "no" if user else "yes", f"user id {user}", "RAPL counters; nothing else", "sudo")
    ]


def net_admin() -> list[Finding]:
    """Whether this process may shape the links of its own network namespace."""
    status = Path("/proc/self/status")
    needed, remedy = _SHAPING, "sudo; in compose, cap_add: [NET_ADMIN]"
    if not status.is_file():
        return [Finding("cap_net_admin", "no", "capabilities are Linux's", needed, "Linux")]
    fields = dict(line.partition(":")[::2] for line in status.read_text(encoding="ascii").splitlines())
    capabilities = int(fields["CapEff"], 16)
    held = bool(capabilities >> _CAP_NET_ADMIN & 1)
    return [Finding("cap_net_admin", "yes" if held else "no", f"CapEff {capabilities:#x}", needed, remedy)]


def namespaces() -> list[Finding]:
    """Whether a network namespace can be made, and by whom."""
    needed = "finding out about tbf, netem and ifb"
    name, remedy = (
        "network namespaces",
        "sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone; or root",
    )
    if not installed("unshare"):
        return [_not_probed(name, "unshare", needed, f"install {_PROGRAMS['unshare']}")]
    way, said = _namespace()
    if way is None:
        return [Finding(name, _state(said), said.said, needed, remedy)]
    told = "by any user, with a user namespace" if way == _UNSHARE[0] else "by root only"
    return [Finding(name, "yes", told, needed, remedy)]


def qdiscs() -> list[Finding]:
    """What a link in the kernel is made of, each added to an interface of a namespace of its own."""
    for program, package in _PROGRAMS.items():
        if not installed(program):
            remedy = f"install {package}"
            return [_not_probed(kind, program, needed, remedy) for kind, (_, needed, _) in _KINDS.items()]
    way, said = _namespace()
    findings = []
    for kind, (commands, needed, option) in _KINDS.items():
        if way is None:
            finding = Finding(kind, "unknown", f"cannot be probed: {said.said}", needed, "network namespaces")
        else:
            tried = output([*way, "sh", "-c", commands], _TIMEOUT_S)
            told = "added to a namespace of its own" if tried.code == 0 else tried.said
            finding = Finding(kind, _state(tried), told, needed, f"a kernel with {option}")
        findings.append(finding)
    return findings


def tun(device: Path = Path("/dev/net/tun")) -> list[Finding]:
    """Whether the device that makes network interfaces of a program can be opened."""
    state: State = "yes"
    told = f"{device} opens"
    try:
        os.close(os.open(device, os.O_RDWR))
    except PermissionError as error:
        state, told = "not allowed", str(error)
    except OSError as error:
        state, told = "no", str(error)
    needed = "interfaces in user space; fedsim's own links do without"
    return [Finding("tun", state, told, needed, "a kernel with CONFIG_TUN; read and write for this user")]


def _namespace() -> tuple[list[str] | None, Output]:
    """A command that puts another into a network namespace of its own; None where there is none, and why."""
    for way in _UNSHARE:
        said = output([*way, "true"], _TIMEOUT_S)
        if said.code == 0:
            return way, said
    return None, said


def _state(tried: Output) -> State:
    said = tried.said.lower()
    if tried.code == 0:
        return "yes"
    if any(words in said for words in _DENIED):
        return "not allowed"
    return "no" if any(words in said for words in _ABSENT) else "unknown"


def _not_probed(name: str, command: str, needed: str, remedy: str) -> Finding:
    return Finding(name, "unknown", f"cannot be probed: {command} is not installed", needed, remedy)
