"""The discrete key-value bottleneck: what is looked up, what learns, and that nothing is forgotten."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge.bottlenecks import PayloadError, create
from edge.bottlenecks.key_value import KeyValueBottleneck
from edge.coding import EntropyCoder


def made(
    shape: tuple[int, ...] = (12,), target: tuple[int, ...] | None = (3,), **options: object
) -> KeyValueBottleneck:
    small = {"codebooks": 4, "codes": 8, "key_dim": 3}
    bottleneck = create("key-value", shape, target, **{**small, **options})
    assert isinstance(bottleneck, KeyValueBottleneck)
    bottleneck.prepare_training()
    return bottleneck


def calibrated(features: Tensor, **options: object) -> KeyValueBottleneck:
    torch.manual_seed(0)
    bottleneck = made(tuple(features.shape[1:]), **options)
    bottleneck.calibrate(features)
    return bottleneck


def test_the_output_is_the_mean_of_the_values_at_the_nearest_keys() -> None:
    torch.manual_seed(1)
    features = torch.randn(20, 12)
    bottleneck = calibrated(features, target=(2, 5))
    bottleneck.decoder.values.data.normal_()
    bottleneck.observe(features)
    bottleneck.freeze()
    projected = torch.einsum("nd,bdk->bnk", features, bottleneck.encoder.projections)
    index = torch.cdist(projected, bottleneck.encoder.keys.codes).argmin(2)
    expected = torch.stack([bottleneck.decoder.values[b][index[b]] for b in range(4)]).mean(0)
    assert expected.shape == (20, 2, 5)
    torch.testing.assert_close(bottleneck.transmit(features), expected)
    torch.testing.assert_close(bottleneck.decode(bottleneck.encode(features)), expected.detach())
    torch.testing.assert_close(bottleneck(features)[0], expected)


def test_payloads_are_as_long_as_the_entropy_of_their_indices() -> None:
    torch.manual_seed(2)
    features = torch.randn(400, 12)
    bottleneck = calibrated(features, codebooks=16, codes=32)
    bottleneck.observe(features)
    bottleneck.freeze()
    share = bottleneck.encoder.keys.counts / 400
    entropy = -(share * np.log2(share, where=share > 0, out=np.zeros_like(share))).sum()
    payloads = bottleneck.encode(features)
    ideal = np.array([bottleneck.ideal_bits(payload) for payload in payloads])
    assert ideal.mean() == pytest.approx(entropy, rel=0.01)  # what the smoothing costs
    assert all(-1 <= len(p) - i / 8 <= 2 for p, i in zip(payloads, ideal, strict=True))
    np.testing.assert_allclose(bottleneck(features)[1].detach().numpy(), ideal, rtol=1e-5)


def test_only_values_that_were_looked_up_change() -> None:
    torch.manual_seed(3)
    features = torch.randn(200, 12)
    bottleneck = calibrated(features)
    bottleneck.decoder.values.data.normal_()
    before = bottleneck.decoder.values.detach().clone()
    batch = features[:3].clone().requires_grad_()
    optimiser = torch.optim.SGD(bottleneck.parameters(), 1.0)
    bottleneck.training_pass(batch).reconstruction.square().sum().backward()
    optimiser.step()
    assert batch.grad is None  # what stands ahead learns nothing
    changed = (bottleneck.decoder.values != before).any(2)
    index = bottleneck.encoder(batch)
    expected = torch.zeros(4, 8, dtype=torch.bool).scatter_(1, index, True)
    assert torch.equal(changed, expected)
    assert 4 <= int(changed.sum()) <= 12


def clusters(per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """Ten Gaussian classes in 24 dimensions behind a ReLU: features [N, 24] and labels [N]."""
    centres = 1.5 * torch.randn(10, 24, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(10).repeat_interleave(per_class)
    noise = torch.randn(len(labels), 24, generator=torch.Generator().manual_seed(seed))
    return (centres[labels] + noise).relu(), labels


def taught(model: nn.Module, features: Tensor, labels: Tensor, rate: float) -> None:
    """Fifteen passes of plain gradient descent on the cross-entropy."""
    optimiser = torch.optim.SGD(model.parameters(), rate)
    generator = torch.Generator().manual_seed(0)
    for _ in range(15):
        for batch in torch.randperm(len(labels), generator=generator).split(50):
            optimiser.zero_grad()
            output = model(features[batch])
            logits = output[0] if isinstance(output, tuple) else output
            nn.functional.cross_entropy(logits, labels[batch]).backward()
            optimiser.step()


def test_new_classes_are_learnt_without_forgetting() -> None:
    features, labels = clusters(40, 1)
    unseen, answers = clusters(40, 2)
    old, old_unseen = labels < 5, answers < 5
    bottleneck = calibrated(features, target=(10,), codebooks=32, codes=64, key_dim=8)
    bottleneck.train()
    keys = bottleneck.encoder.keys.codes.clone()
    linear = nn.Linear(24, 10)

    def accuracies() -> dict[str, float]:
        with torch.no_grad():
            by_value = bottleneck.transmit(unseen).argmax(1) == answers
            by_weight = linear(unseen).argmax(1) == answers
        return {
            "value, old": float(by_value[old_unseen].float().mean()),
            "value, new": float(by_value[~old_unseen].float().mean()),
            "linear, old": float(by_weight[old_unseen].float().mean()),
            "linear, new": float(by_weight[~old_unseen].float().mean()),
        }

    for model, rate in ((bottleneck, 30.0), (linear, 0.1)):
        taught(model, features[old], labels[old], rate)
    first = accuracies()
    for model, rate in ((bottleneck, 30.0), (linear, 0.1)):
        taught(model, features[~old], labels[~old], rate)
    second = accuracies()
    assert torch.equal(bottleneck.encoder.keys.codes, keys)
    assert first["value, old"] > 0.95
    assert second["value, new"] > 0.9
    assert second["value, old"] > first["value, old"] - 0.05
    assert first["linear, old"] > 0.95
    assert second["linear, new"] > 0.9
    assert second["linear, old"] < first["linear, old"] - 0.3


def test_keys_follow_the_data_until_they_are_placed() -> None:
    torch.manual_seed(4)
    bottleneck = made()
    keys = bottleneck.encoder.keys
    bottleneck.train()
    bottleneck(torch.randn(64, 12))
    assert keys.started
    moved = keys.codes.clone()
    bottleneck(torch.randn(64, 12))
    assert not torch.equal(keys.codes, moved)
    bottleneck.decoder.values.data.normal_()
    bottleneck.calibrate(torch.randn(64, 12))
    assert not bottleneck.decoder.values.any()
    placed = keys.codes.clone()
    bottleneck(torch.randn(64, 12))
    assert torch.equal(keys.codes, placed)


def test_a_shipped_bottleneck_goes_on_learning_values_with_its_keys_in_place() -> None:
    features = torch.randn(64, 12, generator=torch.Generator().manual_seed(0))
    first = calibrated(features)
    first.observe(features)
    first.freeze()
    payloads = first.encode(features)
    second = create("key-value", (12,), (3,), codebooks=4, codes=8, key_dim=3)
    second.load_state_dict({name: first.state_dict()[name] for name in second.state_dict()})
    assert first.tables is not None
    second.load_tables(first.tables)
    second.prepare_training()
    second.train()
    (second(features)[0] - 1).square().sum().backward()
    with torch.no_grad():
        for parameter in second.parameters():
            assert parameter.grad is not None
            parameter.sub_(parameter.grad)
    assert second.encode(features) == payloads
    assert second.fingerprint == first.fingerprint
    assert not torch.allclose(second.decode(payloads), first.decode(payloads))


def test_fewer_samples_than_keys_leave_no_two_keys_between_which_the_batch_decides() -> None:
    torch.manual_seed(0)
    features = torch.randn(120, 32)
    bottleneck = calibrated(features[:20], codebooks=8, codes=64, key_dim=8)
    alone = torch.cat([bottleneck.encoder(sample[None]) for sample in features[20:]], 1)
    assert torch.equal(bottleneck.encoder(features[20:]), alone)


def test_projections_come_from_the_seed() -> None:
    torch.manual_seed(0)
    one = made(seed=5).encoder.projections
    torch.manual_seed(1)
    assert torch.equal(made(seed=5).encoder.projections, one)
    assert not torch.equal(made(seed=6).encoder.projections, one)
    # A unit of variance in, a unit of variance out.
    wide = made((4096,), codebooks=2, key_dim=64).encoder
    assert float(wide.project(torch.randn(50, 4096)).std()) == pytest.approx(1, abs=0.1)


def test_maps_are_pooled_or_taken_whole() -> None:
    features = torch.randn(5, 6, 4, 2)
    mean, flat = made((6, 4, 2)).encoder, made((6, 4, 2), pooling="flatten").encoder
    assert mean.projections.shape == (4, 6, 3)
    assert flat.projections.shape == (4, 48, 3)
    expected = torch.einsum("nd,bdk->bnk", features.mean((2, 3)), mean.projections)
    torch.testing.assert_close(mean.project(features).float(), expected)
    expected = torch.einsum("nd,bdk->bnk", features.flatten(1), flat.projections)
    torch.testing.assert_close(flat.project(features).float(), expected)


def test_an_index_that_no_key_has_is_refused() -> None:
    bottleneck = made()
    bottleneck.freeze()
    assert bottleneck.tables is not None
    foreign = EntropyCoder(bottleneck.tables).encode(np.array([[0], [1], [8], [2]], dtype=np.int32))
    with pytest.raises(PayloadError, match="index outside 0 to 7"):
        bottleneck.decode([foreign])
    with pytest.raises(ValueError, match=r"\[8, 8, 8, 8\] symbols for 3 codebooks of 8 codes"):
        made(codebooks=3).load_tables(bottleneck.tables)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"codebooks": 0}, "codebooks is 0, allowed are whole numbers of 1 or more"),
        ({"codes": 70000}, "codes is 70000, allowed are whole numbers of 2 to 65534"),
        ({"key_dim": 1.5}, r"key_dim is 1\.5"),
        ({"pooling": "max"}, "pooling is 'max', allowed are 'mean', 'flatten'"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "seed is 18446744073709551616, allowed are whole numbers of 0 to"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made(**options)
