"""Links: what one is, bandwidth traces, and what emulates one in wall time.

A relay, which needs no privileges::

    python -m edge.link --listen 127.0.0.1:0 --to 127.0.0.1:50051 --spec link.json

or the kernel's own shaping of an interface::

    python -m edge.link --interface eth0 --spec link.json
"""

from edge.link.errors import LinkError
from edge.link.spec import Direction, LinkSpec, Sharing, slotted_efficiency
from edge.link.trace import Trace, markov_trace
from edge.link.trace_files import read_trace

__all__ = [
    "Direction",
    "LinkError",
    "LinkSpec",
    "Sharing",
    "Trace",
    "markov_trace",
    "read_trace",
    "slotted_efficiency",
]
