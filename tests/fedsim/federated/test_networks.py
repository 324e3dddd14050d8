import pytest
import torch
from torch import nn

from fedsim.errors import ModelError
from fedsim.federated.networks import SplitEncoder, prototype_network


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


def test_a_hidden_layer_belongs_to_the_encoder():
    network = prototype_network("fedavg-cnn", {"widths": [2, 3], "features": 5, "size": 8}, (1, 8, 8), 6)
    assert network.dimension == 5
    assert network.features(torch.rand(4, 1, 8, 8)).min() >= 0


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


DIGITS = ("digits-cnn", {"widths": [4, 8, 8]}, (1, 8, 8), 6)
FACTORIZED = {"name": "factorized", "channels": 3}


def split(dimension=5, layer="stage2", **bottleneck):
    torch.manual_seed(0)
    return prototype_network(*DIGITS, dimension, layer=layer, bottleneck={**FACTORIZED, **bottleneck})


def test_a_split_network_sees_what_crosses_its_cut():
    network = split().eval()
    encoder = network.encoder
    assert isinstance(encoder, SplitEncoder)
    images = torch.rand(3, 1, 8, 8)
    encoder.bottleneck.freeze()
    payloads = encoder.bottleneck.encode(encoder.head(images))
    received = encoder.tail(encoder.bottleneck.decode(payloads)).flatten(1)
    assert torch.allclose(network.features(images), network.adapter(received), atol=1e-5)
    assert [m for m in encoder.tail.modules() if isinstance(m, nn.Linear)] == []


def test_the_rate_of_a_bottleneck_is_weighed_by_beta():
    images = torch.rand(3, 1, 8, 8)
    costs = []
    for beta in (0.0, 0.5, 1.0):
        network = split(beta=beta).train()
        torch.manual_seed(1)
        features, cost = network.weighed(images)
        assert features.shape == (3, 5)
        costs.append(float(cost.detach()))
    assert costs[0] == 0
    assert costs[2] == pytest.approx(2 * costs[1])
    assert costs[1] > 1
    torch.manual_seed(1)
    bits = network.encoder.bottleneck(network.encoder.head(images))[1]
    assert costs[2] == pytest.approx(float(bits.mean().detach()), rel=1e-5)


def test_training_reaches_the_head_through_the_bottleneck():
    network = split().train()
    network(torch.rand(3, 1, 8, 8)).sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in network.encoder.head.parameters())


@pytest.mark.parametrize(
    ("layer", "bottleneck", "said"),
    [
        ("stage9", FACTORIZED, "has no layer 'stage9'"),
        ("stage2", {"name": "nothing"}, "nothing"),
        ("stage2", {"channels": 3}, "needs its name"),
        ("stage2", {**FACTORIZED, "chanels": 3}, "chanels"),
        ("stage2", {"name": "png"}, "reads images"),
        ("stage2", {"name": "bottlefit"}, "no range yet"),
        ("stage2", None, "go together"),
        (None, FACTORIZED, "go together"),
    ],
)
def test_a_bottleneck_that_cannot_be(layer, bottleneck, said):
    with pytest.raises(ModelError, match=said):
        prototype_network(*DIGITS, layer=layer, bottleneck=bottleneck)
