"""Residual vector quantisation: losses, levels, prefixes, and what the indices cost."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from edge.bottlenecks import PayloadError, create
from edge.bottlenecks.vq import VectorQuantizedBottleneck


def made(**options: object) -> VectorQuantizedBottleneck:
    small = {"channels": 6, "codes": 16, "encoder_channels": (12, 12), "decoder_channels": (24, 12)}
    bottleneck = create("vq", (1, 8, 8), (4, 4, 4), **{**small, **options})
    assert isinstance(bottleneck, VectorQuantizedBottleneck)
    return bottleneck


def images(count: int, seed: int) -> Tensor:
    """Smooth random images [N, 1, 8, 8]."""
    coarse = torch.randn(count, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (8, 8), mode="bicubic")


def target(features: Tensor) -> Tensor:
    """What the toy is to reconstruct: the images' quarters, [N, 4, 4, 4]."""
    return torch.nn.functional.pixel_unshuffle(features, 2)


def errors(reconstruction: Tensor, features: Tensor) -> float:
    return float((reconstruction - target(features)).square().flatten(1).sum(1).mean())


@pytest.fixture(scope="module")
def trained() -> VectorQuantizedBottleneck:
    torch.manual_seed(0)
    bottleneck, features = made(), images(256, 1)
    bottleneck.prepare_training()
    bottleneck.train()
    optimiser = torch.optim.Adam(bottleneck.parameters(), 3e-3)
    for step in range(90):
        if step == 30:
            bottleneck.calibrate(features)
        batch = features[torch.randint(256, (32,))]
        found = bottleneck.training_pass(batch)
        distortion = (found.reconstruction - target(batch)).square().flatten(1).sum(1)
        optimiser.zero_grad()
        (distortion + found.penalty).mean().backward()
        optimiser.step()
    bottleneck.eval()
    for batch in features.split(200):
        bottleneck.observe(batch)
    bottleneck.freeze()
    return bottleneck


def test_error_falls_and_bytes_rise_with_the_level(trained: VectorQuantizedBottleneck) -> None:
    features = images(64, 2)
    assert trained.levels == 4
    distortion, size = [], []
    for level in range(trained.levels):
        payloads = trained.encode_at(features, level)
        distortion.append(errors(trained.decode(payloads), features))
        size.append(np.mean([len(payload) for payload in payloads]))
    assert distortion == sorted(distortion, reverse=True)
    assert size == sorted(size)
    assert size[3] > 3 * size[0]
    variance = errors(torch.zeros(64, 4, 4, 4), features)
    assert distortion[0] < variance / 2
    assert distortion[3] < 0.9 * distortion[0]


def test_every_prefix_decodes_as_the_level_that_it_holds(trained: VectorQuantizedBottleneck) -> None:
    features = images(10, 3)
    by_level = [trained.transmit_at(features, level).detach() for level in range(4)]
    sizes = [[len(p) for p in trained.encode_at(features, level)] for level in range(4)]
    for sample, payload in enumerate(trained.encode(features)):
        held = []
        for length in range(len(payload) + 1):
            try:
                stages = trained.stages_in(payload[:length])
            except PayloadError:
                stages = 0
                with pytest.raises(PayloadError, match="without one whole row"):
                    trained.decode([payload[:length]])
            else:
                decoded = trained.decode([payload[:length]])[0]
                torch.testing.assert_close(decoded, by_level[stages - 1][sample])
            held.append(stages)
        assert held == sorted(held)
        assert held[-1] == 4
        # A cut stream is as good as one that was made for the level: to 2 bytes.
        for level in range(3):
            assert held.index(level + 1) <= sizes[level][sample] + 2


def test_levels_may_be_mixed_in_a_batch(trained: VectorQuantizedBottleneck) -> None:
    features = images(8, 4)
    levels = [0, 3, 1, 2, 2, 0, 3, 1]
    payloads = [trained.encode_at(f[None], level)[0] for f, level in zip(features, levels, strict=True)]
    assert [trained.stages_in(payload) - 1 for payload in payloads] == levels
    expected = [trained.transmit_at(f[None], level) for f, level in zip(features, levels, strict=True)]
    torch.testing.assert_close(trained.decode(payloads), torch.cat(expected))
    assert trained.encode(features) == trained.encode_at(features, 3)
    with pytest.raises(ValueError, match="level is 4, allowed are whole numbers of 0 to 3"):
        trained.encode_at(features, 4)


def test_a_payload_stands_for_the_sum_of_its_code_vectors(trained: VectorQuantizedBottleneck) -> None:
    features = images(3, 5)
    with torch.no_grad():
        code = trained.encoder(features)
        residual = code.permute(0, 2, 3, 1)
        total = torch.zeros_like(residual)
        for stage in trained.stages:
            codes = stage.codes[0]
            nearest = codes[torch.cdist(residual.reshape(-1, 6), codes).argmin(1)].view_as(residual)
            total, residual = total + nearest, residual - nearest
        expected = trained.decoder(total.permute(0, 3, 1, 2))
    torch.testing.assert_close(trained.decode(trained.encode(features)), expected)


def test_payloads_are_as_long_as_the_entropy_of_their_indices(trained: VectorQuantizedBottleneck) -> None:
    features = images(256, 1)  # what was observed
    payloads = trained.encode(features)
    entropy = 0.0
    for stage in trained.stages:
        share = stage.counts[0] / stage.counts.sum()
        assert stage.counts.sum() == 256 * 9
        entropy -= 9 * float((share * np.log2(share, where=share > 0, out=np.zeros(16))).sum())
    ideal = np.array([trained.ideal_bits(payload) for payload in payloads])
    assert ideal.mean() == pytest.approx(entropy, rel=1e-3)  # what the smoothing costs
    coded = np.array([len(payload) for payload in payloads])
    assert (coded - ideal / 8 <= 2.5).all()
    with torch.no_grad():
        torch.testing.assert_close(trained(features)[1].numpy().astype(float), ideal, rtol=1e-5, atol=0)


def test_hardly_a_code_of_a_trained_codebook_is_idle(trained: VectorQuantizedBottleneck) -> None:
    for stage in trained.stages:
        assert (stage.counts > 0).sum() >= 14


def test_one_stage_is_the_published_loss() -> None:
    torch.manual_seed(0)
    bottleneck, features = made(stages=1, commitment=0.25), images(16, 6)
    bottleneck.prepare_training()
    bottleneck.calibrate(features)
    bottleneck.eval()
    code = bottleneck.encoder(features)
    vectors = bottleneck._quantised(code, torch.ones(16))[0]
    found = bottleneck.training_pass(features)
    torch.testing.assert_close(found.penalty, 0.25 * (code - vectors).square().flatten(1).sum(1))
    torch.testing.assert_close(found.reconstruction, bottleneck.decoder(vectors))
    # Straight through: the encoder's gradient is that of the quantised code, and the commitment's.
    weights = torch.randn_like(found.reconstruction)
    loss = (found.reconstruction * weights).sum() + found.penalty.sum()
    ours = torch.autograd.grad(loss, list(bottleneck.encoder.parameters()))
    leaf = vectors.clone().requires_grad_()
    (through,) = torch.autograd.grad((bottleneck.decoder(leaf) * weights).sum(), leaf)
    pulled = through + 2 * 0.25 * (code - vectors).detach()
    theirs = torch.autograd.grad(code, list(bottleneck.encoder.parameters()), pulled)
    torch.testing.assert_close(ours, theirs)


def test_training_and_rehearsal_draw_every_level(trained: VectorQuantizedBottleneck) -> None:
    torch.manual_seed(0)
    features = images(1, 7).repeat(64, 1, 1, 1)
    with torch.no_grad():
        by_level = torch.cat([trained.transmit_at(features[:1], level) for level in range(4)])
        for drawn in (trained.training_pass(features).reconstruction, trained.rehearse(features)):
            distances = (drawn[:, None] - by_level).square().flatten(2).sum(2)
            assert float(distances.amin(1).max()) < 1e-6
            counts = Counter(distances.argmin(1).tolist())
            assert set(counts) == {0, 1, 2, 3}
            assert min(counts.values()) >= 6


def test_rehearsal_reaches_the_decoder_only(trained: VectorQuantizedBottleneck) -> None:
    trained.zero_grad()
    trained.rehearse(images(4, 8)).square().sum().backward()
    assert all(p.grad is not None for p in trained.decoder.parameters())
    assert all(p.grad is None for p in trained.encoder.parameters())


def test_codebooks_learn_in_train_mode_until_frozen() -> None:
    torch.manual_seed(0)
    bottleneck, features = made(), images(32, 9)
    bottleneck.prepare_training()

    def codes() -> Tensor:
        return torch.cat([stage.codes for stage in bottleneck.stages]).clone()

    assert not codes().any()
    bottleneck.train()
    bottleneck(features)
    started = codes()
    assert started.any()
    bottleneck.training_pass(images(32, 10))
    learned = codes()
    assert not torch.equal(learned, started)
    bottleneck.eval()
    bottleneck(images(32, 11))
    bottleneck.observe(features)
    bottleneck.freeze()
    bottleneck.train()
    bottleneck(images(32, 12))
    assert torch.equal(codes(), learned)


def test_without_observation_an_index_takes_the_bits_of_its_number() -> None:
    bottleneck = made(codes=16, stages=2).eval()
    bottleneck.freeze()
    payload = bottleneck.encode(images(1, 1))[0]
    assert bottleneck.ideal_bits(payload) == pytest.approx(9 * 2 * 4, abs=1e-3)
    assert bottleneck.ideal_bits(bottleneck.encode_at(images(1, 1), 0)[0]) == pytest.approx(9 * 4, abs=1e-3)


def test_the_fingerprint_names_the_code_vectors() -> None:
    bottleneck = made()
    before = bottleneck.fingerprint
    bottleneck.stages[3].codes[0, 5, 2] += 1e-3
    assert bottleneck.fingerprint != before


def test_training_runs_in_half_precision_with_codebooks_in_full() -> None:
    torch.manual_seed(0)
    bottleneck, features = made(), images(32, 9)
    bottleneck.prepare_training()
    bottleneck.train()
    with torch.autocast("cpu", torch.bfloat16):
        found = bottleneck.training_pass(features)
    (found.reconstruction.square().mean() + found.penalty.mean()).backward()
    assert all(stage.codes.dtype == torch.float32 for stage in bottleneck.stages)
    assert all(bool(torch.isfinite(p.grad).all()) for p in bottleneck.parameters() if p.grad is not None)
    assert bool(torch.isfinite(found.bits).all())


def test_tables_of_another_size_are_refused(trained: VectorQuantizedBottleneck) -> None:
    assert trained.tables is not None
    with pytest.raises(ValueError, match=r"\[16, 16, 16, 16\] symbols for 3 stages of 16 codes"):
        made(stages=3).load_tables(trained.tables)
    with pytest.raises(ValueError, match="for 4 stages of 8 codes"):
        made(codes=8).load_tables(trained.tables)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"codes": 1}, "codes is 1, allowed are whole numbers of 2 to 65534"),
        ({"stages": 0}, "stages is 0, allowed are whole numbers of 1 to 255"),
        ({"commitment": -1}, "commitment is -1, allowed are finite numbers of 0 or more"),
        ({"commitment": True}, "commitment is True"),
        ({"encoder_channels": []}, r"encoder_channels is \[\], allowed are two widths"),
        ({"commitment": math.nan}, "commitment is nan"),
        ({"commitment": "a"}, "commitment is 'a'"),
        ({"channels": 0}, "channels is 0"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made(**options)
