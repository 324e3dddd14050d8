import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import FederationError
from fedsim.federated.episodes import Episodes, prototypical_loss, prototypical_scores
from fedsim.training.loop import Images

CLASSES, EACH, SIDE = 6, 7, 4


def numbered(height=SIDE, width=SIDE):
    """Every image has its label and number in its first row, so that it is known again when it is turned."""
    labels = torch.arange(CLASSES).repeat(EACH)
    pixels = torch.zeros(len(labels), 1, height, width, dtype=torch.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = (labels + 1).byte(), torch.arange(len(labels)).byte()
    return Images(pixels, labels)


def told(image):
    """Label, number and quarter turns of an image of :func:`numbered`."""
    for turns in range(4):
        upright = torch.rot90(image, -turns, (-2, -1))
        if upright[0, 0, 0]:
            return int(upright[0, 0, 0]) - 1, int(upright[0, 0, 1]), turns
    raise AssertionError("no image of ours")


@given(st.integers(2, 12), st.integers(2, EACH), st.booleans(), st.integers(0, 2**32 - 1))
def test_different_samples_of_different_classes(ways, samples, rotations, seed):
    classes = [0, 2, 3, 5]
    episodes = Episodes(numbered(), classes, samples, rotations)
    assert episodes.ways == (16 if rotations else 4)
    ways = min(ways, episodes.ways)
    pixels = episodes.draw(ways, torch.Generator().manual_seed(seed))
    assert pixels.shape == (ways, samples, 1, SIDE, SIDE)
    assert pixels.dtype == torch.uint8
    drawn = [[told(image) for image in group] for group in pixels]
    owners = [{(label, turns) for label, _, turns in group} for group in drawn]
    assert all(len(one) == 1 for one in owners)
    assert len(set.union(*owners)) == ways
    assert {label for one in owners for label, _ in one} <= set(classes)
    assert rotations or all(turns == 0 for group in drawn for _, _, turns in group)
    for group in drawn:
        assert len({number for _, number, _ in group}) == samples
        assert all(number % CLASSES == label for label, number, _ in group)


def test_all_ways_are_all_classes_in_all_turns():
    episodes = Episodes(numbered(), range(CLASSES), 2, rotations=True)
    pixels = episodes.draw(episodes.ways, torch.Generator().manual_seed(0))
    found = {(label, turns) for label, _, turns in map(told, pixels[:, 0])}
    assert found == {(label, turns) for label in range(CLASSES) for turns in range(4)}


@given(st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_samples_are_moved_and_edges_go_on(shift, seed):
    pixels = torch.arange(2 * 1 * 2 * 5 * 4, dtype=torch.uint8).reshape(2, 2, 5, 4)
    episodes = Episodes(Images(pixels, torch.tensor([0, 1])), [0, 1], 1, shift=shift)
    found = episodes.draw(2, torch.Generator().manual_seed(seed))
    assert found.shape == (2, 1, 2, 5, 4)
    edge = (shift,) * 4
    whole = F.pad(pixels.float(), edge, mode="replicate").byte()
    moves = range(2 * shift + 1)
    allowed = [whole[:, :, down : down + 5, right : right + 4] for down in moves for right in moves]
    for one in found[:, 0]:
        assert any(torch.equal(one, image) for group in allowed for image in group)


def test_each_sample_is_moved_by_itself():
    images = Images(torch.rand(1, 1, 28, 28).mul(255).byte().expand(20, -1, -1, -1), torch.zeros(20))
    drawn = Episodes(images, [0], 20, shift=2).draw(1, torch.Generator().manual_seed(0))
    assert len(torch.unique(drawn[0], dim=0)) > 10
    still = Episodes(images, [0], 20).draw(1, torch.Generator().manual_seed(0))
    assert torch.equal(still[0], images.pixels)


def test_the_images_stay_as_they_are():
    images = numbered()
    before = images.pixels.clone()
    Episodes(images, range(CLASSES), 3, rotations=True).draw(10, torch.Generator().manual_seed(0))
    assert torch.equal(images.pixels, before)


def test_the_loss_is_that_of_the_paper():
    """Equation 2, one query after the other."""
    ways, shots, queries, dimension = 4, 3, 2, 5
    features = torch.randn(ways, shots + queries, dimension, generator=torch.Generator().manual_seed(0))
    prototypes = [features[way, :shots].mean(0) for way in range(ways)]
    losses, right = [], 0
    for way in range(ways):
        for query in features[way, shots:]:
            distances = torch.stack([((query - one) ** 2).sum() for one in prototypes])
            losses.append(-F.log_softmax(-distances, 0)[way])
            right += int(distances.argmin() == way)
    loss, share = prototypical_loss(features, shots)
    assert float(loss) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    assert share == pytest.approx(right / (ways * queries))
    scores, labels = prototypical_scores(features, shots)
    assert scores.shape == (ways * queries, ways)
    assert labels.tolist() == np.repeat(np.arange(ways), queries).tolist()


def test_episodes_that_cannot_be():
    with pytest.raises(FederationError, match="base class 3 has 7 samples, shots and queries need 8"):
        Episodes(numbered(), [3], 8)
    with pytest.raises(FederationError, match="images of 4x5 cannot be turned"):
        Episodes(numbered(4, 5), [3], 2, rotations=True)
    assert Episodes(numbered(4, 5), [3], 2).ways == 1
