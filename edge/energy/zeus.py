"""GPUs, and boards whose rails are not read here, through Zeus (https://ml.energy/zeus, Apache-2.0).

Zeus is the optional extra ``energy``, and is imported when meters are looked for. NVIDIA's counter (NVML,
``nvmlDeviceGetTotalEnergyConsumption``, since Volta) moves every 20 to 100 ms.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import time
import warnings
from typing import Any

from edge.energy.meter import Meter, Reading, Source, What, periods_needed

__all__ = ["ZeusMeter", "find"]

_PERIOD_S = 0.1
_GET = "pip install 'fedsim[energy]'"
_windows = itertools.count()


class ZeusMeter:
    """One GPU, or the whole board, as a ``ZeusMonitor`` measures it.

    Work that was given to a GPU before is waited for at either end of a window, as Zeus does it.

    Args:
        monitor: a ``zeus.monitor.ZeusMonitor``; may serve several meters.
        gpu: number of the GPU in ``CUDA_VISIBLE_DEVICES``; None for the board.
    """

    def __init__(self, monitor: Any, gpu: int | None) -> None:
        self.name = "zeus-soc" if gpu is None else f"gpu-{gpu}"
        self.what: What = "soc" if gpu is None else "gpu"
        self._monitor = monitor
        self._gpu = gpu
        self._window: str | None = None
        self._began = 0.0
        self._fault: str | None = None

    def start(self) -> None:
        """Begin a window."""
        if self._window is not None:
            raise RuntimeError(f"{self.name} measures a window already")
        self._window, self._began, self._fault = f"{self.name}-{next(_windows)}", time.monotonic(), None
        try:
            self._monitor.begin_window(self._window, sync_execution=_computes_on_cuda())
        except Exception as error:  # whatever a driver may raise
            self._fault = f"Zeus: {type(error).__name__}: {error}"

    def stop(self) -> Reading:
        """End the window."""
        if self._window is None:
            raise RuntimeError(f"{self.name} measures no window: start() comes first")
        window, self._window = self._window, None
        if self._fault is not None:
            return Reading.unavailable(time.monotonic() - self._began, self._fault)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of an energy of 0, which is told below
                measured = self._monitor.end_window(window, sync_execution=_computes_on_cuda())
        except Exception as error:  # whatever a driver may raise
            return Reading.unavailable(
                time.monotonic() - self._began, f"Zeus: {type(error).__name__}: {error}"
            )
        if self._gpu is None:
            millijoules = getattr(measured.soc_energy, "total_energy_mj", None)
            joules = None if millijoules is None else millijoules / 1e3
        else:
            joules = measured.gpu_energy.get(self._gpu)
        if joules is None:
            return Reading.unavailable(measured.time, f"Zeus has no energy of {self.name}")
        if joules <= 0 or measured.time < _PERIOD_S:
            return Reading.unavailable(measured.time, periods_needed(measured.time, _PERIOD_S))
        return Reading.measured(float(joules), measured.time, f"Zeus, {self.name}")


def _computes_on_cuda() -> bool:
    """Whether there is something to wait for; Zeus raises where torch has no CUDA."""
    import torch  # noqa: PLC0415  (a log can be read without)

    return torch.cuda.is_available()


def _soc_metrics(monitor: Any) -> set[str]:
    """What Zeus can measure of the board that it runs on; empty where it knows of none."""
    return set(monitor.soc.get_available_metrics()) if getattr(monitor, "soc_is_present", False) else set()


def find() -> Source:
    """The GPUs that Zeus sees, and the board where it can measure one."""
    if importlib.util.find_spec("zeus") is None:
        return Source("zeus", "no", (), f"Zeus is not installed: {_GET}")
    try:
        # Packages are read from powercap, so that Zeus starts no process for their counters.
        monitor = importlib.import_module("zeus.monitor").ZeusMonitor(cpu_indices=[])
        meters: list[Meter] = [ZeusMeter(monitor, gpu) for gpu in monitor.gpu_indices]
        if "total_energy_mj" in _soc_metrics(monitor):
            meters.append(ZeusMeter(monitor, None))
    except Exception as error:  # whatever a driver may raise
        return Source("zeus", "no", (), f"Zeus: {type(error).__name__}: {error}")
    if not meters:
        return Source("zeus", "no", (), "Zeus finds no GPU and no board that it can measure")
    return Source("zeus", "yes", tuple(meters), ", ".join(meter.name for meter in meters))
