"""What the machine has: cores, memory, accelerators, energy meters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from edge.energy.discovery import SYSFS, sources
from fedsim.doctor.finding import Finding

__all__ = ["cores", "cuda", "memory", "meters", "mps"]

_GIB = 2**30
#: Control group version 2 of this process, as it sees it in a container.
_CGROUP = Path("/sys/fs/cgroup")
_METERS = {
    "powercap": (
        "energy of processor and memory: measured, package and dram",
        "an x86 machine that is not virtual; root, or the right to read each energy_uj (docs/energy.md)",
    ),
    "ina3221": ("energy of a Jetson board: measured", "a Jetson that has a rail of the whole board"),
    "zeus": ("energy of GPUs: measured", "a GPU with its driver, and pip install 'fedsim[energy]'"),
}


def cores() -> list[Finding]:
    """How many processors this process may use."""
    all_of_them = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else all_of_them
    told = f"{usable} of {all_of_them} usable"
    quota, _, period = _limit("cpu.max").partition(" ")
    if quota.isdecimal() and period.isdecimal():
        told += f", for {int(quota) / int(period):.3g} of a core's time (control group)"
    return [Finding("cores", "yes", told, "sweeps use all of them", "sweep --jobs N uses fewer")]


def memory() -> list[Finding]:
    """How much memory there is."""
    told = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GIB:.1f} GiB"
    limit = _limit("memory.max")
    if limit.isdecimal():
        told += f", of which {int(limit) / _GIB:.1f} GiB may be used (control group)"
    needed = "0.3 GiB for each device process of a run"
    return [Finding("memory", "yes", told, needed, "fewer devices, or sweep --jobs N")]


def _limit(name: str) -> str:
    try:
        return (_CGROUP / name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def cuda() -> list[Finding]:
    """NVIDIA and AMD GPUs that torch can compute on."""
    import torch  # noqa: PLC0415  (slow to import: only when it is this probe's turn)

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    usable = torch.cuda.is_available()
    told = ", ".join(names) if usable else f"torch {torch.__version__} finds none"
    remedy = "a GPU with its driver, and a build of torch for it"
    return [Finding("cuda", "yes" if usable else "no", told, "faster training", remedy)]


def mps() -> list[Finding]:
    """The GPU of an Apple computer."""
    import torch  # noqa: PLC0415

    usable = torch.backends.mps.is_available()
    told = "the GPU of this Apple computer" if usable else "torch finds none"
    return [
        Finding(
            "mps",
            "yes" if usable else "no",
            told,
            "nothing: fedsim computes on CPU or CUDA",
            "Apple silicon",
        )
    ]


def meters(roots: Sequence[Path] = SYSFS) -> list[Finding]:
    """What measures energy here, one line for each way of doing it."""
    return [Finding(s.name, s.state, s.detail, *_METERS[s.name]) for s in sources(roots)]
