import pytest
import torch
from torch import Tensor

from fedsim.training.loop import Images, as_input, batches
from fedsim.training.memo import Memo


@pytest.mark.parametrize(("limit", "calls"), [(1 << 30, 4), (1000, 11)])
def test_a_batch_gets_what_its_samples_compute_to(limit: int, calls: int) -> None:
    # One call to learn the size; then 600 samples in three chunks at once, or each of ten batches anew.
    images = Images(torch.randint(0, 256, (600, 1, 2, 2), dtype=torch.uint8), torch.arange(600))
    seen: list[int] = []

    def compute(inputs: Tensor) -> list[Tensor]:
        seen.append(len(inputs))
        return [inputs * 2, inputs.flatten(1).sum(1)]

    memo = Memo(compute, images, limit)
    for batch in batches(images, 60, torch.Generator().manual_seed(0)):
        doubled, sums = memo(batch)
        inputs = as_input(images.pixels[batch.labels])
        assert torch.equal(batch.inputs, inputs)
        torch.testing.assert_close(doubled, inputs * 2)
        torch.testing.assert_close(sums, inputs.flatten(1).sum(1))
    assert len(seen) == calls
