"""What radios are made of: a schema for each kind of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import model_validator

from fedsim.hardware.kinds import (
    BitRate,
    CodingRate,
    Count,
    Current,
    Energy,
    Frequency,
    Period,
    Power,
    PowerPerRate,
    Share,
    Size,
    SpreadingFactor,
    Time,
    Voltage,
)
from fedsim.hardware.presets import Part, Preset
from fedsim.hardware.quantity import Text

__all__ = ["RADIOS", "BleRadio", "LoRaRadio", "NbIotRadio", "Radio", "StateRadio"]


class Idle(Part):
    """Nothing to transfer: mean power, and the period at which the radio listens for a page."""

    power: Power | None = None
    paging: Time | None = None


class Promotion(Part):
    """From idle to active."""

    time: Time
    power: Power


class Active(Part):
    """While bits flow: power at rate 0, and what each bit/s adds.

    Args:
        power: when sending.
        power_down: when receiving; None if it is the same.
        baseline: what both powers hold that is not the radio's (the rest of the phone) and is taken off.
        up_per_rate: more for each bit/s that it sends.
        down_per_rate: more for each bit/s that it receives.
    """

    power: Power
    power_down: Power | None = None
    baseline: Power | None = None
    up_per_rate: PowerPerRate
    down_per_rate: PowerPerRate

    @model_validator(mode="after")
    def _baseline_is_least(self) -> Self:
        for power in (self.power, self.power_down or self.power):
            if self.baseline is not None and self.baseline.si > power.si:
                raise ValueError(f"baseline, {self.baseline}, is held in power and cannot be above it")
        return self


class TailPhase(Part):
    """A phase after the last bit.

    Args:
        time: how long.
        power: in the mean.
        drx: cycle of discontinuous reception, whose listening is in the power.
        drx_after: when that begins, from the beginning of the phase; None where nobody says so, and then what
            the server sends does not wait for it.
    """

    time: Time
    power: Power
    drx: Period | None = None
    drx_after: Time | None = None

    @model_validator(mode="after")
    def _of_a_cycle(self) -> Self:
        if self.drx is None and self.drx_after is not None:
            raise ValueError("has drx_after, and no drx that begins then")
        return self


class StateRadio(Preset):
    """A radio by states: idle, promotion, active, tail."""

    word = "radio"
    kind: Literal["cellular", "wifi", "ethernet"]
    idle: Idle = Idle()
    promotion: Promotion | None = None
    active: Active
    tail: tuple[TailPhase, ...] = ()


class Phase(Part):
    """What a LoRa module does around one transmission."""

    name: Text
    time: Time
    current: Current


class LoRaRadio(Preset):
    """LoRaWAN, class A.

    Args:
        spreading_factor: where a link names none.
        coding_rate: 1 to 4, for 4/5 to 4/8.
        max_payload: most bytes of an application in a frame, by spreading factor (keys ``sf7`` to ``sf12``).
        header: bytes that a frame adds to them.
        duty_cycle: share of the time that it may transmit.
        phases: what each uplink takes beside its time on air.
    """

    word = "radio"
    kind: Literal["lora"]
    spreading_factor: SpreadingFactor
    bandwidth: Frequency
    coding_rate: CodingRate
    preamble: Count
    header: Size
    max_payload: Mapping[Literal["sf7", "sf8", "sf9", "sf10", "sf11", "sf12"], Size]
    duty_cycle: Share
    voltage: Voltage
    transmit: Current
    receive: Current
    idle: Current
    sleep: Current | None = None
    phases: tuple[Phase, ...] = ()


class BleRadio(Preset):
    """Bluetooth Low Energy, in a connection.

    Args:
        interval: from one connection event to the next.
        rate: of the physical layer.
        payload: of the application in one packet.
        overhead: bytes that a packet adds to them.
        reply: the whole of an empty packet, with which each is answered.
        spacing: between two packets.
        computing: current of sending with the processor on; None if it was not measured.
    """

    word = "radio"
    kind: Literal["ble"]
    interval: Period
    rate: BitRate
    payload: Size
    overhead: Size
    reply: Size
    spacing: Time
    voltage: Voltage
    transmit: Current
    receive: Current
    computing: Current | None = None


class Wake(Part):
    """From sleep until bits can flow."""

    time: Period
    energy: Energy


class Exchange(Part):
    """What one exchange took as a whole, waking included: what the model of it is held against."""

    up: Size
    down: Size
    time: Period
    energy: Energy


class NbIotRadio(Preset):
    """NB-IoT: awake for as long as it transfers and the inactivity timer runs, then asleep (PSM)."""

    word = "radio"
    kind: Literal["nb-iot"]
    up_rate: BitRate
    down_rate: BitRate
    transmit: Power
    receive: Power
    idle: Power
    sleep: Power
    inactivity: Time
    drx: Period | None = None
    wake: Wake
    exchange: Exchange | None = None


Radio = StateRadio | LoRaRadio | BleRadio | NbIotRadio
#: What a radio file is, by its key ``kind``.
RADIOS: Final[Mapping[str, type[Radio]]] = {
    "cellular": StateRadio,
    "wifi": StateRadio,
    "ethernet": StateRadio,
    "lora": LoRaRadio,
    "ble": BleRadio,
    "nb-iot": NbIotRadio,
}
