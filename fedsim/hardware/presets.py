"""What a device and a link are made of: the schemas of the files that describe them.

Every number is a :class:`~fedsim.hardware.quantity.Quantity`. What a file does not have is None here: it is
for whoever needs the number to say that it is missing, never to guess one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from fedsim.hardware.kinds import (
    BitRate,
    Charge,
    ComputeRate,
    Energy,
    Fraction,
    MemoryRate,
    Period,
    Power,
    Size,
    SpreadingFactor,
    Time,
    Voltage,
    Work,
)
from fedsim.hardware.quantity import Quantity, Text

__all__ = [
    "Batched",
    "Coder",
    "CodingPart",
    "Device",
    "Direction",
    "Link",
    "Measured",
    "Part",
    "Preset",
    "Split",
    "TransportPart",
    "quantities",
    "unverified",
    "values",
]


class Part(BaseModel):
    """Frozen; a key that it does not have is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Preset(Part):
    """What is known of one device, radio or link.

    Args:
        title: one line for people.
        description: what the numbers are of, and what is to be known before they are used.
        sources: citations by name; each quantity names one.
    """

    word: ClassVar[str]  #: what it is, in messages
    title: Text
    description: str = ""
    sources: Mapping[Text, Text] = Field(default_factory=dict)
    _file: Path = PrivateAttr(default=Path())

    @property
    def file(self) -> Path:
        """The file that it was read from."""
        return self._file

    @property
    def name(self) -> str:
        """The stem of its file."""
        return self._file.stem

    def __str__(self) -> str:
        return f"{self.word} {self.name}"


class Compute(Part):
    """Roofline: a fixed overhead of each inference, an arithmetic rate and, where they are known, the rest.

    Args:
        overhead: of an inference, whatever its size.
        layer_overhead: of each of its layers besides; None where that is part of the overhead.
        rate: of arithmetic.
        memory_rate: of what is read and written; None where only arithmetic is modelled.
    """

    overhead: Time
    layer_overhead: Time | None = None
    rate: ComputeRate
    memory_rate: MemoryRate | None = None


class Powers(Part):
    """Of the whole device: on and idle, computing (its idle power included), asleep."""

    idle: Power
    active: Power
    sleep: Power | None = None

    @model_validator(mode="after")
    def _active_is_most(self) -> Self:
        if self.active.si < self.idle.si:
            raise ValueError(
                f"active, {self.active}, includes idle, {self.idle}, and has to be at least as much"
            )
        return self


class BatteryPart(Part):
    """Charge at a nominal voltage."""

    charge: Charge
    voltage: Voltage


class Measured(Part):
    """What one network took on the device, for one sample.

    Args:
        model: id of the model, 16 hex digits, as its bundle has it, where it was one.
        time: of the whole network.
        energy: likewise.
        work: likewise.
    """

    model: Text | None = None
    time: Period
    energy: Energy | None = None
    work: Work | None = None


class Coder(Part):
    """One direction of an entropy coder: what a payload takes, and what each of its symbols adds."""

    fixed: Time
    per_symbol: Time


class CodingPart(Part):
    """The entropy coder in both directions."""

    encode: Coder
    decode: Coder


class TransportPart(Part):
    """Software at both ends of a link: what a message and its reply take, and what each of its bytes adds."""

    fixed: Time
    per_byte: Time


class Batched(Part):
    """A stage of the server: one sample alone (``single``), and a batch of n: ``fixed + n * each``."""

    single: Period
    fixed: Time
    each: Time


class Split(Part):
    """What the stages of a split network took; those of the server may be missing.

    Args:
        model: id of the model, 16 hex digits, as its bundle has it.
        head: for one image.
        encode: from its features to its payload.
        decode: from payloads to features.
        tail: from features to labels.
    """

    model: Text | None = None
    head: Period
    encode: Period
    decode: Batched | None = None
    tail: Batched | None = None


class Device(Preset):
    """A board, phone or server, as it runs networks in one way.

    Args:
        runtime: software, precision and processor that its times are of.
        coding: the entropy coder, which is no matter of the compute rate.
        transport: gRPC, between two processes of it.
        networks: what was measured on it, by network.
        splits: what was measured on it of split networks, by model.
        radios: names of radios that it usually has, or paths of radio files.
        memory: for programs.
    """

    word = "device"
    runtime: str = ""
    compute: Compute | None = None
    power: Powers | None = None
    battery: BatteryPart | None = None
    memory: Size | None = None
    coding: CodingPart | None = None
    transport: TransportPart | None = None
    networks: Mapping[Text, Measured] = Field(default_factory=dict)
    splits: Mapping[Text, Split] = Field(default_factory=dict)
    radios: tuple[Text, ...] = ()


class Direction(Part):
    """One direction of a link: a rate or a trace of it, and what happens on the way.

    Args:
        rate: of bits; None where there is a trace, for a radio that has its own (NB-IoT) or says itself how
            long a payload takes (LoRa, BLE), and for no limit.
        delay: one way.
        jitter: a packet's delay is uniform within ``delay`` +- this.
        loss: probability that a transmission fails; below 1.
        queue: bytes that may wait before the link, of one device.
        trace: a file of rates over time, relative to the link's own, as ``edge.link.read_trace`` reads it.
    """

    rate: BitRate | None = None
    delay: Time | None = None
    jitter: Time | None = None
    loss: Fraction | None = None
    queue: Size | None = None
    trace: Text | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rate is not None and self.trace is not None:
            raise ValueError("has a rate and a trace; has to be one of them")
        if self.jitter is not None and (self.delay is None or self.jitter.si > self.delay.si):
            raise ValueError(f"jitter, {self.jitter}, has to be at most the delay, {self.delay or 'none'}")
        return self


class Link(Preset):
    """What lies between a device and the server.

    Args:
        radio: name or file of the radio at the device's end; None if nothing is to be said of its energy.
        sharing: how devices share it: each has one of its own (``alone``), all at once at equal rates
            (``processor``), one behind the other (``fifo``), or in slots that collide (``slotted``).
        up: from the device to the server.
        down: back.
        spreading_factor: of LoRa, if not the radio's own.
    """

    word = "link"
    radio: Text | None = None
    sharing: Literal["alone", "processor", "fifo", "slotted"] = "alone"
    up: Direction
    down: Direction
    spreading_factor: SpreadingFactor | None = None


def quantities(part: BaseModel) -> Iterator[tuple[str, Quantity]]:
    """Every quantity of a preset with its dotted key, such as ``tail.0.power``, as the file has them."""
    for key, value in values(part):
        if isinstance(value, Quantity):
            yield key, value


def values(part: BaseModel) -> Iterator[tuple[str, object]]:
    """Every value likewise: the quantities, the text, and None for what the preset does not have."""
    for name in type(part).model_fields:
        yield from _within(name, getattr(part, name))


def _within(key: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Quantity):
        yield key, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _within(f"{key}.{name}", getattr(value, name))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _within(f"{key}.{name}", inner)
    elif isinstance(value, tuple):
        for number, inner in enumerate(value):
            yield from _within(f"{key}.{number}", inner)
    else:
        yield key, value


def unverified(preset: Preset, unused: Collection[str] = ()) -> list[str]:
    """A line for people on each number of a preset that nobody has read in its source.

    Args:
        preset: of a device, a radio or a link.
        unused: parts of it that do not matter.
    """
    return [
        f"{preset}: {key} {quantity} is not verified ({_cited(preset, quantity)})"
        for key, quantity in quantities(preset)
        if quantity.verified is False and key.partition(".")[0] not in unused
    ]


def _cited(preset: Preset, quantity: Quantity) -> str:
    """The source, without what its file says of it behind a semicolon, and where in it."""
    source = preset.sources[quantity.source].partition("; ")[0]
    return source if quantity.where is None else f"{source}; {quantity.where}"
