"""How a device learns: it counts what its own samples look like to a network, and tells the tail server.

Learning takes no training: of each class it needs how many samples there were and the sum of their features,
and these go to the server, which adds them to those of all other devices.
"""

from __future__ import annotations

import hashlib
import sys
import time

import grpc
import numpy as np
import torch

from edge.bundle import DeviceHalf
from edge.prototypes.client import Pushed, push_statistics
from edge.prototypes.limits import DEFAULT_BITS, PUSH_BYTES
from edge.prototypes.statistics import ClassStatistics
from edge.samples import Samples

__all__ = ["counted", "learn"]

_BATCH = 64
_PROGRESS_S = 1.0


async def learn(
    half: DeviceHalf,
    samples: Samples,
    server: str,
    *,
    client: str = "device",
    bits: int = DEFAULT_BITS,
    deadline_s: float = 10.0,
    credentials: grpc.ChannelCredentials | None = None,
) -> Pushed:
    """Count labelled samples and push their statistics to a tail server.

    The id of the push is made of the samples, the model and the name of the device, so that a device that was
    killed may learn them again, and they count once.

    Args:
        half: a model that runs whole on the device; its output is the prototype space.
        samples: labelled.
        server: HOST:PORT.
        client: name of this device.
        bits: of a value on the way (see :func:`edge.prototypes.client.push_statistics`).
        deadline_s: time to bring the statistics over, retries included.
        credentials: for TLS; plain TCP without.

    Raises:
        ValueError: a model that is split, or that takes other images; samples without labels, or with
            classes that cannot be; features that are not finite; bits that there are not.
        RefusedError: by the server; trying again cannot help.
        LostError: no reply within the deadline.
    """
    statistics, push = counted(half, samples, client)
    return await push_statistics(
        server, half.handshake(client), push, statistics,
        bits=bits, deadline_s=deadline_s, credentials=credentials,
    )  # fmt: skip


def counted(half: DeviceHalf, samples: Samples, client: str) -> tuple[ClassStatistics, bytes]:
    """Class statistics of the samples, and the id under which a device of this name pushes them.

    Raises:
        ValueError: as :func:`learn`.
    """
    if not half.local:
        raise ValueError(
            f"model {half.spec.name} is split at {half.spec.cut}; a device learns with one that is whole"
        )
    if tuple(half.spec.input_shape) != samples.shape:
        expected, found = list(half.spec.input_shape), list(samples.shape)
        raise ValueError(f"model {half.spec.name} takes images {expected}, the samples are {found}")
    if samples.label(0) is None:
        raise ValueError("the samples have no 'labels', and a device learns labelled ones")
    digest = hashlib.sha256(f"{half.model_id}\n{client}\n".encode())
    statistics, reported = ClassStatistics.empty(half.classes), time.monotonic()
    for start in range(0, len(samples), _BATCH):
        positions = range(start, min(start + _BATCH, len(samples)))
        images = torch.cat([samples.image(position) for position in positions])
        labels = np.array([samples.label(position) for position in positions], dtype=np.int64)
        numbers = np.array([samples.number(position) for position in positions], dtype=np.int64)
        for part in (numbers, labels, images.numpy()):
            digest.update(part.tobytes())
        statistics += ClassStatistics.of(half.features(images).numpy(), labels)
        if positions[-1] == len(samples) - 1 or time.monotonic() - reported >= _PROGRESS_S:
            reported = time.monotonic()
            text = f"{half.spec.name}: sample {positions[-1] + 1}/{len(samples)}"
            print(text, file=sys.stderr, flush=True)
    return statistics, digest.digest()[:PUSH_BYTES]
