"""The relay as a program: ``python -m edge.link --listen HOST:PORT --to HOST:PORT --spec FILE``."""

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

from edge.arguments import Parser, address, count, existing_file
from edge.leash import Leash
from edge.link.errors import LinkError
from edge.link.relay import Relay
from edge.link.spec import LinkSpec

__all__ = ["main"]

_log = logging.getLogger(__name__)


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


def _change(relay: Relay, path: Path) -> None:
    try:
        relay.change(_read(path))
    except LinkError as error:
        _log.error("the link stays as it is: %s", error)


async def _relay(options: argparse.Namespace, spec: LinkSpec) -> None:
    relay = Relay(spec, options.listen, options.to, seed=options.seed)
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, asked_to_stop.set)
    loop.add_signal_handler(signal.SIGHUP, _change, relay, options.spec)
    if options.counters is not None:
        loop.add_signal_handler(signal.SIGUSR1, lambda: _write(options.counters, relay.counters()))
    if options.leashed:
        Leash()
    await relay.start()
    if options.announce is not None:
        _write(options.announce, {"address": relay.address, "pid": os.getpid()})
    print(f"relaying from {relay.address} to {options.to}", flush=True)
    await asked_to_stop.wait()
    # The counters tell which connections were open; stopping ends them.
    counters = relay.counters()
    await relay.stop()
    if options.counters is not None:
        _write(options.counters, counters)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m edge.link",
        description="Relay TCP connections over an emulated link. "
        "SIGHUP reads the link anew; SIGUSR1 writes the counters.",
    )
    add = parser.add_argument
    add(
        "--listen",
        type=address,
        default="127.0.0.1:0",
        metavar="HOST:PORT",
        help="where devices connect; port 0 takes a free one (default: %(default)s)",
    )
    add("--to", type=address, required=True, metavar="HOST:PORT", help="the server behind the link")
    add("--spec", type=existing_file, required=True, metavar="FILE", help="the link, as JSON")
    add(
        "--seed",
        type=count(0),
        default=0,
        metavar="N",
        help="of jitter, loss and contention (default: %(default)s)",
    )
    add(
        "--announce",
        type=Path,
        metavar="FILE",
        help="write address and process id there, as JSON, once listening",
    )
    add(
        "--counters",
        type=Path,
        metavar="FILE",
        help="write there at the end, as JSON, what the link has carried",
    )
    add("--leashed", action="store_true", help="stop, as on SIGTERM, when standard input closes")
    add(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="warning",
        help="least severe log messages to print on stderr (default: %(default)s)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Relay until SIGTERM or SIGINT. Returns the exit code: 0, or 2 for what it cannot begin with."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        asyncio.run(_relay(options, _read(options.spec)))
    except (LinkError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
