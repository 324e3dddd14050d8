"""The losses of supervised compression. What comes in bf16 counts as float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["distillation", "hint_distortion", "task_loss"]


def task_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy for classes, mean squared error for numbers.

    Args:
        outputs: [N, classes] for labels int64 [N]; [N, 1] for labels of a floating-point type [N].
        labels: what is to be told of each sample.

    Returns:
        mean over the batch, a scalar.
    """
    if labels.is_floating_point():
        return F.mse_loss(_floats(outputs).squeeze(1), labels)
    return F.cross_entropy(_floats(outputs), labels)


def hint_distortion(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Summed squared error over several layers: the distortion of generalised head network distillation.

    The *sum* over a sample's values, as in the published recipes: a mean would change what their
    beta stands for.

    Args:
        student: outputs of the hint layers, each [N, ...].
        teacher: the same layers of the teacher.

    Returns:
        mean over the batch, a scalar.
    """
    errors = [
        F.mse_loss(_floats(s), _floats(t), reduction="sum") for s, t in zip(student, teacher, strict=True)
    ]
    return torch.stack(errors).sum() / len(student[0])


def distillation(
    logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, alpha: float = 0.5, temperature: float = 1.0
) -> Tensor:
    """Knowledge distillation (Hinton et al. 2015): labels and the teacher's soft targets.

    ``alpha CE(logits, labels) + (1 - alpha) T^2 KL(teacher || student)``, batch mean.

    Args:
        logits: [N, classes].
        teacher_logits: [N, classes].
        labels: int64 [N].
        alpha: weight of the labels.
        temperature: T, of both softmaxes in the second term.
    """
    hard = task_loss(logits, labels)
    soft = F.kl_div(
        F.log_softmax(_floats(logits) / temperature, dim=1),
        F.log_softmax(_floats(teacher_logits) / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return alpha * hard + (1 - alpha) * temperature**2 * soft


def _floats(values: Tensor) -> Tensor:
    """bf16 as float32; anything wider as it is."""
    return values.float() if values.dtype == torch.bfloat16 else values
