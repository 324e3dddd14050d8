"""A sysfs of files, written as the kernel would write them."""

import contextlib
import os

NOBODY = 65534
RANGE_UJ = 262_143_328_850  # of a current package


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{value}\n")


def zone(root, number, name, energy_uj=0, range_uj=RANGE_UJ, folder="class/powercap"):
    """A zone of powercap; returns the file of its counter."""
    place = root / folder / number
    write(place / "name", name)
    write(place / "max_energy_range_uj", range_uj)
    write(place / "energy_uj", energy_uj)
    return place / "energy_uj"


def hwmon_rail(root, number, label, millivolts, milliamperes, driver="ina3221", place="1-0040/hwmon/hwmon3"):
    folder = root / "bus/i2c/drivers" / driver / place
    write(folder / f"in{number}_label", label)
    write(folder / f"in{number}_input", millivolts)
    write(folder / f"curr{number}_input", milliamperes)
    return folder


def iio_rail(root, number, label, milliwatts):
    folder = root / "bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    write(folder / f"rail_name_{number}", label)
    write(folder / f"in_power{number}_input", milliwatts)
    return folder


@contextlib.contextmanager
def an_ordinary_user():
    """Work as somebody who may not read what only root may, whoever runs the tests."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
