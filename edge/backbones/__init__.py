"""Networks by name.

Every network takes images [N, C, H, W] with values 0..1 and returns logits [N, classes]; the
normalisation is its own first layer, ``normalise``. Names are our own small networks,
``torchvision:NAME`` and ``timm:NAME`` where those packages can be imported, and
``package.module:factory`` for a callable that returns an ``nn.Module``.
"""

from edge.backbones import resnets, small
from edge.backbones.normalise import Normalise
from edge.backbones.registry import available, create, register, skeleton

__all__ = ["Normalise", "available", "create", "register", "resnets", "skeleton", "small"]
