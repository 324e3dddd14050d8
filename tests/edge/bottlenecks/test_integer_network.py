"""A frozen network gives the same integers in float64 as in int64, and stays close to what was trained."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bottlenecks.integer_network import FRACTION_BITS, LIMIT, IntegerNetwork, Layer


def network(channels: int = 3, outputs: int = 4, height: int = 7, width: int = 6) -> IntegerNetwork:
    half = (-(-height // 2), -(-width // 2))
    made = IntegerNetwork(
        [
            Layer(channels, channels + 1, 5, 2, half, (height, width)),
            Layer(channels + 1, outputs, 3, 1, (height, width), (height, width)),
        ]
    )
    made.prepare_training()
    return made


def in_int64(frozen: IntegerNetwork, values: torch.Tensor) -> np.ndarray:
    """What :meth:`IntegerNetwork.evaluate` promises, written anew in numpy's int64."""
    x = values.numpy()
    for number, layer in enumerate(frozen.layers):
        x = np.clip(np.maximum(x, 0) if number else x, -LIMIT, LIMIT)
        weight, bias, shift = (
            frozen.get_buffer(f"{name}{number}").long().numpy() for name in ("weight", "bias", "shift")
        )
        (height, width), pad, stride = layer.size, layer.kernel // 2, layer.stride
        reach = [stride * n + layer.kernel + stride for n in layer.size]
        sums = np.zeros((len(x), layer.out_channels, *reach), dtype=np.int64)
        for i in range(layer.kernel):
            for j in range(layer.kernel):
                part = np.einsum("nchw,co->nohw", x, weight[:, :, i, j])
                sums[:, :, i : i + stride * height : stride, j : j + stride * width : stride] += part
        sums = sums[:, :, pad : pad + layer.out_size[0], pad : pad + layer.out_size[1]]
        half = (1 << shift) // 2
        x = (sums + (bias + half)[:, None, None]) >> shift[:, None, None]
    return np.clip(x, -LIMIT, LIMIT)


@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([1e-4, 1.0, 300.0]),
    st.sampled_from([10, 2**16, 2**24, 2**40]),
)
def test_float64_and_int64_agree_exactly(
    seed: int, sizes: tuple[int, int, int, int], scale: float, spread: int
) -> None:
    torch.manual_seed(seed)
    made = network(*sizes)
    for parameter in made.parameters():
        parameter.data.mul_(scale)
    made.freeze()
    layer = made.layers[0]
    values = torch.randint(-spread, spread + 1, (2, layer.channels, *layer.size))
    assert np.array_equal(made.evaluate(values).numpy(), in_int64(made, values))


def test_the_largest_accumulators_are_exact() -> None:
    # Weights and inputs as large as they get, with sums that need all 53 bits.
    layer = Layer(2600, 1, 5, 1, (5, 5), (5, 5))
    made = IntegerNetwork([layer])
    made.prepare_training()
    torch.manual_seed(0)
    made.last.weight.data = 1 - torch.rand_like(made.last.weight) * 1e-4
    made.freeze()
    assert 2**51 < made.bound(0) < 2**53
    values = LIMIT - torch.randint(0, 3, (1, 2600, 5, 5))
    shift = made.get_buffer("shift0").clone()
    made.get_buffer("shift0").zero_()  # else rounding would hide the lowest bits
    assert int(shift) > 0
    raw = made._layer(0, values)
    assert int(raw.max()) > 2**51
    weight = made.get_buffer("weight0").long()
    centre = (values.flip(2, 3)[0] * weight[:, 0]).sum() + made.get_buffer("bias0")[0]
    assert int(raw[0, 0, 2, 2]) == int(centre)


def test_integers_follow_the_trained_network() -> None:
    torch.manual_seed(1)
    made = network(6, 8, 13, 11)
    made.freeze()
    layer = made.layers[0]
    x = torch.randint(-20, 21, (4, 6, *layer.size))
    found = made.evaluate(x << FRACTION_BITS).double() / 2**FRACTION_BITS
    with torch.no_grad():
        expected = made(x.float()).double()
    assert float((found - expected).abs().max()) < 4 / 2**FRACTION_BITS


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 7), (14, 13)])
def test_any_size_is_led_back_to(size: tuple[int, int]) -> None:
    made = network(2, 3, *size)
    assert tuple(made(torch.zeros(1, 2, *made.layers[0].size)).shape) == (1, 3, *size)
    made.freeze()
    values = torch.zeros(1, 2, *made.layers[0].size, dtype=torch.int64)
    assert tuple(made.evaluate(values).shape) == (1, 3, *size)


def test_the_digest_names_every_integer() -> None:
    made = network()
    made.freeze()
    digests = {made.digest()}
    for name, buffer in made.named_buffers():
        damaged = copy.deepcopy(made)
        damaged.get_buffer(name).view(-1)[buffer.numel() // 2] += 1
        digests.add(damaged.digest())
    assert len(digests) == 1 + 6


@pytest.mark.parametrize(
    ("value", "says"),
    [(float("nan"), "layer 1 has weights that are not finite"), (1e6, r"layer 1, channel 2: .*too large")],
)
def test_weights_that_no_integers_stand_for_are_refused(value: float, says: str) -> None:
    made = network()
    made.last.weight.data[0, 2, 0, 0] = value
    with pytest.raises(ValueError, match=says):
        made.freeze()


def test_what_has_not_been_trained_says_so() -> None:
    made = IntegerNetwork([Layer(1, 1, 3, 1, (2, 2), (2, 2))])
    with pytest.raises(RuntimeError, match="prepare_training"):
        made.freeze()
