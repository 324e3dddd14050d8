"""Packets that decode alone: framing, erasures as trained, graceful loss, sizes."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edge.bottlenecks import LatentBottleneck, NotFrozenError, PayloadError, create
from edge.bottlenecks.channel import ChannelBottleneck
from edge.coding import FrequencyTables
from edge.erasures import Packetised, erased


def channel(shape: tuple[int, ...] = (3, 20, 20), channels: int = 10, **options: Any) -> ChannelBottleneck:
    """With tables of a Laplacian of width 2 and medians that are not zero, as if it had been trained."""
    torch.manual_seed(0)
    target = (6, shape[1] // 2, shape[2] // 2)
    made = create("channel", shape, target, channels=channels, **options)
    assert isinstance(made, ChannelBottleneck)
    masses = np.exp(-np.abs(np.arange(-30, 31)) / 2)
    made.load_tables(FrequencyTables.from_probabilities([masses / masses.sum()] * channels, [-30] * channels))
    made.prior.medians += torch.linspace(-1.4, 1.3, channels)
    return made.eval()


def wide(made: ChannelBottleneck, spread: float, samples: int = 4) -> Tensor:
    """Features whose codes spread about so far."""
    features = torch.randn(samples, *made.input_shape)
    with torch.no_grad():
        return features * spread / made.encoder(features).std()


@pytest.fixture(scope="module")
def sent() -> tuple[ChannelBottleneck, Tensor, list[bytes]]:
    made = channel()
    features = wide(made, 3.0)
    return made, features, made.encode(features)


@pytest.mark.parametrize("arrives", list(product([False, True], repeat=4)))
def test_each_subset_of_packets_decodes_to_its_own_channels_and_zeros(
    sent: tuple[ChannelBottleneck, Tensor, list[bytes]], arrives: Sequence[bool]
) -> None:
    made, features, payloads = sent
    with torch.no_grad():
        whole = made.prior.dequantised(made.encoder(features[:1]))[0]
    packets = made.packets(payloads[0])
    left = made.assemble([packet if there else None for packet, there in zip(packets, arrives, strict=True)])
    code = made.code(left)
    for position in range(10):  # packet p carries the code channels p, p + 4, p + 8
        expected = whole[position] if arrives[position % 4] else torch.zeros(9, 9)
        assert torch.equal(code[position], expected)
    with torch.no_grad():
        torch.testing.assert_close(made.decode([left]), made.decoder(code[None]))
    assert made.ideal_bits(left) == pytest.approx(
        sum(made.ideal_bits(made.assemble([p if i == q else None for q, p in enumerate(packets)]))
            for i, there in enumerate(arrives) if there)
    )  # fmt: skip


def test_nothing_is_lost_where_nothing_is_erased(
    sent: tuple[ChannelBottleneck, Tensor, list[bytes]],
) -> None:
    made, _, payloads = sent
    assert isinstance(made, Packetised)
    for payload in payloads:
        packets = made.packets(payload)
        assert len(packets) == 4
        assert all(packets)
        assert made.assemble(packets) == payload


@given(st.integers(2, 6), st.data())
@settings(max_examples=60, deadline=None)
def test_framing_round_trips(count: int, data: st.DataObject) -> None:
    made = create("channel", (1, 4, 4), channels=6, packets=count)
    assert isinstance(made, ChannelBottleneck)
    sizes = st.one_of(st.integers(0, 3), st.integers(120, 135), st.integers(16380, 16390))
    packets = [bytes([65 + n]) * data.draw(sizes) for n in range(count)]
    payload = made.assemble(packets)
    assert made.packets(payload) == packets
    framing = [1 if len(p) < 128 else 2 if len(p) < 16384 else 3 for p in packets[:-1]]
    assert len(payload) == sum(map(len, packets)) + sum(framing)
    assert made.assemble([packet or None for packet in packets]) == payload


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\1\1", b"\1\1\1", b"\1\1\1ab", b"\xff" * 9])
def test_a_payload_without_its_packets_is_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError, match=r"without the length of packet|its packets alone need"):
        channel().decode([payload])


def test_another_number_of_packets_is_refused() -> None:
    with pytest.raises(ValueError, match="3 packets, expected 4"):
        channel().assemble([b"a", None, b"b"])


@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0, 12.0])
def test_four_packets_stay_within_eight_bytes_and_half_a_percent(spread: float) -> None:
    made = channel((3, 36, 36), channels=12)
    for payload in made.encode(wide(made, spread, 8)):
        ideal = made.ideal_bits(payload) / 8
        assert 0 <= len(payload) - ideal <= 8 + 0.005 * ideal


def test_packets_carry_about_as_much(sent: tuple[ChannelBottleneck, Tensor, list[bytes]]) -> None:
    made, _, payloads = sent
    sizes = np.array([[len(packet) for packet in made.packets(payload)] for payload in payloads]).mean(0)
    per_channel = sizes / [3, 3, 2, 2]
    assert per_channel.max() < 1.5 * per_channel.min()


class _Seen(nn.Module):
    """Stands for a decoder and keeps the code that it is given."""

    def __init__(self, output_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.output_shape = output_shape

    def forward(self, code: Tensor) -> Tensor:
        self.code = code
        return code.new_zeros(len(code), *self.output_shape)


def test_rehearsal_erases_packets_of_single_samples_with_the_probability_asked_for() -> None:
    made = channel((3, 8, 8), channels=6, packets=3, erasure=0.3)
    features = wide(made, 3.0, 3000)
    with torch.no_grad():
        code = made.prior.dequantised(made.encoder(features))
    seen = _Seen(made.output_shape)
    made.decoder = seen
    made.rehearse(features)
    gone = (seen.code == 0).flatten(2).all(2)  # [N, channels]; no channel of the code is zero throughout
    assert not bool((code == 0).any())
    assert torch.equal(gone[:, :3], gone[:, 3:])  # a packet goes as a whole
    assert torch.equal(seen.code, torch.where(gone[:, :, None, None], 0.0, code))
    packets = gone[:, :3].double()
    deviation = (0.3 * 0.7 / 3000) ** 0.5
    assert bool(((packets.mean(0) - 0.3).abs() < 4 * deviation).all())
    assert float((packets.prod(1)).mean()) == pytest.approx(0.3**3, abs=0.012)  # independent of each other


def test_noise_is_white_and_of_the_size_asked_for() -> None:
    made = channel((3, 8, 8), channels=4, erasure=0.0, noise=0.5)
    features = torch.rand(2000, 3, 8, 8)
    with torch.no_grad():
        code = made.prior.dequantised(made.encoder(features))
    seen = _Seen(made.output_shape)
    made.decoder = seen
    made.rehearse(features)
    noise = (seen.code - code).double().flatten(1)
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)
    assert abs(float(noise.mean())) < 0.01
    correlation = torch.corrcoef(noise.T) - torch.eye(noise.shape[1])
    assert float(correlation.abs().max()) < 6 / 2000**0.5


def test_rehearsal_reaches_the_decoder_alone() -> None:
    made = channel()
    made.rehearse(torch.rand(6, 3, 20, 20)).square().sum().backward()
    assert all(p.grad is None for p in made.encoder.parameters())
    assert all(p.grad is not None for p in made.decoder.parameters())


def test_before_freeze_nothing_is_coded() -> None:
    made = create("channel", (1, 8, 8), channels=4)
    with pytest.raises(NotFrozenError, match="freeze"):
        made.encode(torch.rand(1, 1, 8, 8))
    with pytest.raises(NotFrozenError, match="freeze"):
        made.decode([bytes(4)])


def test_the_fingerprint_names_the_packets_but_not_what_only_training_needs() -> None:
    assert channel(packets=2).fingerprint != channel(packets=4).fingerprint
    assert channel(erasure=0.5, noise=1.0).fingerprint == channel().fingerprint


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"channels": 1}, "channels is 1, allowed are 2 or more"),
        ({"channels": 3}, "packets is 4, allowed are whole numbers of 2 to 3"),
        ({"packets": 1}, "packets is 1, allowed are whole numbers of 2 to 24"),
        ({"erasure": 1.0}, r"erasure is 1\.0, allowed are numbers of at least 0 and below 1"),
        ({"erasure": -0.1}, r"erasure is -0\.1, allowed"),
        ({"erasure": "no"}, "erasure is 'no', allowed"),
        ({"noise": float("inf")}, "noise is inf, allowed are finite numbers"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        create("channel", (1, 8, 8), (4, 4, 4), **options)


# --- a small trained example ---------------------------------------------------------------------


def trained(name: str, **options: Any) -> tuple[LatentBottleneck, nn.Module, Tensor, Tensor]:
    """A bottleneck and a linear tail trained on scanned digits, and 200 digits that they have not seen."""
    datasets = pytest.importorskip("sklearn.datasets")
    pixels, numbers = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    images = torch.from_numpy(pixels[order]).float().view(-1, 1, 8, 8) / 16
    labels = torch.from_numpy(numbers[order])
    unseen, unseen_labels, images, labels = images[:200], labels[:200], images[200:], labels[200:]
    torch.manual_seed(0)
    made = create(
        name,
        (1, 8, 8),
        (16, 4, 4),
        channels=8,
        encoder_channels=(16, 8),
        decoder_channels=(16, 16),
        **options,
    )
    assert isinstance(made, LatentBottleneck)
    made.prepare_training()
    tail = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    optimiser = torch.optim.Adam([*made.parameters(), *tail.parameters()], 5e-3)
    for step in range(100):
        chosen = torch.randint(len(images), (32,))
        if step == 30:
            made.calibrate(images[:256])
        reconstruction, bits = made.train()(images[chosen])
        rate = 0.001 * bits.mean() if step >= 30 else 0.0
        loss = functional.cross_entropy(tail(reconstruction), labels[chosen]) + rate
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    made.eval().freeze()
    optimiser = torch.optim.Adam([*made.decoder.parameters(), *tail.parameters()], 1e-3)
    for _ in range(30):
        chosen = torch.randint(len(images), (32,))
        loss = functional.cross_entropy(tail(made.rehearse(images[chosen])), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return made, tail, unseen, unseen_labels


def accuracy_under_loss(
    made: LatentBottleneck, tail: nn.Module, images: Tensor, labels: Tensor, probability: float
) -> float:
    generator = np.random.default_rng(0)
    right = 0
    for payload, label in zip(made.encode(images), labels.tolist(), strict=True):
        arriving = erased(made, payload, probability, generator)
        if arriving is not None:
            try:
                right += int(tail(made.decode([arriving])).argmax()) == label
            except PayloadError:
                continue
    return right / len(images)


@pytest.mark.slow
def test_trained_with_erasures_it_degrades_gracefully_where_one_stream_fails() -> None:
    with_packets, one_stream = trained("channel"), trained("factorized")
    undisturbed, disturbed = (accuracy_under_loss(*with_packets, probability=p) for p in (0.0, 0.3))
    assert undisturbed > 0.85
    assert disturbed > undisturbed - 0.10
    undisturbed, disturbed = (accuracy_under_loss(*one_stream, probability=p) for p in (0.0, 0.3))
    assert undisturbed > 0.85
    assert disturbed < undisturbed - 0.25
