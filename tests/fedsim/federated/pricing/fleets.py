"""Clients, links and messages by hand."""

from collections.abc import Sequence

import numpy as np

from edge.link import Direction, LinkSpec
from edge.meter import Event
from fedsim.federated.pricing import Premises
from fedsim.federated.pricing.premises import ClientGroup
from fedsim.hardware.compute import Roofline
from fedsim.hardware.power import DevicePower
from fedsim.hardware.radio import RadioModel
from fedsim.simulator.fleet import ALWAYS_ON, Device, Work
from fedsim.simulator.links import placed

POWER = DevicePower(2.0, 5.0)
RADIO = RadioModel(
    idle_w=0.01,
    promotion_s=0.25,
    promotion_w=1.2,
    active_w=1.3,
    up_w_per_bps=4e-7,
    down_w_per_bps=5e-8,
    tail=((1.0, 1.0), (2.0, 0.5)),
    idle_drx_s=1.28,
)
ROOFLINE = Roofline(overhead_s=0.001, macs_per_s=1e6)
#: 1 Mbit/s up, 2 Mbit/s down, 10 ms and 30 ms; a packet of 1,448 B has 66 B more.
LINK = LinkSpec(Direction(1e6, 0.010), Direction(2e6, 0.030), sharing="processor")


def premises(
    clients: int,
    link: LinkSpec = LINK,
    *,
    radio: RadioModel | None = ALWAYS_ON,
    roofline: Roofline | None = ROOFLINE,
    power: DevicePower | None = POWER,
) -> Premises:
    """Clients of one group."""
    cells, places = placed([(link, clients)])
    one = {"radio": radio or ALWAYS_ON, "power": power or DevicePower(0.0, 0.0)}
    return Premises(
        groups=[ClientGroup(link, roofline)],
        group_of=np.zeros(clients, np.int64),
        devices=[Device(Work(np.zeros(0)), place.up, place.down, **one) for place in places],
        cells=cells,
        powered=power is not None,
        heard=radio is not None,
        notes=[],
    )


def message(stage: str, client: int, frame: int | None, number: int = 1) -> Event:
    """One message."""
    event = Event("run", "m", f"device-{client}", stage, 0.0, 0.0, "measured", round=number)
    return Event(**{**_plain(event), "payload_bytes": frame or 0, "frame_bytes": frame})


def worked(stage: str, seconds: float, client: str = "device-0", number: int = 1) -> Event:
    """A step, or a merge."""
    return Event("run", "m", client, stage, 0.0, seconds, "measured", round=number)


def trained(frames: Sequence[tuple[int, int]], number: int = 1, merge_s: float = 0.0) -> list[Event]:
    """A round: down and up of each client, and the server's work."""
    down = [message("down", client, size, number) for client, (size, _) in enumerate(frames)]
    up = [message("up", client, size, number) for client, (_, size) in enumerate(frames)]
    return [*down, *up, worked("merge", merge_s, "server", number)]


def wire_bits(frame: int, overhead: int = 14) -> float:
    """What a message is on the link."""
    stream = frame + overhead
    return 8.0 * (stream + 66 * -(-stream // 1448))


def _plain(event: Event) -> dict:
    return {name: getattr(event, name) for name in event.__slots__}
