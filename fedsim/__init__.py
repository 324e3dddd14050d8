"""Simulation, federation and measurement of networks split between small devices and a server."""

from edge import __version__

__all__ = ["__version__"]
