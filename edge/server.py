"""The tail server: receives payloads, decodes and classifies them in batches, replies.

``python -m edge.server --model RUN/models/METHOD --listen 127.0.0.1:0``
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge.arguments import Parser, address, count, existing_file, existing_folder, seconds
from edge.leash import Leash, add_leash

if TYPE_CHECKING:
    import argparse

    import grpc

    from edge.bundle import ServerHalf
    from edge.prototypes.store import PrototypeStore
    from edge.service import Settings

__all__ = ["TailServer", "main"]

_log = logging.getLogger(__name__)

_NEEDS = ("grpc_health.v1.health", "grpc_reflection.v1alpha.reflection", "edge.bundle", "edge.service")

_SPARE_CALLS = 64  # for health checks and reflection when all calls of the service are taken

_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a port shared by chance
    ("grpc.http2.bdp_probe", 0),  # its pings would add to a device's bytes now and then
    ("grpc.http2.lookahead_bytes", 1 << 20),  # a fixed flow-control window in the probe's place
    ("grpc.max_concurrent_streams", 128),  # of one connection
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
)


class TailServer:
    """A gRPC server of the tail service, with health checks and reflection.

    Made and used within one running event loop.

    Args:
        halves: the server halves by model id.
        settings: batching and bounds.
        listen: HOST:PORT; port 0 takes a free one.
        credentials: for TLS; plain TCP without.
        keepalive_s: a peer that was silent for so long is asked whether it is there.
        keepalive_timeout_s: and is forgotten when it does not reply for so long.
        prototypes: devices may add to these, and they tell the class of a sample.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(
        self,
        halves: Mapping[str, ServerHalf],
        settings: Settings,
        listen: str,
        *,
        credentials: grpc.ServerCredentials | None = None,
        keepalive_s: float = 30.0,
        keepalive_timeout_s: float = 20.0,
        prototypes: PrototypeStore | None = None,
    ) -> None:
        import grpc  # noqa: PLC0415
        from grpc_health.v1 import health, health_pb2_grpc  # noqa: PLC0415
        from grpc_reflection.v1alpha import reflection  # noqa: PLC0415

        from edge.rpc import SERVICE  # noqa: PLC0415
        from edge.service import TailService  # noqa: PLC0415

        _check_free(listen)
        self.service = TailService(halves, settings, prototypes)
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            options=(
                *_OPTIONS,
                ("grpc.keepalive_time_ms", round(keepalive_s * 1e3)),
                ("grpc.keepalive_timeout_ms", round(keepalive_timeout_s * 1e3)),
                # A ping has a timeout of its own, of a minute, and the longer of the two counts.
                ("grpc.http2.ping_timeout_ms", round(keepalive_timeout_s * 1e3)),
                ("grpc.max_receive_message_length", self.service.max_message),
            ),
            maximum_concurrent_rpcs=settings.max_calls + _SPARE_CALLS,
        )
        self._server.add_generic_rpc_handlers((self.service.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(self._names, self._server)
        try:
            if credentials is None:
                port = self._server.add_insecure_port(listen)
            else:
                port = self._server.add_secure_port(listen, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {listen}: {error}") from error
        #: HOST:PORT that it listens on.
        self.address = f"{listen.rpartition(':')[0]}:{port}"

    async def start(self) -> None:
        """Begin to serve."""
        from grpc_health.v1 import health_pb2  # noqa: PLC0415

        self.service.start()
        await self._server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float) -> None:
        """Answer what has been received, then end, within ``grace_s`` and a moment."""
        await self._health.enter_graceful_shutdown()
        try:
            await asyncio.wait_for(self.service.drain(), grace_s)
        except TimeoutError:
            _log.warning("not everything was answered within %g s", grace_s)
        await self._server.stop(0.2)
        await self.service.stop()


def _check_free(listen: str) -> None:
    """Raise the system's own reason why an address cannot be listened on."""
    host, _, port = listen.rpartition(":")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen()
    except OSError as error:
        raise OSError(f"cannot listen on {listen}: {error.strerror or error}") from error


def _load(folders: Sequence[Path]) -> dict[str, ServerHalf]:
    from edge.bundle import load_server  # noqa: PLC0415

    halves: dict[str, ServerHalf] = {}
    for folder in folders:
        half = load_server(folder)
        if half.model_id in halves:
            raise ValueError(f"model {half.model_id} is given twice, the second time as {folder}")
        halves[half.model_id] = half
    return halves


def _store(options: argparse.Namespace, halves: Mapping[str, ServerHalf]) -> PrototypeStore | None:
    """The prototypes that the server is to classify by, if any."""
    from edge.prototypes.service import store_for  # noqa: PLC0415

    if options.prototypes is not None:
        return store_for(options.prototypes, halves, options.learned_with, options.max_classes)
    for option, value in (("learned-with", options.learned_with), ("max-classes", options.max_classes)):
        if value is not None:
            raise ValueError(f"--{option} is of no use without --prototypes")
    return None


def _credentials(certificate: Path | None, key: Path | None) -> grpc.ServerCredentials | None:
    import grpc  # noqa: PLC0415

    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ValueError("--tls-cert and --tls-key are given together or not at all")
    return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])


def _announce(path: Path, where: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(json.dumps({"address": where, "pid": os.getpid()}) + "\n")
    partial.replace(path)


async def _serve(
    options: argparse.Namespace,
    halves: Mapping[str, ServerHalf],
    credentials: grpc.ServerCredentials | None,
    prototypes: PrototypeStore | None,
) -> None:
    from edge.service import Settings  # noqa: PLC0415

    settings = Settings(
        batch=options.batch,
        wait_s=options.wait_ms / 1e3,
        workers=options.workers,
        max_in_flight=options.max_in_flight,
        max_waiting=options.max_waiting,
        max_calls=options.max_calls,
    )
    server = TailServer(halves, settings, options.listen, credentials=credentials, prototypes=prototypes)
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, asked_to_stop.set)
    if options.leashed is not None:
        Leash(options.leashed)
    await server.start()
    if options.announce is not None:
        _announce(options.announce, server.address)
    print(f"serving on {server.address}", flush=True)
    await asked_to_stop.wait()
    await server.stop(options.grace)


def _parser() -> Parser:
    parser = Parser(
        _NEEDS, prog="python -m edge.server", description="Serve the tails of split models over gRPC."
    )
    add = parser.add_argument
    add(
        "--model",
        type=existing_folder,
        action="append",
        required=True,
        metavar="DIR",
        help="a model bundle, or its server/ folder; may be given several times",
    )
    add(
        "--listen",
        type=address,
        default="127.0.0.1:0",
        metavar="HOST:PORT",
        help="where to listen; port 0 takes a free one (default: %(default)s)",
    )
    add(
        "--prototypes",
        type=Path,
        metavar="FILE",
        help="classify by the nearest prototype; devices that learn add to those in FILE",
    )
    add(
        "--learned-with",
        type=existing_folder,
        metavar="DIR",
        help="the whole model that devices learn with (default: that of the first to learn)",
    )
    add("--max-classes", type=count(1), metavar="N", help="refuse classes from N on (default: none)")
    add("--batch", type=count(1), default=32, metavar="N", help="largest batch (default: %(default)s)")
    add(
        "--wait-ms",
        type=seconds,
        default=2.0,
        metavar="MS",
        help="how long an open batch waits for more samples (default: %(default)s)",
    )
    add(
        "--workers",
        type=count(1),
        default=1,
        metavar="N",
        help="batches that run at once (default: %(default)s)",
    )
    add(
        "--threads",
        type=count(1),
        default=1,
        metavar="N",
        help="threads that a batch computes with (default: %(default)s)",
    )
    add(
        "--max-in-flight",
        type=count(1),
        default=32,
        metavar="N",
        help="samples of one stream that may await an answer (default: %(default)s)",
    )
    add(
        "--max-waiting",
        type=count(1),
        default=1024,
        metavar="N",
        help="samples of all streams that may await an answer (default: %(default)s)",
    )
    add(
        "--max-calls",
        type=count(1),
        default=1024,
        metavar="N",
        help="streams and calls that may be open at once (default: %(default)s)",
    )
    add(
        "--announce",
        type=Path,
        metavar="FILE",
        help="write address and process id there, as JSON, once serving",
    )
    add(
        "--grace",
        type=seconds,
        default=10.0,
        metavar="S",
        help="time for what was received to be answered after SIGTERM (default: %(default)s)",
    )
    add_leash(parser, "stop, as on SIGTERM, when standard input closes")
    add("--tls-cert", type=existing_file, metavar="FILE", help="certificate chain (PEM)")
    add("--tls-key", type=existing_file, metavar="FILE", help="private key of the certificate (PEM)")
    add(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="warning",
        help="least severe log messages to print on stderr (default: %(default)s)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0, or 2 for what it cannot begin with."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    import torch  # noqa: PLC0415  --help need not wait for it

    torch.set_num_threads(options.threads)
    try:
        credentials = _credentials(options.tls_cert, options.tls_key)
        halves = _load(options.model)
        prototypes = _store(options, halves)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    gc.freeze()  # imports and models stay: no collection looks at them again while samples wait
    try:
        asyncio.run(_serve(options, halves, credentials, prototypes))
    except OSError as error:
        parser.error(str(error))
    finally:
        if prototypes is not None:
            prototypes.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
