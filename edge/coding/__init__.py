"""Integer frequency tables, the entropy coder on them, and the frame in which a payload travels."""

from edge.coding.entropy import CodingError, EntropyCoder, SymbolReader, SymbolWriter
from edge.coding.frame import PROTOCOL, FrameError, Handshake, check_sample, checksum
from edge.coding.tables import PRECISION, FrequencyTables

__all__ = [
    "PRECISION",
    "PROTOCOL",
    "CodingError",
    "EntropyCoder",
    "FrameError",
    "FrequencyTables",
    "Handshake",
    "SymbolReader",
    "SymbolWriter",
    "check_sample",
    "checksum",
]
