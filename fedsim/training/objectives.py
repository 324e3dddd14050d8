"""What a student is compared with: the teacher's hints, the teacher's answers, or the labels alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from fedsim.training import losses
from fedsim.training.lesson import Lesson

__all__ = ["Objective", "distillation", "labels", "teacher_hints"]


@dataclass(frozen=True)
class Objective:
    """A loss of what the server sees.

    Args:
        figure: what the loss is called where the progress is shown.
        targets: what the teacher makes of inputs [N, C, H, W]; asked once for each image where that fits.
        loss: of the reconstruction [N, *output_shape], the targets and the labels [N]; a batch mean.
    """

    figure: str
    targets: Callable[[Tensor], Sequence[Tensor]]
    loss: Callable[[Tensor, Sequence[Tensor], Tensor], Tensor]


def teacher_hints(lesson: Lesson) -> Objective:
    """Generalised head network distillation: squared error at the cut and at every later feature map."""

    def loss(reconstruction: Tensor, targets: Sequence[Tensor], _: Tensor) -> Tensor:
        return losses.hint_distortion(lesson.hints.of_reconstruction(reconstruction), targets)

    return Objective("distortion", lesson.hints.of_images, loss)


def distillation(lesson: Lesson) -> Objective:
    """Knowledge distillation (T = 1, alpha = 1/2): the labels, and the teacher's soft targets."""

    def loss(reconstruction: Tensor, targets: Sequence[Tensor], labels: Tensor) -> Tensor:
        return losses.distillation(lesson.model.tail(reconstruction), targets[0], labels)

    return Objective("distillation", lambda inputs: [lesson.teacher(inputs)], loss)


def labels(lesson: Lesson) -> Objective:
    """The task's own loss: cross-entropy with the labels. The teacher is not asked."""

    def loss(reconstruction: Tensor, _: Sequence[Tensor], labels: Tensor) -> Tensor:
        return losses.task_loss(lesson.model.tail(reconstruction), labels)

    return Objective("cross-entropy", lambda _: [], loss)
