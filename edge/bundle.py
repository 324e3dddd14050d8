"""A split model as it is saved, shipped and loaded: safetensors and JSON, the halves apart.

::

    FOLDER/device/model.json  weights.safetensors      head and bottleneck without its decoder
    FOLDER/server/model.json  weights.safetensors      bottleneck without its encoder, and tail

A half is all that its peer's machine needs; loading it never makes a weight of the other half. A
model that runs whole on the device has no server half.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edge.blueprint import BundleError, Half, ModelSpec, black_image, build, skeleton
from edge.bottlenecks.base import Bottleneck, Shape
from edge.coding.tables import FrequencyTables
from edge.graphs import modes_set
from edge.halves import DeviceHalf, LoadedHalf, ServerHalf
from edge.split import SplitModel, count_macs, parameters_of

__all__ = [
    "FORMAT",
    "BundleError",
    "DeviceHalf",
    "ModelSpec",
    "ServerHalf",
    "build",
    "device_spec",
    "load_device",
    "load_server",
    "save",
]

#: Version of the folder's format. Raised with any change that an older reader would misread.
FORMAT = 1

_TABLES = "tables."
_MOST_REPLACED = 256  # ids of models that a bundle remembers to have replaced


def save(model: SplitModel, spec: ModelSpec, folder: Path, *, overwrite: bool = False) -> str:
    """Write both halves of a model, or the one half of a local model.

    The folder appears at once, after both halves have been loaded from it for a test and a black image
    has gone through them. What ``prepare_training`` attached is not written. The server half keeps the ids of
    the models that it overwrites, so that the server tells their devices that they are outdated.

    Returns:
        the model's id: equal for equal specifications and weights.

    Raises:
        BundleError: the folder exists and ``overwrite`` is not set, or the model cannot be loaded and
            run again as its halves.
        NotFrozenError: the bottleneck's frequency tables have not been made.
    """
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise BundleError(f"{folder} exists already; to replace it, ask for it")
    description, shapes = _described(model, spec)
    contents = {half: _tensors(model, spec, half, *shapes) for half in _halves_of(spec)}
    model_id = _model_id(spec, {key: value for part in contents.values() for key, value in part.items()})
    replaced = [one for one in _replaced(folder) if one != model_id][-_MOST_REPLACED:]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        fresh = Path(scratch) / "new"
        for half, tensors in contents.items():
            (fresh / half).mkdir(parents=True)
            save_file(tensors, fresh / half / "weights.safetensors")
            record = {
                "format": FORMAT,
                "half": half,
                "model_id": model_id,
                "spec": asdict(spec),
                **description,
            }
            if half == "server" and replaced:
                record["replaces"] = replaced
            record["sha256"] = _sha256(fresh / half / "weights.safetensors")
            text = json.dumps(record, indent=2, sort_keys=True) + "\n"
            (fresh / half / "model.json").write_text(text, encoding="utf-8")
        _tried(fresh)
        old = Path(scratch) / "old"
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(fresh, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
    return model_id


def device_spec(folder: Path) -> ModelSpec:
    """What the device half of a bundle says of its model, without loading it.

    Args:
        folder: the bundle, or its ``device`` folder alone.

    Raises:
        BundleError: a missing or damaged file, the other half, or another format version.
    """
    spec: ModelSpec = _record(_found(Path(folder), "device"), "device")["spec"]
    return spec


def load_device(folder: Path) -> DeviceHalf:
    """The device half of a bundle, in evaluation mode.

    Args:
        folder: the bundle, or its ``device`` folder alone.

    Raises:
        BundleError: a missing or damaged file, the other half, another format version, weights that
            do not fit, or a part that this installation does not have.
    """
    fields_, parts = _loaded(Path(folder), "device")
    return DeviceHalf(**fields_, bottleneck=parts.get("bottleneck"), head=parts["head"])


def load_server(folder: Path) -> ServerHalf:
    """The server half of a bundle, in evaluation mode.

    Args:
        folder: the bundle, or its ``server`` folder alone.

    Raises:
        BundleError: as :func:`load_device`; also for a model that runs whole on the device.
    """
    fields_, parts = _loaded(Path(folder), "server")
    return ServerHalf(**fields_, bottleneck=parts["bottleneck"], tail=parts["tail"])


def _halves_of(spec: ModelSpec) -> tuple[Half, ...]:
    return ("device",) if spec.bottleneck is None else ("device", "server")


# --- writing --------------------------------------------------------------------------------------


def _described(model: SplitModel, spec: ModelSpec) -> tuple[dict[str, Any], tuple[Shape, Shape]]:
    """What model.json says beside the specification, and the shapes around the bottleneck."""
    bottleneck = model.bottleneck
    if (bottleneck is None) != (spec.bottleneck is None):
        raise BundleError(f"model {spec.name!r}: its specification names bottleneck {spec.bottleneck!r}")
    image = black_image(model, spec)
    with modes_set(model, False):
        features, head_macs = count_macs(lambda: model.head(image))
        macs = {"device": head_macs, "server": 0}
        target = features
        if bottleneck is not None:
            payloads, encoder_macs = count_macs(lambda: bottleneck.encode(features))
            target, decoder_macs = count_macs(lambda: bottleneck.decode(payloads))
            macs = {"device": head_macs + encoder_macs, "server": decoder_macs}
        target = target.to(image.device)
        logits, tail_macs = count_macs(lambda: model.tail(target))
    macs["server"] += tail_macs
    if logits.ndim != 2:
        raise BundleError(
            f"model {spec.name!r}: logits of shape {tuple(logits.shape)}, expected (N, classes)"
        )
    shapes = tuple(features.shape[1:]), tuple(target.shape[1:])
    parameters = {half: parameters_of(skeleton(spec, half, *shapes)) for half in _halves_of(spec)}
    description = {
        "feature_shape": shapes[0],
        "target_shape": shapes[1],
        "classes": logits.shape[1],
        "parameters": {"device": 0, "server": 0} | parameters,
        "macs": macs,
        "fingerprint": "" if bottleneck is None else bottleneck.fingerprint.hex(),
    }
    return description, shapes


def _tried(folder: Path) -> None:
    """Run a black image through the halves of a bundle, each as its machine will have it."""
    device = load_device(folder)
    server = None if device.local else load_server(folder)
    step = "head"
    try:
        value = device.features(torch.zeros(1, *device.spec.input_shape))
        if server is not None:
            step = "encoder"
            payloads = device.encode(value)
            step = "decoder"
            value = server.decode(payloads)
            step = "tail"
            server.predict(value)
    except Exception as error:
        raise BundleError(
            f"model {device.spec.name!r}: its {step} does not run in a half of its own: "
            f"{type(error).__name__}: {error}"
        ) from error


def _replaced(folder: Path) -> list[str]:
    """Ids of the model in a folder and of those that it replaced; none where no server half can be read."""
    try:
        record = _record(_found(folder, "server"), "server")
    except BundleError:
        return []
    return list(dict.fromkeys([*record["replaces"], record["model_id"]]))


def _tensors(model: SplitModel, spec: ModelSpec, half: Half, *shapes: Shape) -> dict[str, Tensor]:
    """All tensors that ship with one half, under the names that they have in its file."""
    expected = set(skeleton(spec, half, *shapes).state_dict())
    state = model.state_dict()
    end = "head." if half == "device" else "tail."
    odd = (expected - set(state)) | {key for key in state if key.startswith(end) and key not in expected}
    odd |= {key for key in expected & set(state) if not isinstance(state[key], Tensor)}
    if odd:
        raise BundleError(
            f"model {spec.name!r} was not built from its specification: {_some(odd)} do not fit"
        )
    # Copies, because a file must not hold two names for one storage.
    tensors = {key: state[key].detach().cpu().contiguous().clone() for key in sorted(expected)}
    tables = None if model.bottleneck is None else model.bottleneck.tables
    if tables is not None:
        tensors.update({key: torch.from_numpy(array.copy()) for key, array in tables.to_arrays().items()})
    return tensors


def _model_id(spec: ModelSpec, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, asdict(spec)], sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- reading --------------------------------------------------------------------------------------


def _loaded(folder: Path, half: Half) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields that both halves have, and the modules of this one."""
    path = _found(folder, half)
    record = _record(path, half)
    weights = path.with_name("weights.safetensors")
    try:
        if _sha256(weights) != record["sha256"]:
            raise BundleError(f"{weights} is damaged: its SHA-256 is not the one in {path.name}")
        tensors = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{weights} cannot be read: {error}") from error
    spec: ModelSpec = record["spec"]
    arrays = {key: tensors.pop(key).numpy() for key in list(tensors) if key.startswith(_TABLES)}
    try:
        modules = skeleton(spec, half, record["feature_shape"], record["target_shape"])
        modules.load_state_dict(tensors, assign=True, strict=True)
        bottleneck = modules["bottleneck"] if spec.bottleneck is not None else None
        if arrays and isinstance(bottleneck, Bottleneck):
            bottleneck.load_tables(FrequencyTables.from_arrays(arrays))
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise BundleError(f"{path.parent}: model {spec.name!r} cannot be made from it: {error}") from error
    if missing := _without_value(modules):
        raise BundleError(
            f"{path.parent}: model {spec.name!r} holds tensors that do not ship, because they are neither "
            f"parameters nor persistent buffers: {_some(missing)}"
        )
    own = bottleneck.fingerprint if isinstance(bottleneck, Bottleneck) else b""
    if own != record["fingerprint"]:
        raise BundleError(
            f"{path}: its bottleneck has fingerprint {record['fingerprint'].hex()}, "
            f"but {spec.bottleneck!r} of this installation {own.hex()}"
        )
    modules.eval().requires_grad_(False)
    common = {key: record[key] for key in (f.name for f in fields(LoadedHalf)) if key != "bottleneck"}
    return common, dict(modules.items())


def _found(folder: Path, half: Half) -> Path:
    for path in (folder / half / "model.json", folder / "model.json"):
        if path.is_file():
            return path
    if half == "server" and (folder / "device" / "model.json").is_file():
        raise BundleError(f"{folder} holds a model without a server half: it runs whole on the device")
    raise BundleError(f"{folder} holds no {half} half of a model: there is no {half}/model.json in it")


def _record(path: Path, half: Half) -> dict[str, Any]:
    """The checked content of model.json, this half's numbers picked out."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version, found = record["format"], record["half"]
        if version != FORMAT:
            raise BundleError(f"{path} has format version {version!r}, this installation reads {FORMAT}")
        if found != half:
            raise BundleError(f"{path} describes the {found} half of a model, the {half} half is needed")
        return {
            "spec": ModelSpec(**record["spec"]),
            "model_id": str(record["model_id"]),
            "feature_shape": tuple(map(int, record["feature_shape"])),
            "target_shape": tuple(map(int, record["target_shape"])),
            "fingerprint": bytes.fromhex(record["fingerprint"]),
            "parameters": int(record["parameters"][half]),
            "macs": int(record["macs"][half]),
            "classes": int(record["classes"]),
            "replaces": tuple(map(str, record.get("replaces", ()))),
            "sha256": str(record["sha256"]),
        }
    except BundleError:
        raise
    except KeyError as error:
        raise BundleError(f"{path} is damaged: {error.args[0]!r} is missing") from error
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def _without_value(module: nn.Module) -> set[str]:
    """Tensors anywhere in ``module`` that are still on the ``meta`` device."""
    return {
        f"{name}.{key}".lstrip(".")
        for name, part in module.named_modules()
        for key, value in {**part._parameters, **part._buffers, **vars(part)}.items()
        if isinstance(value, Tensor) and value.is_meta
    }


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
