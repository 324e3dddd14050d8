"""How long the stages of a split model take: on this machine, and on a device that a preset describes.

A preset says so in one of three ways. Where the model itself was measured on the device
(``fedsim calibrate``), its times are taken as they are. Else the network is counted layer by layer and goes
through the device's roofline, and entropy coding takes what it takes there for each symbol; where nobody has
measured that, the encoder as a whole takes so many times as long as here as the whole network does there
(:class:`fedsim.hardware.compute.Scaled`).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge import bundle
from edge.bundle import DeviceHalf, ServerHalf
from edge.samples import Samples
from edge.tail import Refusal, Request, predict
from fedsim.engines.plan import Method
from fedsim.errors import EngineError
from fedsim.hardware.compute import Layer, Scaled, Serving
from fedsim.hardware.macs import count_layers
from fedsim.hardware.models import coding_of, roofline_of, serving_of, stages_of
from fedsim.hardware.presets import Device, Measured, Split
from fedsim.threads import torch_threads

__all__ = [
    "DeviceTimes",
    "HostTimes",
    "ServerTimes",
    "device_times",
    "measure_here",
    "measured",
    "server_times",
]

_IMAGES = 24  # that are measured
_WARM_UP = 3
_PAUSE_S = 0.01  # ahead of each call: see :func:`measure_here`
_BATCHES = 6  # of each size, at least


@dataclass(frozen=True)
class ServerTimes:
    """What the server takes for a batch, and the share of it that decoding is."""

    serving: Serving
    decode: float


@dataclass(frozen=True)
class DeviceTimes:
    """What a device takes for one sample.

    Args:
        head_s: the network.
        encode_s: the encoder; None of a model that runs whole on the device.
        head_range_s: least and most that the head may take, where the rate of the device is a range.
        how: where the times are from, for people.
    """

    head_s: float
    encode_s: float | None
    head_range_s: tuple[float, float]
    how: str

    def __str__(self) -> str:
        low, high = self.head_range_s
        around = "" if low == high else f", {1e3 * low:.3g} to {1e3 * high:.3g} ms by its rate's range"
        return f"head {1e3 * self.head_s:.3g} ms{around}; {self.how}"


@dataclass(frozen=True)
class HostTimes:
    """A model on this machine: its times, and the layers of its network.

    Args:
        name: of the model.
        model: its id.
        head_s: median of one sample.
        encode_s: likewise; None of a model that runs whole on the device.
        server: None of the same.
        head: layers.
        tail: layers; none of the same.
        encoder: layers, of the network ahead of the coder; none of the same.
        symbols: that are coded of a sample; None where nobody says so.
    """

    name: str
    model: str
    head_s: float
    encode_s: float | None
    server: ServerTimes | None
    head: Sequence[Layer]
    tail: Sequence[Layer]
    encoder: Sequence[Layer] = ()
    symbols: int | None = None

    @property
    def network_s(self) -> float:
        """Head and tail of one sample that comes alone."""
        if self.server is None:
            return self.head_s
        return self.head_s + (1 - self.server.decode) * self.server.serving.seconds(1)


def measured(methods: Iterable[Method], samples: Path, batch: int) -> dict[str, HostTimes]:
    """The methods of a run on this machine, in one thread, by name.

    Args:
        methods: whose bundles are loaded.
        samples: file of images (:class:`edge.samples.Samples`).
        batch: most samples of a batch on the server.

    Raises:
        BundleError: a bundle that cannot be loaded.
        EngineError: as :func:`measure_here`.
    """
    file = Samples(samples, limit=_IMAGES)
    images = torch.cat([file.image(position) for position in range(len(file))])
    found = {}
    with torch_threads(1):
        for method in methods:
            device = bundle.load_device(method.bundle)
            server = None if device.local else bundle.load_server(method.bundle)
            found[method.name] = measure_here(device, server, images, batch, method.level)
    return found


@torch.inference_mode()
def measure_here(
    device: DeviceHalf, server: ServerHalf | None, images: Tensor, batch: int, level: int | None = None
) -> HostTimes:
    """Measure a model on this machine, one image at a time, with as many threads as torch has.

    There is a pause ahead of each call. Devices and servers wait for their samples, and whatever else runs on
    their processors meanwhile takes their caches: a call then takes two or three times as long as one of many
    in a row.

    Args:
        device: its half on a device.
        server: its half on a server; None of a model that runs whole on the device.
        images: [N, C, H, W] with values 0..1, at least one.
        batch: most samples of a batch on the server.
        level: at which samples are encoded.

    Raises:
        EngineError: the server does not take what the device made of these images.
    """
    chosen = torch.split(images[:_IMAGES], 1)
    features = [device.features(image) for image in chosen]  # from here on it is warm
    _, head = count_layers(lambda: device.features(chosen[0]))
    if server is None or device.local:
        head_s = _median(_timed(lambda image=image: device.features(image)) for image in chosen)  # type: ignore[misc]
        return HostTimes(device.spec.name, device.model_id, head_s, None, None, head, ())
    payloads = [payload for one in features for payload in device.encode(one, level)]
    _, tail = count_layers(lambda: server.predict(server.decode(payloads[:1])))
    _, encoder = count_layers(lambda: device.encode(features[0], level))
    batches = _Batches(server, payloads, batch)
    heads, codings = [], []
    # By turns: whatever else the machine does in these seconds, it does to all of them.
    for number in range(max(_IMAGES, _BATCHES * len(batches.sizes))):
        place = number % len(chosen)
        heads.append(_timed(lambda: device.features(chosen[place])))  # noqa: B023  called at once
        codings.append(_timed(lambda: device.encode(features[place], level)))  # noqa: B023
        batches.measure_next()
    return HostTimes(
        device.spec.name,
        device.model_id,
        _median(heads),
        _median(codings),
        batches.times(),
        head,
        tail,
        encoder,
        _symbols(device),
    )


def device_times(device: Device | None, here: HostTimes) -> DeviceTimes:
    """The times of a model on a device; on this machine without one.

    Raises:
        HardwareError: the device has no rate, and the model was not measured on it.
    """
    if device is None:
        return DeviceTimes(here.head_s, here.encode_s, (here.head_s, here.head_s), "measured on this host")
    if here.encode_s is not None and here.name in device.splits:
        table = stages_of(device, here.name)
        head_s = table.seconds("head")
        how = _measured_on(device, device.splits[here.name], here)
        return DeviceTimes(head_s, table.seconds("encode"), (head_s, head_s), how)
    if here.encode_s is None and here.name in device.networks:
        head_s = device.networks[here.name].time.si
        how = _measured_on(device, device.networks[here.name], here)
        return DeviceTimes(head_s, None, (head_s, head_s), how)
    roofline = roofline_of(device)
    head_s, around = roofline.seconds(here.head), roofline.seconds_range(here.head)
    if not here.head:  # what sends images has none
        head_s, around = 0.0, (0.0, 0.0)
    if here.encode_s is None:
        return DeviceTimes(head_s, None, around, f"roofline of {device.name}")
    coders = coding_of(device)
    if coders is not None and here.symbols is not None:
        # Head and encoder are one network: what an inference takes, whatever its size, is taken once.
        encoder_s = roofline.seconds(here.encoder) - roofline.overhead_s * bool(here.head)
        how = f"roofline of {device.name}; {here.symbols:,} symbols by its entropy coder"
        return DeviceTimes(head_s, encoder_s + coders[0].seconds(here.symbols), around, how)
    scale = _scale(device, here)
    how = f"roofline of {device.name}; encoder {scale.factor:.3g} times as long as on this host"
    return DeviceTimes(head_s, scale.seconds(here.encode_s), around, how)


def _measured_on(device: Device, measured: Split | Measured, here: HostTimes) -> str:
    other = measured.model is not None and measured.model != here.model
    said = f"; there {here.name!r} was the model {measured.model}, and here it is {here.model}"
    return f"measured on {device.name}{said * other}"


def _symbols(device: DeviceHalf) -> int | None:
    """How many symbols a sample's code has, of a bottleneck that has one."""
    shape = getattr(device.bottleneck, "code_shape", None)
    return None if shape is None else math.prod(shape)


def server_times(device: Device | None, here: HostTimes) -> ServerTimes:
    """The times of a model on a server; on this machine without one.

    Raises:
        HardwareError: the device has no rate, and the model was not measured on it.
        EngineError: a model that runs whole on the device.
    """
    if here.server is None:
        raise EngineError(f"model {here.name!r} runs whole on the device: it has no server's half")
    if device is None:
        return here.server
    if here.name in device.splits and device.splits[here.name].tail is not None:
        table, serving = stages_of(device, here.name), serving_of(device, here.name)
        decode, tail = table.seconds("decode"), table.seconds("tail")
        return ServerTimes(serving, decode / (decode + tail))
    factor = _scale(device, here).factor
    serving = here.server.serving
    return ServerTimes(Serving(factor * serving.fixed_s, factor * serving.each_s), here.server.decode)


def _scale(device: Device, here: HostTimes) -> Scaled:
    """How many times as long as here the whole network takes on a device."""
    return Scaled(roofline_of(device).seconds([*here.head, *here.tail]) / here.network_s)


class _Batches:
    """Times of batches on the server, of 1, 2, 4, .. samples in turn.

    Args:
        server: the half that answers them.
        payloads: that are sent, one after another.
        batch: most samples of a batch.
    """

    def __init__(self, server: ServerHalf, payloads: Sequence[bytes], batch: int) -> None:
        self.sizes = [2**power for power in range(int(math.log2(batch)) + 1)] if batch > 1 else [1]
        self._server, self._payloads = server, payloads
        self._found: dict[int, list[tuple[float, float]]] = {size: [] for size in self.sizes}
        self._number = 0
        for _ in range(_WARM_UP):
            self._answered(1)

    def measure_next(self) -> None:
        """Measure a batch of the next size.

        Raises:
            EngineError: the server refuses it.
        """
        time.sleep(_PAUSE_S)
        size = self.sizes[self._number % len(self.sizes)]
        self._found[size].append(self._answered(size))
        self._number += 1

    def _answered(self, size: int) -> tuple[float, float]:
        """Seconds of decoder and tail for a batch."""
        first = self._number * size
        chosen = [self._payloads[(first + place) % len(self._payloads)] for place in range(size)]
        answer = predict(self._server, [Request(payload) for payload in chosen])[0]
        if isinstance(answer, Refusal):
            name = self._server.spec.name
            raise EngineError(f"model {name!r}: the server refuses a payload: {answer.message}")
        return answer.decode_s, answer.tail_s

    def times(self) -> ServerTimes:
        """A line through the medians of the sizes."""
        seconds, decoding = [], []
        for found in self._found.values():
            decode_s, tail_s = (_median(times) for times in zip(*found, strict=True))
            seconds.append(decode_s + tail_s)
            decoding.append(decode_s / (decode_s + tail_s))
        if len(self.sizes) == 1:
            return ServerTimes(Serving(seconds[0], 0.0), decoding[0])
        each, fixed = (float(value) for value in np.polyfit(self.sizes, seconds, 1))
        if each < 0:
            each, fixed = 0.0, statistics.fmean(seconds)
        if fixed < 0:
            fixed, each = 0.0, statistics.fmean(s / n for s, n in zip(seconds, self.sizes, strict=True))
        return ServerTimes(Serving(fixed, each), statistics.fmean(decoding))


def _timed(run: Callable[[], object]) -> float:
    time.sleep(_PAUSE_S)
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))
