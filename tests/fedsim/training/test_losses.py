import pytest
import torch
import torch.nn.functional as F

from fedsim.training.losses import distillation, hint_distortion


def test_hint_distortion_sums_over_values_and_layers_and_averages_over_the_batch() -> None:
    student = [torch.zeros(2, 3, 2, 2), torch.zeros(2, 5)]
    teacher = [torch.full((2, 3, 2, 2), 2.0), torch.ones(2, 5)]
    assert float(hint_distortion(student, teacher)) == 12 * 4.0 + 5 * 1.0


def test_distillation_of_the_teacher_itself_is_the_labels_term() -> None:
    logits = torch.randn(6, 4)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    expected = 0.5 * F.cross_entropy(logits, labels)
    torch.testing.assert_close(distillation(logits, logits, labels), expected)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_by_its_formula(temperature: float) -> None:
    logits, teacher = torch.randn(6, 4).double(), torch.randn(6, 4).double()
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    p, q = torch.softmax(teacher / temperature, 1), torch.softmax(logits / temperature, 1)
    divergence = (p * (p / q).log()).sum(1).mean()
    likelihood = torch.softmax(logits, 1)[torch.arange(6), labels].log().mean()
    expected = -0.3 * likelihood + 0.7 * temperature**2 * divergence
    found = distillation(logits, teacher, labels, alpha=0.3, temperature=temperature)
    torch.testing.assert_close(found, expected)
