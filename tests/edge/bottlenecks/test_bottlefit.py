"""BottleFit: published sizes, the quantiser after training, exact payload sizes, tables from histograms."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from edge.bottlenecks import NotFrozenError, PayloadError, create
from edge.bottlenecks.bottlefit import BottleFit
from edge.coding import PRECISION


def bottlefit(
    shape: tuple[int, ...] = (3, 12, 12), target: tuple[int, ...] = (8, 6, 6), **options: Any
) -> BottleFit:
    torch.manual_seed(0)
    made = create("bottlefit", shape, target, **{"channels": 3, "widths": (8, 8), **options})
    assert isinstance(made, BottleFit)
    return made.eval()


def frozen(samples: int = 32, **options: Any) -> tuple[BottleFit, torch.Tensor]:
    made = bottlefit(**options)
    features = torch.rand(samples, *made.input_shape)
    made.observe(features)
    made.freeze()
    return made, features


@pytest.mark.parametrize("channels", [1, 3, 12])
def test_published_sizes(channels: int) -> None:
    # ResNet-152, everything up to layer2: a code of channels x 29 x 29, 841 bytes a channel at 8 bits.
    made = create("bottlefit", (3, 224, 224), (512, 28, 28), channels=channels).eval()
    image = torch.rand(1, 3, 224, 224)
    made.observe(image)
    made.freeze()
    assert made.code_shape == (channels, 29, 29)
    assert [len(payload) for payload in made.encode(image)] == [841 * channels]
    assert made.ideal_bits(made.encode(image)[0]) == 8 * 841 * channels


def test_published_layers() -> None:
    # Weights without biases and two for each normalised channel, of the published list of layers.
    made = create("bottlefit", (3, 224, 224), (512, 28, 28), channels=12)
    encoder = 3 * 64 * 49 + 2 * 64 + 2 * 64 + 64 * 12 * 4
    decoder = 2 * 12 + 12 * 512 * 4 + 3 * (2 * 512 + 512 * 512 * 4)
    assert sum(p.numel() for p in made.encoder.parameters()) == encoder == 12_736
    assert sum(p.numel() for p in made.decoder.parameters()) == decoder == 3_173_400


@pytest.mark.parametrize("ratio", [1, 2, 4, 8])
@pytest.mark.parametrize("side", [1, 2, 7, 8, 9, 13, 28, 33])
def test_all_sides_and_ratios_lead_to_the_output(ratio: int, side: int) -> None:
    other = side + 3
    target = (5, -(-side // ratio), -(-other // ratio))
    made = bottlefit((2, side, other), target, channels=2)
    features = torch.rand(2, 2, side, other)
    assert tuple(made.encoder(features).shape[1:]) == made.code_shape == (2, target[1] + 1, target[2] + 1)
    assert tuple(made(features)[0].shape[1:]) == target


@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_payloads_have_exactly_their_symbols_bits(bits: int) -> None:
    made, features = frozen(4, bits=bits)
    assert {len(payload) for payload in made.encode(features)} == {-(-3 * 7 * 7 * bits // 8)}


def test_before_freeze_the_code_is_not_quantised_and_the_rate_is_constant() -> None:
    made = bottlefit(bits=2)
    features = torch.rand(5, 3, 12, 12)
    reconstruction, bits = made(features)
    assert torch.equal(reconstruction, made.decoder(made.encoder(features)))
    assert bits.tolist() == [2 * 3 * 7 * 7] * 5
    terms = made.training_pass(features)
    assert torch.equal(terms.rate, bits)
    assert not made.rate_weighted


@pytest.mark.parametrize("entropy_coding", [False, True])
def test_after_freeze_training_sees_what_the_server_sees(entropy_coding: bool) -> None:
    made, features = frozen(bits=2, entropy_coding=entropy_coding)
    payloads = made.encode(features)
    reconstruction, bits = made(features)
    torch.testing.assert_close(reconstruction, made.decode(payloads))
    ideal = [made.ideal_bits(payload) for payload in payloads]
    np.testing.assert_allclose(bits.numpy(), ideal, rtol=1e-6)
    made.zero_grad()
    reconstruction.square().sum().backward()
    first = made.encoder[0].weight
    assert first.grad is not None
    assert float(first.grad.abs().sum()) > 0  # straight through the rounding


def test_rehearsal_reaches_the_decoder_alone() -> None:
    made, features = frozen(bits=3)
    made.zero_grad()
    made.rehearse(features).square().sum().backward()
    assert all(p.grad is None for p in made.encoder.parameters())
    assert all(p.grad is not None for p in made.decoder.parameters())


def test_payloads_and_statistics_of_a_frozen_encoder_do_not_change_in_training_mode() -> None:
    made, features = frozen(bits=8)
    expected, state = made.encode(features), {n: v.clone() for n, v in made.encoder.state_dict().items()}
    made.train()
    made.rehearse(features)
    made.observe(features)
    assert made.encode(features) == expected
    assert all(torch.equal(value, state[name]) for name, value in made.encoder.state_dict().items())
    assert all(part.training for part in made.encoder.modules())


def test_more_bits_are_closer_to_the_code() -> None:
    errors = []
    for bits in range(1, 9):
        made, features = frozen(8, bits=bits)
        code = made.encoder(features).detach()
        errors.append(float((made.quantiser.values(made.quantiser.symbols(code)) - code).square().mean()))
    assert all(b < a / 2 for a, b in pairwise(errors))
    assert errors[-1] < errors[0] / 1000


def test_the_range_is_that_of_the_observed_codes() -> None:
    made = bottlefit(bits=4)
    batches = torch.rand(3, 10, 3, 12, 12) * torch.tensor([1.0, 5.0, 2.0])[:, None, None, None, None]
    for batch in batches:
        made.observe(batch)
    made.freeze()
    with torch.no_grad():
        codes = made.encoder(batches.flatten(0, 1))
    ends = made.quantiser.values(torch.tensor([0, 15]))
    torch.testing.assert_close(ends, torch.stack([codes.min(), codes.max()]), rtol=1e-4, atol=1e-5)


def test_tables_are_the_histogram_of_each_channel_with_one_added() -> None:
    made, features = frozen(bits=3, entropy_coding=True)
    with torch.no_grad():
        symbols = made.quantiser.symbols(made.encoder(features)).transpose(0, 1).flatten(1).long()
    assert made.tables is not None
    total = symbols.shape[1] + 8
    for row, table, offset in zip(symbols, made.tables.frequencies, made.tables.offsets, strict=True):
        expected = (np.bincount(row.numpy(), minlength=8) + 1) / total
        np.testing.assert_allclose(table[:-1] / 2**PRECISION, expected, atol=1e-6)
        assert (len(table), offset, table[-1]) == (9, 0, 1)  # what is not counted has next to no share


def test_entropy_coding_reaches_the_entropy_of_the_symbols() -> None:
    made, features = frozen(64, bits=4, entropy_coding=True)
    with torch.no_grad():
        symbols = made.quantiser.symbols(made.encoder(features)).transpose(0, 1).flatten(1).long().numpy()
    shares = [np.bincount(row, minlength=16) / row.size for row in symbols]
    entropy = sum(-(p[p > 0] * np.log2(p[p > 0])).sum() for p in shares) * 7 * 7 / 8
    payloads = made.encode(features)
    mean = float(np.mean([len(payload) for payload in payloads]))
    assert entropy < mean < 1.02 * entropy + 1
    packed, _ = frozen(64, bits=4)
    assert mean < 0.95 * len(packed.encode(features)[0])
    assert torch.equal(packed.decode(packed.encode(features)), made.decode(payloads))


def test_freezing_needs_observations() -> None:
    made = bottlefit()
    with pytest.raises(RuntimeError, match=r"call observe\(features\) before freeze\(\)"):
        made.freeze()
    for use in (made.encode, made.transmit, made.rehearse):
        with pytest.raises(NotFrozenError, match="observe"):
            use(torch.rand(1, 3, 12, 12))
    with pytest.raises(NotFrozenError):
        made.decode([bytes(147)])


def test_damaged_payloads_are_refused() -> None:
    made, features = frozen(bits=3)
    payload = made.encode(features[:1])[0]
    assert len(payload) == 56  # of 441 bits in 448
    with pytest.raises(PayloadError, match="payload of 55 bytes, expected 56"):
        made.decode([payload[:-1]])
    with pytest.raises(PayloadError, match="bits are set behind"):
        made.decode([payload[:-1] + bytes([payload[-1] | 1])])


def test_the_fingerprint_names_the_quantiser() -> None:
    made, features = frozen()
    before = made.fingerprint
    made.observe(features * 2)
    made.freeze()
    assert made.fingerprint != before
    assert frozen(bits=7)[0].fingerprint != before


def test_tables_belong_to_entropy_coding() -> None:
    coded, _ = frozen(entropy_coding=True)
    assert coded.tables is not None
    with pytest.raises(TypeError, match="without entropy_coding has no frequency tables"):
        bottlefit().load_tables(coded.tables)
    with pytest.raises(ValueError, match="3 frequency tables for 2 channels"):
        bottlefit(channels=2, entropy_coding=True).load_tables(coded.tables)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"channels": 0}, "channels is 0"),
        ({"bits": 9}, "bits is 9, allowed are whole numbers of 1 to 8"),
        ({"entropy_coding": 1}, "entropy_coding is 1, allowed are true and false"),
        ({"percentile": 50}, "percentile is 50, allowed are numbers above 50"),
        ({"percentile": "all"}, "percentile is 'all'"),
        ({"widths": [4]}, r"widths is \[4\], allowed are two widths"),
        ({"widths": "ab"}, r"widths is 'ab', allowed are two widths"),
        ({"widths": [4, 0]}, r"widths\[1\] is 0"),
        ({"shape": (3, 12, 12), "target": (8, 5, 5)}, "ratio 1, 2, 4 or 8"),
        ({"shape": (12,), "target": (8, 5, 5)}, r"needs shapes \(C, H, W\)"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        bottlefit(**options)
