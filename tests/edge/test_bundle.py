import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edge import backbones
from edge.bottlenecks import Bottleneck, PayloadError, registry
from edge.bottlenecks.base import NotFrozenError
from edge.bundle import BundleError, ModelSpec, build, load_device, load_server, save
from edge.coding import FrequencyTables
from edge.split import CutError, macs_of, parameters_of

DIGITS = {"network": "digits-cnn", "network_arguments": {"widths": [4, 6, 8]}, "input_shape": (1, 8, 8)}


class Projection(Bottleneck):
    """A linear encoder and decoder; the code is sent as float32. Shares `scale`; trains `critic`."""

    def __init__(self, input_shape, output_shape=None, *, width=5):
        super().__init__(input_shape, output_shape)
        self.encoder = nn.Linear(int(np.prod(self.input_shape)), width)
        self.decoder = nn.Linear(width, int(np.prod(self.output_shape)))
        self.scale = nn.Parameter(torch.full((width,), 2.0))
        self.critic = None
        self._tables = None

    def prepare_training(self):
        if self.critic is None:
            self.critic = nn.Linear(3, 3)

    def freeze(self):
        self._tables = FrequencyTables.from_probabilities([np.array([0.5, 0.25]), np.array([0.9])], [-1, 0])

    @property
    def tables(self):
        return self._tables

    def load_tables(self, tables):
        self._tables = tables

    def forward(self, features):
        code = self.encoder(features.flatten(1)) * self.scale
        decoded = self.decoder(code / self.scale).view(-1, *self.output_shape)
        return decoded, features.new_full((len(features),), 32.0 * code.shape[1])

    @torch.no_grad()
    def encode(self, features):
        if self._tables is None:
            raise NotFrozenError("not frozen")
        return [code.numpy().tobytes() for code in self.encoder(features.flatten(1)) * self.scale]

    @torch.no_grad()
    def decode(self, payloads):
        if any(len(payload) != 4 * len(self.scale) for payload in payloads):
            raise PayloadError("wrong length")
        code = torch.from_numpy(np.stack([np.frombuffer(payload, dtype=np.float32) for payload in payloads]))
        return self.decoder(code / self.scale).view(-1, *self.output_shape)


def spec_of(cut="stage2", entry=None, bottleneck="tests-projection", **arguments):
    return ModelSpec(
        **DIGITS, name="test", cut=cut, entry=entry, bottleneck=bottleneck, bottleneck_arguments=arguments
    )


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    known = registry._registered | {
        "tests-projection": Projection,
        "tests-hidden": Hidden,
        "tests-entangled": Entangled,
    }
    monkeypatch.setattr(registry, "_registered", known)


def model_of(spec, seed=0):
    torch.manual_seed(seed)
    model = build(spec)
    if model.bottleneck is not None:
        model.bottleneck.prepare_training()
        model.bottleneck.freeze()
    model(torch.rand(8, *spec.input_shape))  # moves the running statistics off their start
    return model


@pytest.fixture
def saved(tmp_path):
    spec = spec_of()
    model = model_of(spec)
    return model, spec, save(model, spec, tmp_path / "bundle"), tmp_path / "bundle"


@pytest.mark.parametrize(
    "spec",
    [
        spec_of(),
        spec_of("stage2", "input", width=3),
        spec_of("stage3", "stage1"),
        spec_of("stage1", bottleneck="float32"),
        spec_of("input", bottleneck="png"),
        spec_of("stage2", "input", bottleneck="factorized", channels=4),
    ],
    ids=lambda spec: f"{spec.entry}-{spec.cut}-{spec.bottleneck}",
)
def test_halves_together_are_the_model(spec, tmp_path):
    model = model_of(spec)
    model_id = save(model, spec, tmp_path / "bundle")
    assert model.training  # saving looks at the model in evaluation mode, and puts it back
    model.eval()
    shutil.copytree(tmp_path / "bundle" / "device", tmp_path / "board")  # each half works on its own
    shutil.move(tmp_path / "bundle" / "server", tmp_path / "machine")
    device, server = load_device(tmp_path / "board"), load_server(tmp_path / "machine")
    images = torch.randint(256, (5, 1, 8, 8)) / 255
    features = device.features(images)
    with torch.no_grad():
        assert torch.equal(features, model.head(images))
        assert tuple(features.shape[1:]) == device.feature_shape
        payloads = device.encode(features)
        assert payloads == model.bottleneck.encode(features)
        decoded = server.decode(payloads)
        assert tuple(decoded.shape[1:]) == server.target_shape
        assert torch.equal(decoded, model.bottleneck.decode(payloads))
        assert torch.equal(server.predict(decoded), model.tail(decoded))
    assert device.spec == server.spec == spec
    assert device.model_id == server.model_id == model_id
    assert re.fullmatch("[0-9a-f]{16}", model_id)
    assert device.fingerprint == server.fingerprint == model.bottleneck.fingerprint
    assert device.classes == server.classes == 10
    assert device.handshake(client="a", top=2).mismatch(server.handshake()) is None
    assert max(map(len, payloads)) < server.max_payload
    assert not device.local
    for part in (device.head, device.bottleneck, server.bottleneck, server.tail):
        assert not any(module.training for module in part.modules())
        assert not any(tensor.requires_grad or tensor.is_meta for tensor in part.parameters())


def test_a_local_model_has_no_server_half(tmp_path):
    spec = ModelSpec(**DIGITS, name="local", cut="output", entry=None)
    model = model_of(spec).eval()
    save(model, spec, tmp_path / "local")
    device = load_device(tmp_path / "local")
    images = torch.rand(4, 1, 8, 8)
    assert device.local
    with torch.no_grad():
        assert torch.equal(device.features(images), model.transmit(images))
    assert device.parameters == parameters_of(model)
    assert device.macs == macs_of(model.head, (1, 8, 8))
    assert device.feature_shape == (10,)
    assert sorted(path.name for path in (tmp_path / "local").iterdir()) == ["device"]
    with pytest.raises(RuntimeError, match="'local' runs whole on the device"):
        device.encode(images)
    with pytest.raises(BundleError, match="without a server half"):
        load_server(tmp_path / "local")


def test_each_half_ships_its_own_part_and_nothing_of_training(saved):
    _, _, _, folder = saved
    tables = {"tables.frequencies", "tables.lengths", "tables.offsets"}
    device, server = (
        load_file(folder / half / "weights.safetensors").keys() for half in ("device", "server")
    )
    assert {key for key in device if not key.startswith("head.")} == tables | {
        "bottleneck.scale",
        "bottleneck.encoder.weight",
        "bottleneck.encoder.bias",
    }
    assert {key for key in server if not key.startswith("tail.")} == tables | {
        "bottleneck.scale",
        "bottleneck.decoder.weight",
        "bottleneck.decoder.bias",
    }
    assert {key.split(".")[1] for key in device if key.startswith("head.")} == {
        "normalise",
        "stage1",
        "stage2",
    }
    assert {key.split(".")[1] for key in server if key.startswith("tail.")} == {"stage3", "classifier"}


def test_the_other_half_is_absent_and_says_so(saved):
    device, server = load_device(saved[3]), load_server(saved[3])
    with pytest.raises(
        RuntimeError, match="the decoder of this bottleneck does not ship with the device half"
    ):
        device.bottleneck.decode([bytes(20)])
    with pytest.raises(
        RuntimeError, match="the encoder of this bottleneck does not ship with the server half"
    ):
        server.bottleneck.encode(torch.zeros(1, 6, 4, 4))
    with pytest.raises(PayloadError):
        server.decode([bytes(3)])


def test_costs_of_the_halves(saved):
    model, _, _, folder = saved
    device, server = load_device(folder), load_server(folder)
    bottleneck = model.bottleneck
    assert device.parameters == parameters_of(model.head) + parameters_of(bottleneck.encoder) + 5
    assert server.parameters == parameters_of(model.tail) + parameters_of(bottleneck.decoder) + 5
    assert device.macs == macs_of(model.head, (1, 8, 8)) + 96 * 5
    assert server.macs == macs_of(model.tail, (6, 4, 4)) + 5 * 96
    records = [json.loads((folder / half / "model.json").read_text()) for half in ("device", "server")]
    assert records[0]["macs"] == records[1]["macs"] == {"device": device.macs, "server": server.macs}
    assert records[0]["parameters"] == records[1]["parameters"]


def test_equal_models_have_equal_ids_and_others_not(tmp_path):
    def saved_id(name, spec, change=None):
        model = model_of(spec)
        if change:
            change(model)
        return save(model, spec, tmp_path / name)

    def decoder(model):
        model.bottleneck.decoder.bias.data[0] += 1e-3

    def statistics(model):
        model.tail.get_submodule("stage3.bn1").running_mean[0] += 1e-3

    def tables(model):
        model.bottleneck.load_tables(
            FrequencyTables.from_probabilities([np.array([0.5]), np.array([0.5])], [0, 0])
        )

    def training_only(model):
        model.bottleneck.critic = None

    first = saved_id("a", spec_of())
    assert saved_id("b", spec_of(), training_only) == first
    others = [saved_id(f.__name__, spec_of(), f) for f in (decoder, statistics, tables)]
    others.append(saved_id("width", spec_of(width=6)))
    assert len({first, *others}) == 5


def test_training_goes_on_in_a_network_that_was_given():
    network = backbones.create("digits-cnn", widths=[4, 6, 8])
    model = build(spec_of(), network)
    assert model.head.get_submodule("stage1.conv1") is network.stage1.conv1
    assert model.tail.get_submodule("classifier") is network.classifier


def test_an_existing_folder_is_kept_unless_asked(saved):
    model, spec, first, folder = saved
    with pytest.raises(BundleError, match="exists already"):
        save(model, spec, folder)
    model.bottleneck.scale.data += 1
    second = save(model, spec, folder, overwrite=True)
    assert load_device(folder).model_id == second != first
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_failed_save_leaves_nothing_behind_and_nothing_broken(saved, tmp_path):
    model, spec, model_id, folder = saved
    model.bottleneck._tables = None
    with pytest.raises(NotFrozenError):
        save(model, spec, folder, overwrite=True)
    assert load_server(folder).model_id == model_id
    with pytest.raises(BundleError, match=r"not built from its specification: .*stage2"):
        save(model_of(spec_of()), spec_of("stage1"), tmp_path / "other")
    with pytest.raises(BundleError, match="names bottleneck None"):
        save(
            model_of(spec_of()),
            ModelSpec(**DIGITS, name="local", cut="output", entry=None),
            tmp_path / "other",
        )
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_folder_that_cannot_be_replaced_is_put_back(saved, monkeypatch):
    model, spec, model_id, folder = saved
    replace, moved = os.replace, []

    def full(source, target):
        moved.append(target)
        if len(moved) == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    model.bottleneck.scale.data += 1
    with pytest.raises(OSError, match="No space left"):
        save(model, spec, folder, overwrite=True)
    assert load_device(folder).model_id == load_server(folder).model_id == model_id
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


class Entangled(Bottleneck):
    """Its encoder needs a part that ships with the server alone."""

    def __init__(self, input_shape, output_shape=None):
        super().__init__(input_shape, output_shape)
        self.decoder = torch.nn.Conv2d(input_shape[0], input_shape[0], 1)

    def forward(self, features):
        return features, features.new_zeros(len(features))

    def encode(self, features):
        return [sample.numpy().tobytes() for sample in self.decoder(features).detach()]

    def decode(self, payloads):
        return torch.stack([torch.frombuffer(bytearray(p), dtype=torch.float32) for p in payloads]).view(
            -1, *self.output_shape
        )


def test_an_encoder_that_needs_the_decoder_is_found_out_when_saved(tmp_path):
    spec = spec_of(bottleneck="tests-entangled")
    with pytest.raises(BundleError, match=r"its encoder does not run in a half of its own: RuntimeError: "):
        save(model_of(spec), spec, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


class Hidden(Bottleneck):
    """Keeps what it needs in a buffer that does not ship."""

    def __init__(self, input_shape, output_shape=None):
        super().__init__(input_shape, output_shape)
        self.register_buffer("offset", torch.ones(1), persistent=False)

    def forward(self, features):
        return features + self.offset, features.new_zeros(len(features))

    def encode(self, features):
        return [(sample + self.offset).numpy().tobytes() for sample in features]

    def decode(self, payloads):
        return torch.stack([torch.frombuffer(bytearray(p), dtype=torch.float32) for p in payloads]).view(
            -1, *self.output_shape
        )


def test_tensors_that_would_not_ship_are_named(tmp_path):
    spec = spec_of(bottleneck="tests-hidden")
    with pytest.raises(BundleError, match=r"neither parameters nor persistent buffers: bottleneck\.offset"):
        save(model_of(spec), spec, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def rewritten(folder, **changes):
    path = folder / "device" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def reweighted(folder, change):
    tensors = load_file(folder / "device" / "weights.safetensors")
    change(tensors)
    save_file(tensors, folder / "device" / "weights.safetensors")
    digest = hashlib.sha256((folder / "device" / "weights.safetensors").read_bytes()).hexdigest()
    rewritten(folder, sha256=digest)


def flipped(folder):
    path = folder / "device" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "no weights": (
        lambda f: (f / "device/weights.safetensors").unlink(),
        "weights.safetensors cannot be read",
    ),
    "bit flipped": (flipped, "weights.safetensors is damaged"),
    "truncated": (lambda f: (f / "device/weights.safetensors").write_bytes(b"1234"), "is damaged"),
    "no record": (lambda f: (f / "device/model.json").unlink(), "no device half"),
    "no JSON": (lambda f: (f / "device/model.json").write_text("{"), "model.json cannot be read"),
    "no object": (lambda f: (f / "device/model.json").write_text("[]"), "model.json cannot be read"),
    "binary": (lambda f: (f / "device/model.json").write_bytes(b"\xff\xfe"), "model.json cannot be read"),
    "format": (lambda f: rewritten(f, format=2), "format version 2, this installation reads 1"),
    "half": (lambda f: rewritten(f, half="server"), "describes the server half"),
    "no field": (
        lambda f: (f / "device/model.json").write_text('{"format": 1, "half": "device"}'),
        "'spec' is missing",
    ),
    "odd spec": (lambda f: rewritten(f, spec={"colour": 1}), "model.json cannot be read"),
    "fingerprint": (lambda f: rewritten(f, fingerprint="00" * 8), "fingerprint 0000000000000000, but"),
    "shape": (
        lambda f: rewritten(f, feature_shape=[7, 4, 4]),
        "'test' cannot be made from it.*size mismatch",
    ),
    "tensor missing": (
        lambda f: reweighted(f, lambda t: t.pop("bottleneck.scale")),
        "Missing key.*bottleneck.scale",
    ),
    "tensor too many": (lambda f: reweighted(f, lambda t: t.update(x=torch.ones(1))), "Unexpected key"),
    "tables": (lambda f: reweighted(f, lambda t: t.pop("tables.lengths")), "frequency tables without"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(damage, saved):
    change, message = DAMAGES[damage]
    change(saved[3])
    with pytest.raises(BundleError, match=f"(?s){message}"):
        load_device(saved[3])
    assert load_server(saved[3]).model_id == saved[2]


def test_the_wrong_half_and_an_unknown_part_are_named(saved):
    _, _, _, folder = saved
    with pytest.raises(BundleError, match="the server half of a model, the device half is needed"):
        load_device(folder / "server")
    with pytest.raises(BundleError, match="no server half of a model"):
        load_server(folder / "absent")
    spec = json.loads((folder / "device/model.json").read_text())["spec"]
    for key in ("network", "bottleneck"):
        rewritten(folder, spec=spec | {key: "absent-part"})
        with pytest.raises(BundleError, match=r"unknown (backbone|bottleneck) 'absent-part'"):
            load_device(folder)


def test_images_that_do_not_fit(saved):
    device = load_device(saved[3])
    for images in (torch.rand(2, 1, 9, 8), torch.rand(1, 8, 8), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"expected floats of shape \('N', 1, 8, 8\)"):
            device.features(images)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"cut": "stage9"}, CutError, "no layer 'stage9'"),
        ({"bottleneck": "absent"}, LookupError, "unknown bottleneck 'absent'"),
        (
            {"bottleneck": "png"},
            BundleError,
            "'png' reads images, so the cut has to be 'input', got 'stage2'",
        ),
        ({"input_shape": (3, 8, 8)}, BundleError, r"images of shape \(3, 8, 8\) do not fit 'digits-cnn'"),
        ({"bottleneck": None}, BundleError, "cut has to be 'output', got cut 'stage2'"),
        ({"network_arguments": {"widths": {1, 2}}}, BundleError, "network_arguments are not plain JSON"),
        (
            {"bottleneck_arguments": {"width": float("nan")}},
            BundleError,
            "bottleneck_arguments are not plain JSON",
        ),
    ],
)
def test_specifications_that_cannot_be_built(changes, error, message):
    arguments = {**DIGITS, "name": "test", "cut": "stage2", "entry": None, "bottleneck": "tests-projection"}
    with pytest.raises(error, match=message):
        build(ModelSpec(**(arguments | changes)))


def test_a_specification_survives_its_file():
    spec = ModelSpec(
        "a", "digits-cnn", {"widths": (1, 2, 3)}, "stage1", None, [1, 8, 8], "integer", {"bits": 4}, 4.0
    )
    assert spec.network_arguments == {"widths": [1, 2, 3]}
    assert spec.input_shape == (1, 8, 8)


DEVICE_PROCESS = """
import sys
from pathlib import Path
import torch
from edge.bundle import load_device
device = load_device(Path(sys.argv[1]))
assert len(device.encode(device.features(torch.rand(2, 1, 8, 8)))) == 2
print(*sorted({name.partition('.')[0] for name in sys.modules}))
"""


@pytest.mark.parametrize("bottleneck", ["integer", "factorized"])
def test_a_device_process_loads_nothing_of_training(bottleneck, tmp_path):
    spec = spec_of(bottleneck=bottleneck)
    save(model_of(spec), spec, tmp_path / "bundle")
    command = [sys.executable, "-c", DEVICE_PROCESS, str(tmp_path / "bundle" / "device")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    assert {"torch", "edge"} <= loaded
    training = "compressai torchvision torch_geometric pandas matplotlib flwr ray fedsim sklearn scipy"
    assert loaded.isdisjoint(training.split())
    assert loaded.isdisjoint(["pydantic", "pyarrow", "rich", "typer"])


def test_the_server_half_keeps_the_ids_of_the_models_that_it_replaced(tmp_path):
    spec, folder = spec_of(), tmp_path / "bundle"
    ids = [save(model_of(spec, seed), spec, folder, overwrite=True) for seed in range(3)]
    assert load_server(folder).replaces == (ids[0], ids[1])
    assert load_device(folder).replaces == ()
    assert save(model_of(spec, 2), spec, folder, overwrite=True) == ids[2]
    assert load_server(folder).replaces == (ids[0], ids[1])
    save(model_of(spec, 0), spec, folder, overwrite=True)  # back to the first
    assert load_server(folder).replaces == (ids[1], ids[2])
    (folder / "server" / "model.json").write_text("{")
    save(model_of(spec, 1), spec, folder, overwrite=True)  # over what nobody can read
    assert load_server(folder).replaces == ()
