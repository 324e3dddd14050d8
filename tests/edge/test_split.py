import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edge import backbones
from edge.bottlenecks import create
from edge.split import CutError, SplitModel, count_macs, cut, cuttable, macs_of, parameters_of

NETWORKS = {
    "digits-cnn": ({"widths": (4, 6, 8)}, (1, 8, 8)),
    "protonet-conv4": ({"classes": 5, "width": 8}, (1, 28, 28)),
    "resnet18-32": ({"width": 4}, (3, 16, 16)),
}


def network_of(name, seed=0):
    torch.manual_seed(seed)
    arguments, shape = NETWORKS[name]
    network = backbones.create(name, **arguments)
    images = torch.rand(3, *shape)
    network(images)  # moves the running statistics of batch normalisation off their start
    return network.eval(), images


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_tail_of_head_is_the_network_at_every_layer(name):
    network, images = network_of(name)
    logits = network(images)
    places = cuttable(network)
    assert len(places) > 20
    total = parameters_of(network)
    for at in places:
        head, tail = cut(network, at)
        assert torch.equal(tail(head(images)), logits), at
        assert parameters_of(head) + parameters_of(tail) == total, at
        whole = network.state_dict()
        for half in (head, tail):
            for key, value in half.state_dict().items():
                assert value.data_ptr() == whole[key].data_ptr(), (at, key)


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_that_are_not_listed_are_refused(name):
    network, _ = network_of(name)
    others = {layer for layer, _ in network.named_modules()} - set(cuttable(network))
    assert "" in others
    for at in sorted(others)[:: max(1, len(others) // 6)]:
        with pytest.raises(CutError, match="cut at input, normalise"):
            cut(network, at)


def test_training_through_the_halves_is_training_the_network():
    network, images = network_of("resnet18-32")
    network.train()
    twin = copy.deepcopy(network)
    head, tail = cut(twin, "layer2.0")
    for run in (network, lambda x: tail(head(x))):
        F.cross_entropy(run(images), torch.tensor([0, 1, 2])).backward()
    for (name, one), (_, other) in zip(network.named_parameters(), twin.named_parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name
    for (name, one), (_, other) in zip(network.named_buffers(), twin.named_buffers(), strict=True):
        assert torch.equal(one, other), name


def test_modes_are_kept_part_by_part_and_follow_the_halves():
    network, images = network_of("digits-cnn")
    network.train()
    network.stage1.bn1.eval()
    head, tail = cut(network, "stage2.conv1")
    assert head.training
    assert not head.get_submodule("stage1").bn1.training
    assert tail.get_submodule("stage2.bn1").training
    before = network.stage2.bn1.running_mean.clone()
    tail.eval()(head.eval()(images))
    assert torch.equal(before, network.stage2.bn1.running_mean)
    tail.train()(head.train()(images))
    assert not torch.equal(before, network.stage2.bn1.running_mean)


@torch.no_grad()
def test_entry_ahead_of_the_cut_leaves_out_what_lies_between():
    network, images = network_of("resnet18-32")
    head, tail = cut(network, "layer1", entry="input")
    assert isinstance(head, nn.Identity)
    assert tail(torch.rand(3, 4, 16, 16)).shape == (3, 10)
    head, tail = cut(network, "layer2", entry="layer1.0")
    assert head(images).shape == (3, 4, 16, 16)
    assert torch.equal(tail(cut(network, "layer2")[0](images)), network(images))
    owned = [*head.state_dict(), *tail.state_dict()]
    assert not any(key.startswith(("layer1.1", "layer2")) for key in owned)
    head, tail = cut(network, "output", entry="layer4")
    assert head(images).shape == (3, 32, 2, 2)
    assert isinstance(tail, nn.Identity)


@pytest.mark.parametrize(
    ("at", "entry"), [("layer1", "layer2"), ("input", "layer1"), ("layer1", "output"), ("input", "output")]
)
def test_entry_behind_the_cut(at, entry):
    with pytest.raises(CutError, match=f"'{entry}' does not lie ahead of the cut at '{at}'"):
        cut(network_of("resnet18-32")[0], at, entry=entry)


@pytest.mark.parametrize(
    ("at", "entry", "said"),
    [
        (
            "stage2",
            "stage2.conv1",
            r"entry 'stage2\.conv1' lies inside the layer at the cut, 'stage2'; name a",
        ),
        (
            "stage2",
            "stage2.relu2",
            r"entry 'stage2\.relu2' lies inside the layer at the cut, 'stage2'; name a",
        ),
        ("stage2.conv1", "stage2", r"the cut at 'stage2\.conv1' lies inside the layer at entry, 'stage2'"),
    ],
)
def test_entry_and_cut_of_which_one_encloses_the_other(at, entry, said):
    with pytest.raises(CutError, match=said + ".*; it can be cut at input, normalise, stage1"):
        cut(network_of("digits-cnn")[0], at, entry=entry)


def test_misspelt_layer_gets_the_nearest_names_first():
    with pytest.raises(
        CutError, match=r"no layer 'stgae1' \(did you mean stage1 .*cut at input, normalise, stage1.conv1"
    ):
        cut(network_of("digits-cnn")[0], "stgae1")


def test_skip_connection_around_the_cut_is_named():
    with pytest.raises(
        CutError, match=r"more than one value crosses the cut: besides it the output of 'layer1\.0'"
    ):
        cut(network_of("resnet18-32")[0], "layer1.1.conv1")


class Odd(nn.Module):
    """Everything that a forward can do to make a cut hard."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.twice = nn.Linear(4, 4)
        self.never = nn.Linear(4, 4)
        self.pair = nn.LSTM(4, 4, batch_first=True)
        self.act = nn.ReLU(inplace=True)
        self.alias = self.act
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.last = nn.Linear(4, 2)

    def forward(self, x, shift=None, noisy=False):
        y = self.first(x)
        if shift is not None:
            y = y + shift
        if noisy:
            y = y + torch.rand_like(y)
        y = self.act(y) * self.scale + torch.ones(4)
        y = self.twice(self.twice(y))
        y, _ = self.pair(y[:, None])
        return self.last(y[:, 0]) * self.scale


@torch.no_grad()
def test_parameters_constants_and_optional_arguments_of_a_forward():
    network = Odd().eval()
    x = torch.randn(3, 4)
    attributes = set(vars(network))
    for at in ("first", "last"):
        head, tail = cut(network, at)
        assert torch.equal(tail(head(x)), network(x))
    assert "scale" in dict(cut(network, "last")[1].named_parameters())
    assert cuttable(network) == ["input", "first", "last", "output"]
    assert set(vars(network)) == attributes


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        ("twice", "not called exactly once"),
        ("never", "not called exactly once"),
        ("pair", "for one value"),
        ("act", "shared, as act, alias"),
    ],
)
def test_layers_that_do_not_give_one_value_once(at, reason):
    with pytest.raises(CutError, match=rf"at '{at}'.*{reason}.*cut at input, first, last, output"):
        cut(Odd(), at)


def test_tail_does_not_overwrite_the_features_it_is_given():
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2)))
    head, tail = cut(network, "0")
    features = head(torch.randn(8, 4))
    kept = features.clone()
    tail(features)
    assert torch.equal(features, kept)


class Branching(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.layer, self.last = kind, nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = self.layer(x)
        if self.kind == "value" and x.sum() > 0:
            x = -x
        if self.kind == "mode":
            x = F.dropout(x, 0.5, training=self.training)
        if self.kind == "in place":
            x.relu_()
        return self.last(x)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("value", "torch.fx cannot trace it"),
        ("mode", "differs between training and evaluation"),
        ("in place", "works in place"),
    ],
)
def test_forward_that_cannot_be_followed(kind, reason):
    network = Branching(kind)
    with pytest.raises(CutError, match=f"cannot cut Branching at 'layer': .*{reason}.*cut at input, output"):
        cut(network, "layer")
    inside = nn.Sequential(
        network, nn.Linear(2, 2)
    )  # a module that need not be looked into may do as it likes
    if kind != "mode":
        head, tail = cut(inside, "0")
        x = torch.randn(3, 4)
        assert torch.equal(tail(head(x)), inside(x))


def test_macs_and_parameters_by_hand():
    conv = nn.Conv2d(3, 8, 3, padding=1)
    assert parameters_of(conv) == 8 * 3 * 9 + 8
    assert macs_of(conv, (3, 10, 12)) == 8 * 3 * 9 * 10 * 12
    assert macs_of(nn.Sequential(conv, nn.Flatten(), nn.Linear(960, 5)), (3, 10, 12)) == 25920 + 960 * 5
    assert macs_of(nn.Identity(), (3, 10, 12)) == parameters_of(nn.Identity()) == 0


def test_macs_of_published_networks():
    # 555 million is the customary count of the CIFAR ResNet-18, without its biases and additions.
    assert macs_of(backbones.create("resnet18-32"), (3, 32, 32)) == 555_422_720


def test_macs_count_attention_and_leave_the_module_as_it_was():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    layer.self_attn.eval()
    assert macs_of(layer, (5, 8)) == 5 * 8 * 24 + 5 * 8 * 8 + 2 * 5 * 8 * 16 + 2 * 5 * 5 * 8
    assert layer.training
    assert not layer.self_attn.training
    norm = nn.BatchNorm1d(4)
    macs_of(norm, (4,))
    assert norm.num_batches_tracked == 0


def test_count_macs_returns_the_result_and_counts_under_inference_mode():
    layer = nn.Linear(3, 7)
    with torch.inference_mode():
        result, macs = count_macs(lambda: layer(torch.ones(2, 3)))
    assert result.shape == (2, 7)
    assert macs == 2 * 3 * 7


def test_split_model_in_training_and_in_transmission():
    network, images = network_of("digits-cnn")
    head, tail = cut(network, "stage2")
    model = SplitModel(head, create("integer", (6, 4, 4), bits=16), tail)
    logits, bits = model(images)
    assert torch.allclose(logits, network(images), atol=1e-2)
    assert not torch.equal(logits, network(images))
    assert bits.tolist() == [8 * (8 + 2 * 96)] * 3
    assert torch.allclose(model.transmit(images), logits, atol=1e-5)
    local = SplitModel(network, None, nn.Identity())
    assert torch.equal(local(images)[0], local.transmit(images))
    assert local(images)[1].tolist() == [0, 0, 0]
