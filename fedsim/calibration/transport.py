"""How long the software takes to carry a message to a server and its reply back: gRPC, event loops, sockets.

::

    this process: edge.client --- loopback ------------------------------ edge.server
                              --- edge.link, for each link that is given ---'

What is timed is from handing a payload over until its reply is there, less what the server tells of decoder
and tail: the stages ``send`` and ``queue`` of a device, where no other sample is queued. Loopback takes no
time, so that all of it is software, at both ends together. A relay adds its own, beyond what its link takes.

Messages of two sizes follow each other, over every way in turn, with a pause ahead of each: programs that
wait for a sample take about twice as long for it as those that have just had one. The time of a message is
the median of all, since whatever else the machine does makes some of them late; their mean is higher. Of a
message that a link takes long to carry, the server handles the beginning meanwhile, so that what each byte
costs is partly hidden there.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Final

import numpy as np
import torch

from edge.bundle import ModelSpec, build, load_device, save
from edge.client import TailClient
from edge.coding.frame import Handshake
from edge.link import LinkSpec
from fedsim.calibration.lines import fit
from fedsim.calibration.timing import Timing
from fedsim.engines.children import STOP_S, Announced
from fedsim.errors import HardwareError
from fedsim.hardware.transport import Transport
from fedsim.simulator.overhead import stream_bytes

__all__ = ["MESSAGES", "PAYLOADS", "link_s", "sends", "transport_here"]

#: Bytes of the payloads that are sent.
PAYLOADS: Final = (128, 100_096)
#: Messages of each size.
MESSAGES: Final = 100
_CHANNEL = 8 * 8 * 2  # bytes of one in half precision
_WARM_UP = 5
_PAUSE_S = 0.02  # ahead of each message
_PATIENCE_S = 30.0  # for one message, beyond what its link takes


def transport_here(messages: int = MESSAGES) -> Transport:
    """What messages take on this machine, in a few seconds.

    Args:
        messages: of each size.

    Raises:
        EngineError: the server does not start.
        HardwareError: it does not answer.
    """
    line = fit(sends({"loopback": None}, messages)["loopback"])
    return Transport(line.fixed, line.each)


def sends(ways: Mapping[str, LinkSpec | None], messages: int = MESSAGES) -> dict[str, dict[int, Timing]]:
    """What messages to a server of this machine and their replies take, beyond what their links take.

    Args:
        ways: links by any names; None for loopback alone. They have neither traces, nor jitter or loss.
        messages: of each size and way.

    Returns:
        by way, and by the bytes of the message (``frame_bytes``).

    Raises:
        EngineError: the server or a relay does not start.
        HardwareError: the server does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="fedsim-transport-") as name, ExitStack() as children:
        folder = Path(name)
        bundles = [_bundle(folder, payload) for payload in PAYLOADS]
        command = [sys.executable, "-m", "edge.server", "--wait-ms", "0"]
        for bundle in bundles:
            command += ["--model", str(bundle)]

        def started(what: str, command: list[str]) -> str:
            child = Announced(what, command, folder, folder / f"{what}.announced")
            children.callback(child.wait, STOP_S)
            children.callback(child.terminate)
            return child.address

        server = started("server", command)
        addresses = [
            server if spec is None else started(f"link-{number}", _relay(folder, number, spec, server))
            for number, spec in enumerate(ways.values())
        ]
        handshakes = [load_device(bundle).handshake("calibration") for bundle in bundles]
        found = asyncio.run(_measured(addresses, list(ways.values()), handshakes, messages))
    return dict(zip(ways, found, strict=True))


def link_s(spec: LinkSpec, message_bytes: int, reply_bytes: int) -> float:
    """What a link takes to carry a message and then its reply, with nothing else on it, in seconds."""
    there, back = (spec.wire_bytes(int(stream_bytes(size))) for size in (message_bytes, reply_bytes))
    up, down = spec.up, spec.down
    return up.finish(0.0, 8 * there) + up.delay_s + down.finish(0.0, 8 * back) + down.delay_s


def _bundle(folder: Path, payload: int) -> Path:
    """A model whose payloads are of this size and whose tail has next to nothing to do."""
    channels = payload // _CHANNEL
    arguments = {"widths": [4, 4, 4], "channels": channels, "mean": [0.5] * channels, "std": [0.5] * channels}
    spec = ModelSpec(
        f"payload-{payload}", "digits-cnn", arguments, "input", None, (channels, 8, 8), "float16"
    )
    with torch.random.fork_rng(devices=[]):
        save(build(spec).eval(), spec, folder / spec.name)
    return folder / spec.name


def _relay(folder: Path, number: int, spec: LinkSpec, server: str) -> list[str]:
    file = folder / f"link-{number}.json"
    file.write_text(spec.to_json(), encoding="utf-8")
    return [sys.executable, "-m", "edge.link", "--to", server, "--spec", str(file)]


async def _measured(
    addresses: list[str], links: list[LinkSpec | None], handshakes: list[Handshake], messages: int
) -> list[dict[int, Timing]]:
    async with AsyncExitStack() as open_clients:
        clients = []
        for address in addresses:
            clients.append([TailClient(address, handshake) for handshake in handshakes])
            for client in clients[-1]:
                open_clients.push_async_callback(client.close)
        took: list[dict[int, list[float]]] = [{} for _ in links]
        for number in range(_WARM_UP + messages):
            for ours, spec, times in zip(clients, links, took, strict=True):
                for client, payload in zip(ours, PAYLOADS, strict=True):
                    await asyncio.sleep(_PAUSE_S)
                    frame_bytes, seconds = await _sent(client, spec, payload)
                    if number >= _WARM_UP:
                        times.setdefault(frame_bytes, []).append(seconds)
    return [{size: Timing(np.array(each)) for size, each in times.items()} for times in took]


async def _sent(client: TailClient, spec: LinkSpec | None, payload: int) -> tuple[int, float]:
    """Bytes of a message, and its time beyond link and server."""
    delivery = await client.ask(0, bytes(payload), _PATIENCE_S)
    reply = delivery.reply
    if reply is None or reply.code:
        why = delivery.detail if reply is None else reply.error
        raise HardwareError(f"cannot measure messages of {payload} bytes on this machine: {why}")
    timing = reply.timing
    served = (timing.decode_us + timing.tail_us) / 1e6
    linked = 0.0 if spec is None else link_s(spec, delivery.frame_bytes, reply.ByteSize())
    return delivery.frame_bytes, delivery.received_at - delivery.sent_at - served - linked
