import pytest
import torch
from torch import nn

from fedsim.errors import ModelError
from fedsim.federated.networks import prototype_network


@pytest.mark.parametrize(
    ("backbone", "arguments", "shape", "width"),
    [
        ("digits-cnn", {"widths": [4, 8, 8]}, (1, 8, 8), 32),
        ("resnet-cifar", {"depth": 8, "width": 4}, (3, 32, 32), 16),
        ("protonet-conv4", {"width": 8}, (1, 28, 28), 8),
        ("protonet-conv4", {"width": 8, "classes": 7}, (1, 28, 28), 8),
        ("resnet18-32", {"width": 4}, (3, 32, 32), 32),
    ],
)
@pytest.mark.parametrize("dimension", [None, 5])
def test_any_backbone_has_a_prototype_space(backbone, arguments, shape, width, dimension):
    network = prototype_network(backbone, arguments, shape, 6, dimension).eval()
    assert network.dimension == (dimension or width)
    images = torch.rand(3, *shape)
    features = network.features(images)
    assert features.shape == (3, dimension or width)
    assert torch.equal(network(images), network.head(features))
    assert network(images).shape == (3, 6)
    assert isinstance(network.adapter, nn.Identity if dimension is None else nn.Linear)
    linear = [m for m in network.encoder.modules() if isinstance(m, nn.Linear)]
    assert linear == []  # the backbone's own classifier is gone


@pytest.mark.parametrize(
    ("backbone", "arguments", "shape", "said"),
    [
        ("nothing", {}, (1, 8, 8), "nothing"),
        ("digits-cnn", {"depth": 3}, (1, 8, 8), "depth"),
        ("digits-cnn", {}, (3, 8, 8), "backbone 'digits-cnn'"),
    ],
)
def test_a_backbone_that_cannot_be(backbone, arguments, shape, said):
    with pytest.raises(ModelError, match=said):
        prototype_network(backbone, arguments, shape, 6)
