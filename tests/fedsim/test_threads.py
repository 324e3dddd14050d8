"""torch's threads for a while."""

from contextlib import suppress

import torch

from fedsim.threads import torch_threads


def test_they_are_put_back_whatever_happens() -> None:
    before = torch.get_num_threads()
    inside = 0
    with suppress(KeyError), torch_threads(before + 1):
        inside = torch.get_num_threads()
        raise KeyError
    assert inside == before + 1
    assert torch.get_num_threads() == before


def test_none_leaves_them_as_they_are() -> None:
    before = torch.get_num_threads()
    with torch_threads(None):
        assert torch.get_num_threads() == before
