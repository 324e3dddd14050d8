"""Scale and mean-scale hyperprior: side information that every machine reads alike, and that pays."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge.bottlenecks import NotFrozenError, create
from edge.bottlenecks import gaussian_conditional as gaussian
from edge.bottlenecks.hyperprior import HyperpriorBottleneck
from edge.bottlenecks.integer_network import FRACTION_BITS
from edge.coding import FrequencyTables

GOLDEN = Path(__file__).parent / "golden_hyperpriors.json"
FAMILIES = ["hyperprior", "mean-scale-hyperprior"]


def made(name: str, *arguments: object, **options: object) -> HyperpriorBottleneck:
    bottleneck = create(name, *arguments, **options)  # type: ignore[arg-type]
    assert isinstance(bottleneck, HyperpriorBottleneck)
    return bottleneck


def codes(count: int, seed: int) -> Tensor:
    """Codes [N, 4, 12, 12] whose scale varies smoothly over the map, alike in all channels."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(channels: int) -> Tensor:
        coarse = torch.randn(count, channels, 3, 3, generator=generator)
        return F.interpolate(coarse, size=(12, 12), mode="bilinear")

    return 0.5 * smooth(4) + (1.6 * smooth(1)).exp() * torch.randn(count, 4, 12, 12, generator=generator)


def fitted(name: str, steps: int = 260) -> HyperpriorBottleneck:
    """A hyperprior trained on :func:`codes` themselves, frozen: encoder and decoder leave them alone."""
    torch.manual_seed(0)
    bottleneck = made(name, (4, 13, 13), channels=4, hyper_channels=6)
    bottleneck.encoder.analysis = nn.Identity()
    bottleneck.decoder = nn.Identity()
    bottleneck.prepare_training()
    data = codes(512, 1)
    bottleneck.calibrate(data[:128])
    trained = [p for n, p in bottleneck.named_parameters() if "quantiles" not in n]
    optimiser = torch.optim.Adam(trained, 4e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        bottleneck(data[torch.randint(0, len(data), (16,))])[1].mean().backward()
        optimiser.step()
    bottleneck.eval().freeze()
    return bottleneck


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request: pytest.FixtureRequest) -> HyperpriorBottleneck:
    return fitted(request.param)


def test_side_information_pays_and_integers_cost_next_to_nothing(trained: HyperpriorBottleneck) -> None:
    data = codes(24, 2)
    side = coded = floating = continuous = 0.0
    with torch.no_grad():
        for sample in data.split(1):
            code, hyper = trained.encoder(sample)
            payload = trained._payload(code, hyper)
            hyper_symbols, symbols, conditional = trained._read(payload)
            tables = trained._frozen().tables
            side += float(tables.bits_under(hyper_symbols, trained._hyper_tables()).sum())
            coded += float(tables.bits_under(symbols, trained._tables_of(conditional)).sum())
            scale, mean = trained._predicted(trained.hyper_prior.dequantised(hyper))
            residual = (code - mean).round()
            continuous += float(gaussian.bits(residual, scale).sum())
            level = ((scale / gaussian.NARROWEST).log() / gaussian.STEP).round().long()
            chosen = (level + trained.hyper_shape[0]).flatten().numpy()
            floating += float(tables.bits_under(residual.flatten().numpy().astype(np.int32), chosen).sum())
            assert trained.ideal_bits(payload) == pytest.approx(8 * len(payload), abs=64)
    # Integers for floating-point numbers: measured 0.01 % (scale), -0.02 % (mean-scale hyperprior).
    assert coded < 1.001 * floating
    # Levels, tables and escapes for a density whose likelihood is never less than 1e-9: 0.14 %, 0.08 %.
    assert coded < 1.01 * continuous
    # No density for each channel does better than the channel's own histogram on these very samples.
    without = 0.0
    for channel in data.transpose(0, 1).flatten(1).round():
        counts = channel.unique(return_counts=True)[1].double()
        without -= float((counts * (counts / counts.sum()).log2()).sum())
    assert side > 0
    assert side + coded < 0.98 * without


@contextmanager
def onednn(enabled: bool) -> Iterator[None]:
    """Convolutions with or without oneDNN. (torch's own context sets flags that warn without a GPU.)"""
    (before, *_) = torch.backends.mkldnn.set_flags(enabled)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(before)


def conditional_in_other_ways(bottleneck: HyperpriorBottleneck, hyper: Tensor) -> dict[str, list[Tensor]]:
    """Levels and means of hyper symbols [N, *hyper_shape], computed as other machines might."""

    def parts(symbols: Tensor) -> list[Tensor]:
        found = bottleneck._conditional(symbols)
        return [part for part in found if part is not None]

    def one_by_one() -> list[Tensor]:
        return [torch.cat(values) for values in zip(*map(parts, hyper.split(1)), strict=True)]

    ways = {"one by one": one_by_one()}
    before = torch.get_num_threads()
    for enabled in (True, False):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            try:
                with onednn(enabled):
                    ways[f"oneDNN {enabled}, {threads} threads"] = parts(hyper)
            finally:
                torch.set_num_threads(before)
    weight, medians = bottleneck.synthesis.get_buffer("weight0"), bottleneck.hyper_prior.medians
    kept = weight.clone(), medians.clone()
    order = torch.randperm(hyper.shape[1], generator=torch.Generator().manual_seed(0))
    weight.copy_(kept[0][order])
    medians.copy_(kept[1][order])
    ways["another order of summation"] = parts(hyper[:, order])
    weight.copy_(kept[0])
    medians.copy_(kept[1])
    return ways


def test_other_arithmetic_finds_the_same_levels_and_means(trained: HyperpriorBottleneck) -> None:
    generator = torch.Generator().manual_seed(4)
    usual = torch.randint(-6, 7, (16, *trained.hyper_shape), generator=generator)
    wild = torch.randint(-(2**31), 2**31, (8, *trained.hyper_shape), generator=generator)
    hyper = torch.cat([usual, wild])
    expected = [part for part in trained._conditional(hyper) if part is not None]
    assert len(expected[0].unique()) > 3
    for way, found in conditional_in_other_ways(trained, hyper).items():
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)), way


def test_payloads_made_with_other_arithmetic_decode(trained: HyperpriorBottleneck) -> None:
    data = codes(12, 5)
    here = [trained._payload(*trained.encoder(sample)) for sample in data.split(1)]
    with onednn(False), torch.no_grad():
        there = [trained._payload(*trained.encoder(sample)) for sample in data.split(1)]
        read_there = trained.decode(here)
    assert torch.equal(trained.decode(here), read_there)
    for payloads in (here, there):
        error = (trained.decode(payloads) - data).abs().max()
        assert float(error) <= 0.5 + 1e-3


def test_a_code_is_seen_as_it_was_rounded(trained: HyperpriorBottleneck) -> None:
    data = codes(6, 6)
    payloads = [trained._payload(*trained.encoder(sample)) for sample in data.split(1)]
    assert torch.equal(trained.decode(payloads), trained.transmit(data))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_fingerprint_names_all_that_payloads_depend_on(name: str) -> None:
    torch.manual_seed(0)
    bottleneck = made(name, (3, 16, 16), (8, 4, 4), channels=5)
    bottleneck.prepare_training()
    bottleneck.freeze()
    prints = {bottleneck.fingerprint}

    def changed(change: str) -> bytes:
        tables = bottleneck.tables
        assert tables is not None
        if change == "table":
            frequencies = [table.copy() for table in tables.frequencies]
            frequencies[-1][frequencies[-1].argmax()] -= 1
            frequencies[-1][0] += 1
            bottleneck.load_tables(FrequencyTables(tuple(frequencies), tables.offsets))
            found = bottleneck.fingerprint
            bottleneck.load_tables(tables)
            return found
        buffer = bottleneck.get_buffer(change).view(-1)
        kept = buffer.clone()
        buffer[1] += 1
        found = bottleneck.fingerprint
        buffer.copy_(kept)
        return found

    integers = [f"synthesis.{n}" for n, _ in bottleneck.synthesis.named_buffers()]
    prints |= {changed(change) for change in ["table", "hyper_prior.medians", *integers]}
    assert len(prints) == 1 + 2 + 9
    assert bottleneck.fingerprint in prints


def test_what_a_device_needs_ships_to_it_and_what_only_training_needs_does_not() -> None:
    bottleneck = made("mean-scale-hyperprior", (3, 16, 16), (8, 4, 4), channels=5)
    names = set(bottleneck.state_dict())
    assert {"synthesis.weight0", "synthesis.bias2", "hyper_prior.medians"} <= names
    assert not any("trained" in name for name in names)
    assert sum(name.startswith("encoder.hyper_analysis.") for name in names) == 4


@pytest.mark.parametrize("name", FAMILIES)
def test_decoder_and_tail_train_behind_the_frozen_code(name: str) -> None:
    # SC2's hyperpriors fail here: in train mode, after its update(), they apply z's medians to y.
    torch.manual_seed(0)
    bottleneck = made(name, (3, 16, 16), (8, 4, 4), channels=5, hyper_channels=3)
    features = torch.randn(6, 3, 16, 16) * 20
    bottleneck.prepare_training()
    bottleneck.calibrate(features)
    bottleneck.eval()
    bottleneck.observe(features)
    bottleneck.freeze()
    payloads = bottleneck.encode(features)
    bottleneck.train().requires_grad_(False)
    bottleneck.decoder.requires_grad_(True)
    optimiser = torch.optim.SGD(bottleneck.decoder.parameters(), 1e-2)
    target = torch.rand(6, 8, 4, 4)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = (bottleneck.rehearse(features) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert bottleneck.encode(features) == payloads
    torch.testing.assert_close(bottleneck.decode(payloads), bottleneck.transmit(features))
    # Stage 1 may go on, too: nothing of training was lost or has become another mode.
    assert bottleneck(features)[1].shape == (6,)


def test_calibration_gives_each_channel_its_spread_and_mean() -> None:
    torch.manual_seed(0)
    bottleneck = made("mean-scale-hyperprior", (3, 13, 13), channels=3)
    bottleneck.encoder.analysis = nn.Identity()
    bottleneck.prepare_training()
    spread, centre = torch.tensor([0.4, 3.0, 40.0]), torch.tensor([-7.0, 0.0, 20.0])
    code = torch.randn(64, 3, 12, 12) * spread[:, None, None] + centre[:, None, None]
    bottleneck.calibrate(code)
    with torch.no_grad():
        scale, mean = bottleneck._predicted(bottleneck.encoder(code)[1])
    torch.testing.assert_close(mean.mean((0, 2, 3)), code.mean((0, 2, 3)), atol=1e-3, rtol=0)
    torch.testing.assert_close(scale.log().mean((0, 2, 3)).exp(), spread, atol=0, rtol=0.1)


@pytest.mark.parametrize(("side", "hyper"), [(6, 2), (7, 2), (55, 14), (1, 1)])
def test_codes_of_any_side(side: int, hyper: int) -> None:
    torch.manual_seed(0)
    bottleneck = made("mean-scale-hyperprior", (2, side + 1, side + 1), channels=3, hyper_channels=2)
    assert bottleneck.code_shape == (3, side, side)
    assert bottleneck.hyper_shape == (2, hyper, hyper)
    bottleneck.prepare_training()
    bottleneck.freeze()
    features = torch.rand(1, 2, side + 1, side + 1)
    with torch.no_grad():
        torch.testing.assert_close(
            bottleneck.decode(bottleneck.encode(features)), bottleneck.transmit(features)
        )


@pytest.mark.parametrize("name", FAMILIES)
def test_coding_before_freeze_says_what_to_do(name: str) -> None:
    bottleneck = made(name, (1, 8, 8), (4, 4, 4), channels=2)
    for action in (lambda: bottleneck.encode(torch.rand(1, 1, 8, 8)), lambda: bottleneck.decode([b"a"])):
        with pytest.raises(NotFrozenError, match="freeze"):
            action()
    with pytest.raises(RuntimeError, match="prepare_training"):
        bottleneck(torch.rand(1, 1, 8, 8))


def test_bad_options_and_tables_are_named() -> None:
    with pytest.raises(ValueError, match="hyper_channels is 0, allowed are whole numbers of 1 to 4096"):
        create("hyperprior", (1, 8, 8), (4, 4, 4), hyper_channels=0)
    bottleneck = made("hyperprior", (1, 8, 8), (4, 4, 4), hyper_channels=2)
    with pytest.raises(ValueError, match="64 frequency tables, expected 66"):
        bottleneck.load_tables(gaussian.tables())


# --- golden bitstreams ----------------------------------------------------------------------------


def integers(count: int, low: int, high: int) -> Tensor:
    """The same on every machine and with every version of every library."""
    state, drawn = 1, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        drawn.append(low + (state >> 33) % (high - low + 1))
    return torch.tensor(drawn)


def golden_case(name: str) -> tuple[HyperpriorBottleneck, Tensor, Tensor]:
    """A bottleneck made of integers alone, a code and a hyper code that are exact in float32."""
    bottleneck = made(name, (2, 7, 6), channels=3, hyper_channels=2)
    for number, (key, buffer) in enumerate(bottleneck.synthesis.named_buffers()):
        low, high = {"weight": (-9000, 9000), "bias": (-(2**21), 2**23), "shift": (12, 14)}[key[:-1]]
        drawn = integers(buffer.numel() + number, low, high)[number:]
        buffer.copy_(drawn.view_as(buffer))
    bottleneck.hyper_prior.medians.copy_(torch.tensor([0.25, -1.125]))
    # Halving masses: exact in binary, so that the tables are the same everywhere.
    widths = [3 + level // 8 for level in range(2 + gaussian.LEVELS)]
    masses = [np.array([2.0 ** -(abs(k) + 2) for k in range(-w, w + 1)]) for w in widths]
    bottleneck.load_tables(FrequencyTables.from_probabilities(masses, [-w for w in widths]))
    code = (integers(3 * 6 * 5, -80, 80).float() / 8).view(1, 3, 6, 5)
    hyper = (integers(2 * 2 * 2, -60, 60).float() / 8).view(1, 2, 2, 2)
    return bottleneck, code, hyper


def golden_record(name: str) -> dict[str, str]:
    bottleneck, code, hyper = golden_case(name)
    bottleneck.decoder = nn.Identity()
    payload = bottleneck._payload(code, hyper)
    seen = bottleneck.decode([payload])
    return {
        "payload": payload.hex(),
        "code": (seen * 2**FRACTION_BITS).long().numpy().astype("<i4").tobytes().hex(),
        "fingerprint": bottleneck.fingerprint.hex(),
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_golden_bitstreams(name: str) -> None:
    # A change here is a change of what payloads mean: raise the family's payload_version with it.
    assert golden_record(name) == json.loads(GOLDEN.read_text())[name]
    bottleneck, _, hyper = golden_case(name)
    conditional = bottleneck._conditional(bottleneck.hyper_prior.rounded(hyper).long())
    assert len(conditional.levels.unique()) > 8


if __name__ == "__main__" and sys.argv[1:] == ["write"]:
    GOLDEN.write_text(json.dumps({name: golden_record(name) for name in FAMILIES}, indent=1) + "\n")
