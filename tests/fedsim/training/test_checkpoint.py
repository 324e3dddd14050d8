"""A training that is killed and started again comes to what it would have come to."""

import dataclasses
import errno
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from edge import backbones
from edge.bottlenecks import registry
from edge.bottlenecks.factorized import FactorizedBottleneck
from fedsim.errors import TrainingError
from fedsim.progress import Display, Task
from fedsim.training import recipes
from fedsim.training.checkpoint import Checkpoint, Epoch, identity_of
from fedsim.training.classifier import train_classifier
from fedsim.training.loop import Images

from .lessons import SMALL, lesson

EPOCHS = {"entropic-student": (4, 2), "bottlefit": (2, 1), "end-to-end": (3,)}


class Killed(BaseException):
    """Stands for the end of the process."""


class Bomb(Task):
    """Ends the training when an epoch, and what is written of it, is done."""

    def __init__(self, after: int) -> None:
        self._left = after

    def advance(self, figures: Mapping[str, float]) -> None:
        self._left -= 1
        if not self._left:
            raise Killed

    def reach(self, completed: int) -> None:
        pass


def teach(
    recipe: str,
    teacher: nn.Module,
    images: Images,
    *,
    family: str = "factorized",
    path: Path | None = None,
    kill_after: int = 0,
    said: list[str] | None = None,
    identity: str = "same",
    every_s: float = 0.0,
) -> tuple[dict[str, Any], bytes, list[Epoch]]:
    """Weights, fingerprint and history of a student, taught from the start or from a checkpoint."""
    remarks = [] if said is None else said
    checkpoint = None if path is None else Checkpoint(path, identity, every_s=every_s, remark=remarks.append)
    epochs = EPOCHS[recipe]
    at = ("stage3", "output") if family == "key-value" else ("input", "stage2")
    learning_rates = (4e-3, 1e-2)[: len(epochs)]
    student = lesson(
        teacher,
        images,
        name=family,
        at=at,
        epochs=epochs,
        learning_rates=learning_rates,
        checkpoint=checkpoint,
    )
    student = dataclasses.replace(student, task=Bomb(kill_after))
    history = recipes.find(recipe)(student)
    return student.model.state_dict(), student.bottleneck.fingerprint, history


def assert_same(
    found: tuple[dict[str, Any], bytes, list[Epoch]], expected: tuple[dict[str, Any], bytes, list[Epoch]]
) -> None:
    assert found[2] == expected[2]
    assert found[1] == expected[1]
    assert found[0].keys() == expected[0].keys()
    assert [key for key, value in found[0].items() if not torch.equal(value, expected[0][key])] == []


@pytest.mark.parametrize("recipe", EPOCHS)
def test_killed_at_any_epoch_it_comes_to_the_same(
    recipe: str, teacher: nn.Module, few: Images, tmp_path: Path
) -> None:
    unbroken = teach(recipe, teacher, few)
    for epoch in range(1, 1 + sum(EPOCHS[recipe])):
        path = tmp_path / str(epoch) / "m.checkpoint"
        with pytest.raises(Killed):
            teach(recipe, teacher, few, path=path, kill_after=epoch)
        torch.manual_seed(99)
        said: list[str] = []
        assert_same(teach(recipe, teacher, few, path=path, said=said), unbroken)
        assert said == [f"m: its training goes on after epoch {epoch}, from a checkpoint"]


@pytest.mark.parametrize("family", SMALL)
def test_killed_again_and_again_any_family_comes_to_the_same(
    family: str, teacher: nn.Module, few: Images, tmp_path: Path
) -> None:
    path = tmp_path / "m.checkpoint"
    unbroken = teach("entropic-student", teacher, few, family=family)
    for epoch in (1, 2, 5):  # after the warm-up, in the first stage, in the second
        with pytest.raises(Killed):
            teach("entropic-student", teacher, few, family=family, path=path, kill_after=epoch)
    assert_same(teach("entropic-student", teacher, few, family=family, path=path), unbroken)


def test_the_process_may_end_at_any_moment(teacher: nn.Module, few: Images, tmp_path: Path) -> None:
    path = tmp_path / "m.checkpoint"
    unbroken = teach("entropic-student", teacher, few)
    child = os.fork()
    if not child:
        try:
            teach("entropic-student", teacher, few, path=path, kill_after=5)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    said: list[str] = []
    assert_same(teach("entropic-student", teacher, few, path=path, said=said), unbroken)
    assert said == ["m: its training goes on after epoch 5, from a checkpoint"]


def test_the_teachers_training_goes_on_too(few: Images, tmp_path: Path) -> None:
    def train(path: Path | None, kill_after: int = 0) -> tuple[dict[str, Any], list[Epoch]]:
        torch.manual_seed(4)
        network = backbones.create("digits-cnn", widths=[4, 4, 4])
        history = train_classifier(
            network,
            few,
            epochs=4,
            batch_size=32,
            learning_rate=3e-3,
            generator=torch.Generator().manual_seed(2),
            task=Bomb(kill_after),
            checkpoint=None if path is None else Checkpoint(path, "t", every_s=0),
        )
        return network.state_dict(), history

    unbroken = train(None)
    for epoch in range(1, 5):
        path = tmp_path / f"{epoch}.checkpoint"
        with pytest.raises(Killed):
            train(path, epoch)
        state, history = train(path)
        assert history == unbroken[1]
        assert all(torch.equal(value, unbroken[0][key]) for key, value in state.items())


def test_a_checkpoint_is_whole_or_not_there(
    teacher: nn.Module, few: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.checkpoint"
    with pytest.raises(Killed):
        teach("bottlefit", teacher, few, path=path, kill_after=1)
    before = path.read_bytes()

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(Killed):
            teach("bottlefit", teacher, few, path=path)
    assert path.read_bytes() == before
    assert_same(teach("bottlefit", teacher, few, path=path), teach("bottlefit", teacher, few))
    Checkpoint(path, "same").remove()
    assert list(tmp_path.iterdir()) == []


class Renamed(FactorizedBottleneck):
    """Has parts of other names after it is frozen."""

    def freeze(self) -> None:
        super().freeze()
        self.register_buffer("late", torch.zeros(1))


def test_one_that_its_own_training_cannot_load_is_named(
    teacher: nn.Module, few: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._registered, "renamed", Renamed)
    path = tmp_path / "m.checkpoint"
    with pytest.raises(Killed):
        teach("bottlefit", teacher, few, family="renamed", path=path, kill_after=3)
    with pytest.raises(TrainingError, match=r"m\.checkpoint does not fit .*bottleneck\.late; remove it"):
        teach("bottlefit", teacher, few, family="renamed", path=path)


def test_one_of_another_training_is_left_aside(teacher: nn.Module, few: Images, tmp_path: Path) -> None:
    path = tmp_path / "m.checkpoint"
    with pytest.raises(Killed):
        teach("bottlefit", teacher, few, path=path, kill_after=2, identity="other")
    said: list[str] = []
    found = teach("bottlefit", teacher, few, path=path, said=said)
    assert_same(found, teach("bottlefit", teacher, few))
    assert said == [f"{path} is of another training and left aside; this one starts anew"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), cut=st.booleans(), bit=st.integers(0, 7))
def test_a_damaged_one_is_left_aside(tmp_path: Path, small: bytes, where: float, cut: bool, bit: int) -> None:
    damaged = bytearray(small)
    position = int(where * len(damaged))
    if cut:
        del damaged[position:]
    else:
        damaged[position] ^= 1 << bit
    path = tmp_path / "m.checkpoint"
    path.write_bytes(damaged)
    said: list[str] = []
    checkpoint = Checkpoint(path, "same", remark=said.append)
    assert checkpoint._kept is None
    assert said == [f"{path} is damaged and left aside; the training starts anew"]


@pytest.fixture(scope="module")
def small(few: Images, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint's bytes."""
    path = tmp_path_factory.mktemp("small") / "t.checkpoint"
    with Display(quiet=True).task("t", 1) as task:
        train_classifier(
            backbones.create("digits-cnn", widths=[2, 2, 2]),
            few,
            epochs=1,
            batch_size=32,
            learning_rate=1e-3,
            generator=torch.Generator(),
            task=task,
            checkpoint=Checkpoint(path, "same", every_s=0),
        )
    content = path.read_bytes()
    assert Checkpoint(path, "same")._kept is not None
    return content


def test_one_that_cannot_be_written_stops_nothing(teacher: nn.Module, few: Images, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said: list[str] = []
    path = tmp_path / "file" / "m.checkpoint"
    assert_same(teach("bottlefit", teacher, few, path=path, said=said), teach("bottlefit", teacher, few))
    assert said[0] == f"{path} is left aside: Not a directory"
    assert said[1].startswith(f"m: no checkpoint can be written to {path}: ")


def test_a_full_disk_is_told_and_nothing_half_written_stays(
    teacher: nn.Module, few: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    said: list[str] = []
    teach("bottlefit", teacher, few, path=tmp_path / "m.checkpoint", said=said)
    assert said[0].endswith("m.checkpoint: No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_it_is_not_written_more_often_than_asked(teacher: nn.Module, few: Images, tmp_path: Path) -> None:
    written = []
    for every_s, kill_after in [(3600, 2), (0, 2), (3600, 4)]:  # a warm-up of one epoch, then the hints
        path = tmp_path / f"{every_s}-{kill_after}.checkpoint"
        with pytest.raises(Killed):
            teach("entropic-student", teacher, few, path=path, every_s=every_s, kill_after=kill_after)
        said: list[str] = []
        Checkpoint(path, "same", remark=said.append)
        written += [sentence.partition(" after ")[2].partition(",")[0] for sentence in said]
    assert written == ["epoch 1", "epoch 2", "epoch 4"]


def test_identity_tells_what_decides_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    same = identity_of(seed=1, epochs=(3, 2))
    assert same == identity_of(epochs=[3, 2], seed=1)
    assert same != identity_of(seed=2, epochs=(3, 2))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert same != identity_of(seed=1, epochs=(3, 2))
