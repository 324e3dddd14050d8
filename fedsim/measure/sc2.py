"""The data size that the SC2 literature prints, so that our figures can be set beside published ones.

Entropic Student (WACV 2022), BottleFit and the SC2 benchmark report
``sys.getsizeof(pickle.dumps({"strings": [[payload]], "shape": torch.Size([h, w])})) / 1024``
(torchdistill, ``get_binary_object_size``): the payload, the pickle around it, and the header of a
CPython bytes object. It is not what crosses a network; ``payload_bytes`` and ``wire_bytes`` are.
"""

from __future__ import annotations

__all__ = ["sc2_kilobytes"]

#: Payload sizes at which pickle's framing of a bytes object grows, with the constant from there on:
#: one length byte, four length bytes, and a pickle frame of its own (protocols 4 and 5).
_CONSTANTS = ((65_484, 115), (256, 106), (0, 103))


def sc2_kilobytes(payload_bytes: int) -> float:
    """Size in KiB (1024 bytes) as SC2 counts it, of one entropy-coded sample of ``payload_bytes``.

    Holds for one payload of a latent whose height and width are each below 256.

    Raises:
        ValueError: a negative size.
    """
    if payload_bytes < 0:
        raise ValueError(f"payload of {payload_bytes} bytes: expected 0 or more")
    constant = next(extra for least, extra in _CONSTANTS if payload_bytes >= least)
    return (payload_bytes + constant) / 1024
