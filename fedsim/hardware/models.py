"""From presets to models: the numbers of a file, in SI units, where a model takes them.

What a file does not have is an error that says so; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, TypeAlias, TypeVar

from edge.link import Direction as LinkDirection
from edge.link import LinkError, LinkSpec, read_trace
from fedsim.errors import HardwareError
from fedsim.hardware.airtime import LoRa, Phase
from fedsim.hardware.battery import Battery
from fedsim.hardware.ble import Ble
from fedsim.hardware.compute import Coding, Roofline, Serving, Table
from fedsim.hardware.library import radio_of_link
from fedsim.hardware.nbiot import NbIot, radio_model_of
from fedsim.hardware.power import DevicePower
from fedsim.hardware.presets import Coder, Device, Direction, Link, Preset, Split
from fedsim.hardware.quantity import Quantity
from fedsim.hardware.radio import RadioModel
from fedsim.hardware.radio_presets import BleRadio, LoRaRadio, NbIotRadio, Radio, StateRadio, TailPhase
from fedsim.hardware.transport import Transport

__all__ = [
    "AnyRadio",
    "any_radio_of",
    "battery_of",
    "ble_of",
    "coding_of",
    "link_of",
    "lora_of",
    "nbiot_of",
    "power_of",
    "radio_of",
    "roofline_of",
    "serving_of",
    "stages_of",
    "table_of",
    "transport_of",
]

#: What a device sends and receives with: what that costs, and of LoRa and BLE how long it takes, too.
AnyRadio: TypeAlias = RadioModel | LoRa | Ble

R = TypeVar("R", StateRadio, LoRaRadio, BleRadio, NbIotRadio)


def roofline_of(device: Device) -> Roofline:
    """How fast a device computes.

    Raises:
        HardwareError: the device has no rate.
    """
    compute = device.compute
    if compute is None:
        told = f" (measured are {', '.join(device.networks)})" if device.networks else ""
        _missing(device, "compute", f"no rate is known of it{told}")
    return Roofline(
        compute.overhead.si,
        compute.rate.si,
        _si(compute.memory_rate),
        macs_per_s_range=compute.rate.si_range,
        layer_s=_si(compute.layer_overhead) or 0.0,
    )


def table_of(device: Device) -> Table:
    """How long networks took on a device.

    Raises:
        HardwareError: nothing was measured on it.
    """
    if not device.networks:
        _missing(device, "networks", "no network was measured on it")
    return Table({name: measured.time.si for name, measured in device.networks.items()})


def coding_of(device: Device) -> tuple[Coding, Coding] | None:
    """How long a device codes and decodes; None where it was not measured."""
    coding = device.coding
    return None if coding is None else (_coding(coding.encode), _coding(coding.decode))


def transport_of(device: Device) -> Transport | None:
    """What gRPC takes between two processes of a device; None where it was not measured."""
    part = device.transport
    return None if part is None else Transport(part.fixed.si, part.per_byte.si)


def stages_of(device: Device, name: str) -> Table:
    """How long the stages of a split network took for one sample: ``head``, ``encode``, ``decode``, ``tail``.

    Those of the server are missing where its half was not measured.

    Raises:
        HardwareError: the split network was not measured on the device.
    """
    split = _split(device, name)
    times = {"head": split.head.si, "encode": split.encode.si}
    times |= {
        key: stage.single.si for key in ("decode", "tail") if (stage := getattr(split, key)) is not None
    }
    return Table(times)


def serving_of(device: Device, name: str) -> Serving:
    """How long a device, as the server, takes to decode a batch of a split network and to run the tail on it.

    Raises:
        HardwareError: the server's half of the split network was not measured on the device.
    """
    split = _split(device, name)
    if split.decode is None or split.tail is None:
        _missing(device, f"splits.{name}.tail", f"the server's half of {name!r} was not measured on it")
    return Serving(split.decode.fixed.si + split.tail.fixed.si, split.decode.each.si + split.tail.each.si)


def power_of(device: Device) -> DevicePower:
    """What a device draws.

    Raises:
        HardwareError: the device has no powers.
    """
    if device.power is None:
        _missing(device, "power", "its powers are not known")
    return DevicePower(device.power.idle.si, device.power.active.si)


def battery_of(device: Device) -> Battery | None:
    """The battery of a device; None for one that hangs on a mains."""
    battery = device.battery
    return None if battery is None else Battery(battery.charge.si * battery.voltage.si)


def radio_of(radio: Radio) -> RadioModel:
    """The state machine of a radio.

    A radio without an idle power of its own has it in the idle power of its device. Where the whole phone
    was measured, the power while active is without what its file calls the baseline.

    Args:
        radio: of kind cellular, wifi, ethernet or nb-iot.

    Raises:
        HardwareError: a radio of another kind.
    """
    if isinstance(radio, NbIotRadio):
        return radio_model_of(nbiot_of(radio))
    found = _of_kind(radio, StateRadio, "cellular, wifi, ethernet or nb-iot")
    active = found.active
    baseline_w = _si(active.baseline) or 0.0
    drx_s, drx_after_s = _drx(found.tail)
    return RadioModel(
        idle_w=_si(found.idle.power) or 0.0,
        promotion_s=0.0 if found.promotion is None else found.promotion.time.si,
        promotion_w=0.0 if found.promotion is None else found.promotion.power.si,
        active_w=active.power.si - baseline_w,
        up_w_per_bps=active.up_per_rate.si,
        down_w_per_bps=active.down_per_rate.si,
        tail=tuple((phase.time.si, phase.power.si) for phase in found.tail),
        idle_drx_s=_si(found.idle.paging) or 0.0,
        active_down_w=None if active.power_down is None else active.power_down.si - baseline_w,
        drx_s=drx_s,
        drx_after_s=drx_after_s,
    )


def _drx(tail: Sequence[TailPhase]) -> tuple[float, float]:
    """The first cycle of a tail of which it is known when it begins, and when that is behind the last bit."""
    passed = 0.0
    for phase in tail:
        if phase.drx is not None and phase.drx_after is not None:
            return phase.drx.si, passed + phase.drx_after.si
        passed += phase.time.si
    return 0.0, 0.0


def any_radio_of(radio: Radio, link: Link) -> AnyRadio:
    """The radio of a device behind a link, whichever kind it is.

    Raises:
        HardwareError: the link does not say a spreading factor, and the radio has several.
    """
    if isinstance(radio, LoRaRadio):
        factor = link.spreading_factor
        return lora_of(radio, None if factor is None else round(factor.si))
    return ble_of(radio) if isinstance(radio, BleRadio) else radio_of(radio)


def lora_of(radio: Radio, spreading_factor: int | None = None) -> LoRa:
    """LoRaWAN at a spreading factor, if not the radio's own.

    Raises:
        HardwareError: a radio of another kind, or without a longest payload at that spreading factor.
    """
    found = _of_kind(radio, LoRaRadio, "lora")
    factor = round(found.spreading_factor.si) if spreading_factor is None else spreading_factor
    longest = [payload for key, payload in found.max_payload.items() if key == f"sf{factor}"]
    if not longest:
        raise HardwareError(
            f"{found.file}: max_payload: has no sf{factor}; there are {', '.join(found.max_payload)}"
        )
    return LoRa(
        spreading_factor=factor,
        duty_cycle=found.duty_cycle.si,
        volts=found.voltage.si,
        transmit_a=found.transmit.si,
        phases=tuple(Phase(phase.name, phase.time.si, phase.current.si) for phase in found.phases),
        bandwidth_hz=found.bandwidth.si,
        coding_rate=round(found.coding_rate.si),
        preamble_symbols=round(found.preamble.si),
        header_bytes=round(found.header.si),
        max_payload_bytes=round(longest[0].si),
        receive_a=found.receive.si,
        sleep_a=(found.sleep or found.idle).si,
    )


def ble_of(radio: Radio) -> Ble:
    """A Bluetooth Low Energy connection.

    Raises:
        HardwareError: a radio of another kind.
    """
    found = _of_kind(radio, BleRadio, "ble")
    return Ble(
        interval_s=found.interval.si,
        volts=found.voltage.si,
        transmit_a=found.transmit.si,
        receive_a=found.receive.si,
        payload_bytes=round(found.payload.si),
        overhead_bytes=round(found.overhead.si),
        reply_bytes=round(found.reply.si),
        bits_per_s=found.rate.si,
        spacing_s=found.spacing.si,
    )


def nbiot_of(radio: Radio) -> NbIot:
    """A device that sleeps between exchanges.

    Raises:
        HardwareError: a radio of another kind.
    """
    found = _of_kind(radio, NbIotRadio, "nb-iot")
    return NbIot(
        up_bps=found.up_rate.si,
        down_bps=found.down_rate.si,
        transmit_w=found.transmit.si,
        receive_w=found.receive.si,
        idle_w=found.idle.si,
        sleep_w=found.sleep.si,
        inactivity_s=found.inactivity.si,
        wake_s=found.wake.time.si,
        wake_w=found.wake.energy.si / found.wake.time.si,
    )


def link_of(link: Link) -> LinkSpec:
    """What a simulator and a relay make of a link.

    A direction without a rate has that of the link's radio, if it is an NB-IoT's. LoRa and BLE have none to
    give (:mod:`fedsim.simulator.lowpower`).

    Raises:
        HardwareError: a trace cannot be read, or the radio is unknown.
    """
    radio = radio_of_link(link)
    up, down = (radio.up_rate, radio.down_rate) if isinstance(radio, NbIotRadio) else (None, None)
    try:
        return LinkSpec(
            _direction(link, link.up, up), _direction(link, link.down, down), sharing=link.sharing
        )
    except LinkError as error:
        raise HardwareError(f"{link.file}: {error}") from None


def _direction(link: Link, one: Direction, of_radio: Quantity | None) -> LinkDirection:
    return LinkDirection(
        rate_bps=_si(one.rate if one.rate is not None or one.trace is not None else of_radio),
        delay_s=_si(one.delay) or 0.0,
        jitter_s=_si(one.jitter) or 0.0,
        loss=_si(one.loss) or 0.0,
        queue_bytes=None if one.queue is None else round(one.queue.si),
        trace=None if one.trace is None else read_trace(link.file.parent / one.trace),
    )


def _coding(coder: Coder) -> Coding:
    return Coding(coder.fixed.si, coder.per_symbol.si)


def _split(device: Device, name: str) -> Split:
    if name not in device.splits:
        told = f" (measured are {', '.join(device.splits)})" if device.splits else ""
        _missing(device, f"splits.{name}", f"the split network {name!r} was not measured on it{told}")
    return device.splits[name]


def _of_kind(radio: Radio, kind: type[R], words: str) -> R:
    if not isinstance(radio, kind):
        raise HardwareError(f"{radio.file}: kind = {radio.kind}: has to be {words} for this use")
    return radio


def _si(quantity: Quantity | None) -> float | None:
    return None if quantity is None else quantity.si


def _missing(preset: Preset, key: str, what: str) -> NoReturn:
    raise HardwareError(
        f"{preset}: {what}: {preset.file} has no {key}; "
        "measure it (fedsim calibrate), or give it in a file of your own"
    )
