"""A link as a program: a relay, or an interface that the kernel shapes.

``python -m edge.link --to HOST:PORT --spec FILE`` or ``python -m edge.link --interface DEV --spec FILE``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from edge.arguments import Parser, address, count, existing_file, name
from edge.leash import Leash, add_leash
from edge.link.errors import LinkError
from edge.link.relay import Relay
from edge.link.spec import LinkSpec
from edge.link.tc import KernelLink

__all__ = ["main"]

_log = logging.getLogger(__name__)

_LISTEN = "127.0.0.1:0"


def _read(path: Path) -> LinkSpec:
    try:
        return LinkSpec.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise LinkError(f"{path}: {reason}") from error


def _write(path: Path, record: dict[str, object]) -> None:
    """Whole or not at all: somebody may be waiting for the file."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(record) + "\n", encoding="utf-8")
    partial.replace(path)


def _change(link: Relay | KernelLink, path: Path) -> None:
    try:
        link.change(_read(path))
    except (LinkError, OSError) as error:
        _log.error("the link stays as it is: %s", error)


def _ends(options: argparse.Namespace) -> asyncio.Event:
    """That somebody has asked the program to end, from now on."""
    asked = asyncio.Event()
    for end in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(end, asked.set)
    return asked


def _heed(link: Relay | KernelLink, options: argparse.Namespace) -> None:
    """Do what the other signals say, from now on."""

    def tell() -> None:
        if options.counters is not None:
            _write(options.counters, link.counters())

    def restart() -> None:
        if isinstance(link, Relay):  # the kernel's has no traces
            link.restart_traces()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, _change, link, options.spec)
    loop.add_signal_handler(signal.SIGUSR1, tell)
    loop.add_signal_handler(signal.SIGUSR2, restart)
    if options.leashed is not None:
        Leash(options.leashed, lambda: loop.call_soon_threadsafe(restart))


async def _relay(options: argparse.Namespace, spec: LinkSpec) -> None:
    relay = Relay(spec, options.listen or _LISTEN, options.to, seed=options.seed or 0)
    asked_to_end = _ends(options)
    _heed(relay, options)
    await relay.start()
    if options.announce is not None:
        _write(options.announce, {"address": relay.address, "pid": os.getpid()})
    print(f"relaying from {relay.address} to {options.to}", flush=True)
    await asked_to_end.wait()
    # The counters tell which connections were open; stopping ends them.
    counters = relay.counters()
    await relay.stop()
    if options.counters is not None:
        _write(options.counters, counters)


async def _shape(options: argparse.Namespace, spec: LinkSpec) -> None:
    asked_to_end = _ends(options)
    with KernelLink(options.interface, spec) as link:
        _heed(link, options)
        if options.announce is not None:
            _write(options.announce, {"interface": options.interface, "pid": os.getpid()})
        print(f"shaping {options.interface}", flush=True)
        await asked_to_end.wait()
        if options.counters is not None:
            _write(options.counters, link.counters())


def _parser() -> Parser:
    parser = Parser(
        prog="python -m edge.link",
        description="Emulate a link: by a relay of TCP connections (--to), or by having the kernel shape "
        "an interface (--interface). SIGHUP reads the link anew; SIGUSR1 writes the counters; SIGUSR2 "
        "lets all traces of a relay begin anew; SIGTERM and SIGINT end it.",
    )
    add = parser.add_argument
    add(
        "--listen",
        type=address,
        metavar="HOST:PORT",
        help=f"where devices connect to the relay; port 0 takes a free one (default: {_LISTEN})",
    )
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--to", type=address, metavar="HOST:PORT", help="the server behind the relay")
    way.add_argument(
        "--interface",
        type=name,
        metavar="DEV",
        help="a network interface to shape: what leaves by it is up, what comes in is down; takes "
        "CAP_NET_ADMIN and tc, and leaves the interface as it was",
    )
    add("--spec", type=existing_file, required=True, metavar="FILE", help="the link, as JSON")
    add(
        "--seed",
        type=count(0),
        metavar="N",
        help="of the relay's jitter, loss and contention (default: 0)",
    )
    add(
        "--announce",
        type=Path,
        metavar="FILE",
        help="write address or interface, and process id there, as JSON, once the link is up",
    )
    add(
        "--counters",
        type=Path,
        metavar="FILE",
        help="write there on SIGUSR1 and at the end, as JSON, what the link has carried",
    )
    add_leash(parser, "stop, as on SIGTERM, when standard input closes; a line on it is as SIGUSR2")
    add(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="warning",
        help="least severe log messages to print on stderr (default: %(default)s)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Be a link until SIGTERM or SIGINT.

    Returns:
        The exit code: 0, or 2 for what it cannot begin with, or cannot take away at the end.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.interface is not None:
        for option in ("listen", "seed"):
            if getattr(options, option) is not None:
                parser.error(f"argument --{option}: not allowed with argument --interface")
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        spec = _read(options.spec)
        asyncio.run((_relay if options.interface is None else _shape)(options, spec))
    except (LinkError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
