import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge import backbones, bottlenecks
from edge.bottlenecks.gdn import GDN1
from edge.split import count_macs, macs_of
from fedsim.hardware.compute import Layer
from fedsim.hardware.macs import count_layers, layers_of


def test_a_convolution_and_a_product_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(960, 5))
    conv, linear = layers_of(network, (3, 10, 12))
    assert conv == Layer(25_920, 4 * (3 * 120 + 8 * 3 * 9 + 8 * 120), "0.convolution")
    assert linear == Layer(4_800, 4 * (5 + 960 + 960 * 5 + 5), "2.addmm")


def test_another_precision_moves_other_bytes_for_the_same_work() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True))
    floats, bytes_ = layers_of(network, (3, 9, 9)), layers_of(network, (3, 9, 9), item_bytes=1)
    assert [one.macs for one in floats] == [one.macs for one in bytes_]
    assert [one.bytes for one in floats] == [4 * one.bytes for one in bytes_]
    doubles = layers_of(network.double(), (3, 9, 9))
    assert [one.bytes for one in doubles] == [8 * one.bytes for one in bytes_]
    with pytest.raises(ValueError, match="item_bytes is 0"):
        layers_of(network, (3, 9, 9), item_bytes=0)


def test_what_only_moves_bytes_is_a_layer_and_a_view_is_none() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.ReLU(inplace=True), nn.Dropout())
    one, other = layers_of(network, (6, 5))
    assert one == Layer(0, 2 * 4 * 30, "0.relu")
    assert other == Layer(0, 2 * 4 * 30, "2.relu_")


@pytest.mark.parametrize("inference", [False, True])
def test_layers_add_up_to_the_published_count(inference: bool) -> None:
    network = backbones.create("resnet18-32")
    with torch.inference_mode(inference):
        layers = layers_of(network, (3, 32, 32))
    assert sum(one.macs for one in layers) == macs_of(network, (3, 32, 32)) == 555_422_720
    weights = 4 * sum(p.numel() for p in network.parameters())
    assert weights < sum(one.bytes for one in layers) < 2 * weights
    assert "layer1.0.conv1" in {one.name.rpartition(".")[0] for one in layers}


def test_attention_is_counted_as_it_is_in_whole() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    layers = layers_of(layer, (5, 8))
    assert sum(one.macs for one in layers) == 5 * 8 * 24 + 5 * 8 * 8 + 2 * 5 * 8 * 16 + 2 * 5 * 5 * 8
    assert layer.training


def test_a_convolution_that_no_module_holds_counts() -> None:
    """The GDN of a published encoder is 21 % of its head, which counters by module hooks miss."""
    (gamma,) = [one for one in layers_of(GDN1(96), (96, 16, 16)) if one.macs]
    assert gamma.macs == 96 * 96 * 16 * 16
    head = nn.Sequential(
        nn.Conv2d(3, 96, 5, 2, 2, bias=False),
        GDN1(96),
        nn.Conv2d(96, 48, 5, 2, 2, bias=False),
        GDN1(48),
        nn.Conv2d(48, 24, 2, bias=False),
    )
    layers = layers_of(head, (3, 32, 32))
    hooked = 75 * 96 * 16**2 + 25 * 96 * 48 * 8**2 + 4 * 48 * 24 * 7**2
    total = hooked + 96**2 * 16**2 + 48**2 * 8**2
    assert sum(one.macs for one in layers) == macs_of(head, (3, 32, 32)) == total == 11_948_544
    assert sum(one.macs for one in layers if one.name.partition(".")[0] in {"0", "2", "4"}) == hooked
    assert 1 - hooked / total == pytest.approx(0.21, abs=5e-3)


def test_an_encoder_is_counted_while_it_makes_its_payload() -> None:
    bottleneck = bottlenecks.create("bottlefit", (6, 8, 8), channels=4, widths=(8, 8))
    features = torch.rand(1, 6, 8, 8)
    bottleneck.observe(features)  # the range of its quantiser
    bottleneck.eval().freeze()
    payloads, layers = count_layers(lambda: bottleneck.encode(features))
    assert payloads == bottleneck.encode(features)
    macs = sum(one.macs for one in layers)
    assert macs == count_macs(lambda: bottleneck.encode(features))[1] > 0


class Doubled(nn.Module):
    """Two calls of one functional operator: names tell apart where, not which."""

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.ones(4, 4)
        return F.linear(F.linear(x, weight), weight)


def test_functions_are_named_after_the_module_that_calls_them() -> None:
    layers = [one for one in layers_of(nn.Sequential(Doubled()), (4,)) if one.macs]
    assert [one.name for one in layers] == ["0.mm", "0.mm"]
    assert [one.macs for one in layers] == [16, 16]
