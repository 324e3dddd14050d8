"""A bottleneck that sends next to nothing: its rate went to zero, and with it what the server could know.

At a beta that is too large the rate term wins early, before the code is worth its bits, and training
does not come back from there (as in the Entropic Student's published runs at the largest beta).
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge.split import SplitModel

__all__ = ["collapse_remark"]

#: Samples that are looked at.
SAMPLES = 256
_LEAST_BITS = 1.0  # a sample, on average


@torch.no_grad()
def collapse_remark(name: str, model: SplitModel, inputs: Tensor, level: int | None = None) -> str | None:
    """What to say of a trained model whose payloads tell nothing apart; None where they do.

    It has collapsed if all payloads are the same, or hold less than one bit of information on average.

    Args:
        name: of the method.
        model: trained and frozen.
        inputs: training samples [N, C, H, W], no two of which are known to be the same.
        level: at which they are encoded; the highest by default.
    """
    bottleneck = model.bottleneck
    if bottleneck is None:
        return None
    features = model.head(inputs)
    payloads = bottleneck.encode(features) if level is None else bottleneck.encode_at(features, level)
    bits = sum(map(bottleneck.ideal_bits, payloads)) / len(payloads)
    same = len(payloads) > 1 and len(set(payloads)) == 1
    if not same and bits >= _LEAST_BITS:
        return None
    seen = f"{len(payloads)} training samples give the same payload" if same else "next to nothing is sent"
    cure = "lower its beta" if bottleneck.rate_weighted else "lower its learning rate or train it longer"
    return f"{name} has collapsed: {seen}, {bits:.3g} bits a sample; {cure}"
