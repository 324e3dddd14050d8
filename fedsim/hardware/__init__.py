"""Devices, radios and links: presets with a citation for each number, and the models made of them."""

from fedsim.hardware.library import (
    devices,
    find_device,
    find_link,
    find_radio,
    links,
    radio_of_link,
    radios,
)
from fedsim.hardware.presets import Device, Link, Preset, quantities, unverified
from fedsim.hardware.quantity import Quantity
from fedsim.hardware.radio_presets import Radio

__all__ = [
    "Device",
    "Link",
    "Preset",
    "Quantity",
    "Radio",
    "devices",
    "find_device",
    "find_link",
    "find_radio",
    "links",
    "quantities",
    "radio_of_link",
    "radios",
    "unverified",
]
