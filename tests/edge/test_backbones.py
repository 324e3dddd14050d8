import sys
import types

import pytest
import torch
from torch import nn

from edge import backbones
from edge.backbones import registry
from edge.split import cut, parameters_of

SHAPES = {
    "digits-cnn": (1, 8, 8),
    "fedavg-cnn": (1, 28, 28),
    "protonet-conv4": (1, 28, 28),
    "resnet-cifar": (3, 32, 32),
    "resnet18-32": (3, 32, 32),
}


def test_every_registered_network_has_a_shape_here():
    assert set(backbones.available()) == set(SHAPES)
    assert all(backbones.available().values())


@pytest.mark.parametrize("name", SHAPES)
def test_takes_images_and_returns_logits(name):
    network = backbones.create(name, classes=7).eval()
    logits = network(torch.rand(2, *SHAPES[name]))
    assert logits.shape == (2, 7)
    assert torch.isfinite(logits).all()
    assert next(iter(dict(network.named_children()))) == "normalise"


@pytest.mark.parametrize(
    ("name", "arguments", "parameters"),
    [
        ("fedavg-cnn", {}, 1_663_370),  # McMahan et al. 2017, MNIST
        ("protonet-conv4", {}, 111_936),  # Snell et al. 2017, one input channel
        ("resnet18-32", {}, 11_173_962),  # the customary CIFAR ResNet-18
        ("digits-cnn", {"widths": [4, 4, 4], "classes": 2}, 1 * 36 + 5 * 144 + 6 * 8 + 4 * 4 * 2 + 2),
    ],
)
def test_published_parameter_counts(name, arguments, parameters):
    assert parameters_of(backbones.create(name, **arguments)) == parameters


def test_protonet_without_classes_is_an_embedding():
    assert backbones.create("protonet-conv4", size=84, channels=3).eval()(torch.rand(2, 3, 84, 84)).shape == (
        2,
        1600,
    )


def test_stages_of_the_digits_network_have_the_documented_sides():
    network = backbones.create("digits-cnn", widths=(3, 5, 7)).eval()
    shapes = [cut(network, f"stage{i}")[0](torch.rand(2, 1, 8, 8)).shape for i in (1, 2, 3)]
    assert shapes == [(2, 3, 8, 8), (2, 5, 4, 4), (2, 7, 2, 2)]


def test_normalisation():
    images = torch.rand(2, 3, 4, 4)
    wanted = torch.stack(
        [(images[:, c] - m) / s for c, (m, s) in enumerate([(0.1, 0.5), (0.2, 1), (0.3, 2)])], 1
    )
    assert torch.allclose(backbones.Normalise((0.1, 0.2, 0.3), (0.5, 1, 2))(images), wanted)
    with pytest.raises(ValueError, match="positive deviations"):
        backbones.Normalise((0.1,), (0.0,))


def test_skeleton_has_the_state_of_the_network_but_no_values():
    whole, bare = backbones.create("resnet18-32", width=8), backbones.skeleton("resnet18-32", width=8)
    assert {k: v.shape for k, v in whole.state_dict().items()} == {
        k: v.shape for k, v in bare.state_dict().items()
    }
    assert all(tensor.is_meta for tensor in bare.state_dict().values())


def test_unknown_name_lists_what_there_is():
    with pytest.raises(LookupError, match=r"'resnet'.*digits-cnn, .*, resnet18-32, torchvision:NAME"):
        backbones.create("resnet")


def test_unknown_argument_names_the_network_and_its_arguments():
    with pytest.raises(TypeError, match=r"'digits-cnn'.*'width'.*classes, widths"):
        backbones.create("digits-cnn", width=3)


@pytest.mark.parametrize("arguments", [{"widths": (8, 8)}, {"mean": (0.1, 0.2)}])
def test_argument_with_a_wrong_value(arguments):
    with pytest.raises(ValueError, match=r"three stages|as many means"):
        backbones.create("digits-cnn", **arguments)


def test_features_of_the_network_of_federated_averaging_are_not_negative():
    network = backbones.create("fedavg-cnn", widths=(3, 5), features=7, size=8).eval()
    features = cut(network, "hidden")[0](torch.rand(4, 1, 8, 8))
    assert features.shape == (4, 7)
    assert features.min() == 0 < features.max()


@pytest.mark.parametrize(
    ("arguments", "said"), [({"widths": (8, 8, 8)}, "two blocks"), ({"size": 3}, "at least 4")]
)
def test_argument_of_the_network_of_federated_averaging_with_a_wrong_value(arguments, said):
    with pytest.raises(ValueError, match=said):
        backbones.create("fedavg-cnn", **arguments)


def test_images_too_small_for_protonet():
    with pytest.raises(ValueError, match="at least 16"):
        backbones.create("protonet-conv4", size=8)


def test_factory_of_a_third_party(monkeypatch):
    module = types.ModuleType("someones_networks")
    module.tiny = lambda classes=3: nn.Sequential(nn.Flatten(), nn.Linear(4, classes))
    module.number = 3
    module.wrong = lambda: "no network"
    monkeypatch.setitem(sys.modules, "someones_networks", module)
    assert backbones.create("someones_networks:tiny", classes=5)(torch.rand(1, 1, 2, 2)).shape == (1, 5)
    for name in ("someones_networks:absent", "nobodys_networks:tiny", "someones_networks:number"):
        with pytest.raises(LookupError, match=name):
            backbones.create(name)
    with pytest.raises(TypeError, match="not an nn"):
        backbones.create("someones_networks:wrong")


def test_a_name_cannot_be_taken_twice(monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    backbones.register("mine")(nn.Identity)
    assert isinstance(backbones.create("mine"), nn.Identity)
    with pytest.raises(ValueError, match="already"):
        backbones.register("mine")(nn.Flatten)


def torchvision_or_skip():
    try:
        return backbones.create("torchvision:resnet18", classes=4).eval()
    except LookupError as error:
        pytest.skip(str(error))


def test_torchvision_keeps_its_layer_names_behind_the_normalisation():
    network = torchvision_or_skip()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        logits = network(images)
        assert logits.shape == (2, 4)
        head, tail = cut(network, "layer1")
        assert torch.equal(tail(head(images)), logits)
        plain = type(network).__mro__[1]
        assert torch.equal(plain.forward(network, network.normalise(images)), logits)
    assert parameters_of(network) == 11_178_564  # 11,689,512 with 1000 classes


def test_torchvision_unknown_model():
    torchvision_or_skip()
    with pytest.raises(LookupError, match=r"resnet19.*resnet18"):
        backbones.create("torchvision:resnet19")


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_a_package_that_is_not_installed(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LookupError, match=f"{package} cannot be imported"):
        backbones.create(f"{package}:resnet18")


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (56, 853_018)])
def test_the_cifar_resnets_have_the_published_size(depth: int, parameters: int) -> None:
    network = backbones.skeleton("resnet-cifar", depth=depth)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_a_cifar_resnet_halves_the_side_from_stage_to_stage() -> None:
    network = backbones.create(
        "resnet-cifar", depth=8, width=8, channels=1, stem_stride=2, mean=[0.3], std=[0.4]
    )
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    head, _ = cut(network, "layer3")
    assert head(torch.rand(2, 1, 28, 28)).shape == (2, 32, 4, 4)


def test_a_depth_that_no_cifar_resnet_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"depth is 18, allowed are 6 n \+ 2"):
        backbones.create("resnet-cifar", depth=18)
