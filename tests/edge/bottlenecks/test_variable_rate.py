"""One model, several rates: what a level costs and gives, and that all levels decode side by side."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edge.bottlenecks import FactorizedPrior, NotFrozenError, PayloadError
from edge.bottlenecks.gained_prior import GainedPrior
from edge.bottlenecks.variable_rate import VariableRateBottleneck

LEVELS = 3


def made(**options: Any) -> VariableRateBottleneck:
    widths = {"channels": 4, "encoder_channels": (8, 6), "decoder_channels": (8, 8)}
    return VariableRateBottleneck((1, 8, 8), **{**widths, "levels": LEVELS, "span": 64.0, **options})


def pictures(count: int, seed: int) -> Tensor:
    """Smooth random pictures, so that there is something to leave out."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 3, 3, generator=generator)
    return torch.nn.functional.interpolate(coarse, (8, 8), mode="bilinear", align_corners=True)


@pytest.fixture(scope="module")
def trained() -> VariableRateBottleneck:
    torch.manual_seed(0)
    bottleneck = made()
    bottleneck.prepare_training()
    optimiser = torch.optim.Adam(bottleneck.parameters(), 4e-3)
    images = pictures(512, 0)
    for step in range(120):
        if step == 20:
            bottleneck.calibrate(images[:128])
        batch = images[torch.randint(len(images), (16,))]
        done = bottleneck.training_pass(batch)
        distortion = (done.reconstruction - batch).square().flatten(1).sum(1)
        optimiser.zero_grad()
        (distortion + 1e-3 * done.rate).mean().backward()
        optimiser.step()
    bottleneck.eval().freeze()
    return bottleneck


def test_a_higher_level_takes_more_bytes_and_loses_less(trained: VariableRateBottleneck) -> None:
    images = pictures(64, 1)
    sizes, losses = [], []
    for level in range(LEVELS):
        payloads = trained.encode_at(images, level)
        sizes.append(sum(map(len, payloads)) / len(payloads))
        losses.append(float((trained.decode(payloads) - images).square().mean()))
    assert sizes == sorted(sizes)
    assert sizes[-1] > 1.5 * sizes[0]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5 * float(images.var())


def test_levels_decode_side_by_side(trained: VariableRateBottleneck) -> None:
    images = pictures(6, 2)
    levels = [2, 0, 1, 1, 0, 2]
    payloads = [trained.encode_at(image[None], level)[0] for image, level in zip(images, levels, strict=True)]
    assert [payload[0] for payload in payloads] == levels
    with torch.no_grad():
        each = [trained.transmit_at(i[None], level) for i, level in zip(images, levels, strict=True)]
    torch.testing.assert_close(trained.decode(payloads), torch.cat(each))
    assert trained.encode(images) == trained.encode_at(images, LEVELS - 1)


def test_the_tables_of_every_gain_say_what_training_said() -> None:
    torch.manual_seed(0)
    prior = GainedPrior(3)
    prior.prepare_training()
    code = torch.distributions.Laplace(torch.tensor([-1.0, 0.0, 2.0]), 3.0).sample((64, 49)).transpose(1, 2)
    prior.fit_scale(code)
    gains = torch.tensor([[0.5], [1.0], [4.0]]).expand(3, 3)
    optimiser = torch.optim.Adam(prior.parameters(), 2e-2)
    for step in range(120):
        optimiser.zero_grad()
        prior(code, gains[(torch.arange(64) + step) % 3, :, None])[1].mean().backward()
        optimiser.step()
    tables = prior.tables_of(gains)
    for level, row in enumerate(gains):
        with torch.no_grad():
            noisy, bits = prior(code, row[:, None])
            symbols = prior.rounded(code, row[:, None]).transpose(0, 1).flatten(1).numpy().astype(np.int32)
        assert float((noisy - row[:, None] * code).abs().max()) <= 0.501
        coded = tables.bits(np.tile(symbols, (3, 1)))[3 * level : 3 * level + 3].sum() / 64
        assert coded == pytest.approx(float(bits.mean()), rel=0.03)


def test_payloads_are_close_to_their_information(trained: VariableRateBottleneck) -> None:
    for level in range(LEVELS):
        for payload in trained.encode_at(pictures(16, 4), level):
            assert abs(len(payload) - trained.ideal_bits(payload) / 8) <= 6


def test_one_density_gives_the_tables_of_every_gain() -> None:
    torch.manual_seed(0)
    prior = GainedPrior(2)
    prior.prepare_training(2.0)
    plain = FactorizedPrior(2)
    plain.density = copy.deepcopy(prior.density)
    plain.freeze()
    assert plain.tables is not None
    tables = prior.tables_of(torch.tensor([[1.0, 1.0], [0.25, 2.0]]))
    symbols = np.arange(-12, 13, dtype=np.int32)
    np.testing.assert_allclose(
        tables.bits(np.tile(symbols, (4, 1)))[:2], plain.tables.bits(np.tile(symbols, (2, 1))), rtol=1e-4
    )
    # At gain 1/4 a bin is four of gain 1 (about the median: one whole, and halves at odd places: use sums).
    masses = 2.0 ** -tables.bits(np.tile(symbols, (4, 1)))
    fine, coarse, finer = masses[0], masses[2], masses[3]
    assert coarse[12] == pytest.approx(fine[11:14].sum() + (fine[10] + fine[14]) / 2, rel=0.02)
    assert finer[12] == pytest.approx(masses[1][12] / 2, rel=0.02)


def test_the_rate_is_weighted_by_level() -> None:
    torch.manual_seed(0)
    bottleneck = made()
    bottleneck.prepare_training()
    assert bottleneck.weights == pytest.approx([64.0, 8.0, 1.0])
    _, bits, rate, penalty = bottleneck.training_pass(pictures(64, 5))
    ratios = (rate / bits).tolist()
    assert {round(ratio) for ratio in ratios} == {64, 8, 1}
    assert not penalty.any()
    # The gains start at the inverse square root: a step of 8 for the weight of 64.
    torch.testing.assert_close(bottleneck.gains[:, 0].detach(), torch.tensor([1 / 8, 8**-0.5, 1.0]))
    torch.testing.assert_close(bottleneck.gains * bottleneck.inverse_gains, torch.ones(LEVELS, 4))


def test_training_and_rehearsal_draw_a_level_for_each_sample(trained: VariableRateBottleneck) -> None:
    torch.manual_seed(0)
    image = pictures(1, 6)
    with torch.no_grad():
        each = torch.cat([trained.transmit_at(image, level) for level in range(LEVELS)])
        rehearsed = trained.rehearse(image.expand(32, -1, -1, -1))
    nearest = (rehearsed[:, None] - each[None]).abs().flatten(2).amax(2)
    assert float(nearest.min(1).values.max()) < 1e-4
    assert set(nearest.argmin(1).tolist()) == set(range(LEVELS))
    bits = trained.training_pass(image.expand(64, -1, -1, -1)).bits.detach()
    assert float(bits.max()) > 2 * float(bits.min())


def test_gains_are_part_of_the_fingerprint(trained: VariableRateBottleneck) -> None:
    def fingerprint_with(change: float, name: str) -> bytes:
        other = made()
        state = {key: value.clone() for key, value in trained.state_dict().items() if "density" not in key}
        state[name].view(-1)[0] += change
        other.load_state_dict(state)
        assert trained.tables is not None
        other.load_tables(trained.tables)
        return other.fingerprint

    for name in ("gains", "inverse_gains", "prior.medians"):
        assert fingerprint_with(0.0, name) == trained.fingerprint
        assert fingerprint_with(1e-3, name) != trained.fingerprint


def test_a_payload_without_a_level_is_refused(trained: VariableRateBottleneck) -> None:
    payload = trained.encode(pictures(1, 7))[0]
    with pytest.raises(PayloadError, match="level, 0 to 2; this one begins with 3"):
        trained.decode([b"\3" + payload[1:]])
    with pytest.raises(PayloadError, match="this one is empty"):
        trained.decode([b""])
    with pytest.raises(PayloadError, match="empty payload"):
        trained.decode([payload[:1]])


def test_levels_and_options_out_of_range_are_named(trained: VariableRateBottleneck) -> None:
    with pytest.raises(ValueError, match="level is 3, allowed are whole numbers of 0 to 2"):
        trained.encode_at(pictures(1, 0), 3)
    with pytest.raises(ValueError, match="levels is 1, allowed are whole numbers of 2 to 256"):
        made(levels=1)
    with pytest.raises(ValueError, match="span is 1, allowed are numbers of more than 1"):
        made(span=1)
    assert trained.tables is not None
    with pytest.raises(ValueError, match="12 frequency tables for 4 levels of 4 channels"):
        made(levels=4).load_tables(trained.tables)
    with pytest.raises(NotFrozenError, match="freeze"):
        made().encode(pictures(1, 0))
