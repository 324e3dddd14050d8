"""A bottleneck trained for a channel that loses packets: each packet decodes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge.bottlenecks.base import PayloadError
from edge.bottlenecks.latent import LatentBottleneck
from edge.bottlenecks.options import real_number, whole_number
from edge.bottlenecks.prior import FactorizedPrior
from edge.bottlenecks.registry import register
from edge.bottlenecks.student_layers import student_layers
from edge.coding import CodingError, EntropyCoder, FrequencyTables

__all__ = ["ChannelBottleneck"]


@register("channel")
class ChannelBottleneck(LatentBottleneck):
    """A code dealt out to packets, trained with erased packets and with noise.

    ::

        code channels 0, P, 2P, ...    -> range coder -> packet 0
        code channels 1, P + 1, ...    -> range coder -> packet 1       payload = lengths, packets
        ...

    The channel as a layer of the network is that of Shao, Zhang: "BottleNet++: An End-to-End Approach for
    Feature Compression in Device-Edge Co-Inference Systems", ICC Workshops 2020 (erasures, white Gaussian
    noise); packets that are lost and not sent again are those of Itahara, Nishio, Yamamoto:
    "Packet-Loss-Tolerant Split Inference for Delay-Sensitive Deep Learning in Lossy Wireless Networks",
    GLOBECOM 2021. The layers are those of :mod:`edge.bottlenecks.student_layers` about a factorized
    prior, so that it differs from ``factorized`` in the channel alone.

    In training (:meth:`forward`, :meth:`rehearse`) the code gets noise, then each packet of each sample is
    erased with probability ``erasure``. The decoder sees zeros for the channels of a packet that is erased,
    in training as in :meth:`decode`; what arrives is left as it is. An erased packet has length 0 in a
    payload (:meth:`packets`, :meth:`assemble`).

    Each packet is a stream of its own, and all but the last are preceded by their lengths (a varint each):
    two bytes a packet beyond the information in it, so that a payload of up to 4 packets stays within 8
    bytes + 0.5 % of its information.

    Args:
        input_shape: (C, H, W) of one sample.
        output_shape: (C', H', W') with H' = H / r rounded up, r in 1, 2, 4; default the input shape.
        channels: channels of the code.
        packets: packets of a payload, 2 to ``channels``.
        erasure: probability with which a packet is erased in training, at least 0 and below 1.
        noise: standard deviation of the noise in training, in steps of the code's rounding.
        encoder_channels: widths of the encoder's two hidden layers; default as in ``factorized``.
        decoder_channels: widths of the decoder's two hidden layers; default as in ``factorized``.

    Raises:
        ValueError: an option out of its range, or shapes between which these layers cannot lead.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_shape: Sequence[int] | None = None,
        *,
        channels: int = 24,
        packets: int = 4,
        erasure: float = 0.3,
        noise: float = 0.0,
        encoder_channels: Sequence[int] | None = None,
        decoder_channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__(input_shape, output_shape)
        layers = student_layers(
            self.input_shape, self.output_shape, channels, encoder_channels, decoder_channels
        )
        if channels < 2:
            raise ValueError(f"channels is {channels}, allowed are 2 or more, to be dealt out to packets")
        self.packet_count = whole_number("packets", packets, 2, channels)
        self.erasure = real_number(
            "erasure", erasure, lambda p: 0 <= p < 1, "numbers of at least 0 and below 1"
        )
        self.noise = real_number("noise", noise, lambda std: std >= 0, "finite numbers of at least 0")
        self.encoder, self.decoder, self.code_shape = layers
        self.prior = FactorizedPrior(channels)
        self._dealt: tuple[FrequencyTables, list[EntropyCoder]] | None = None

    # --- training ---------------------------------------------------------------------------

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction from what arrives of the code, and bits [N] of all packets that are sent."""
        noisy, bits = self.prior(self.encoder(features))
        return self.decoder(self._arriving(noisy)), bits

    def rehearse(self, features: Tensor) -> Tensor:
        """Reconstruction from what arrives of the rounded code; gradients reach the decoder only."""
        with torch.no_grad():
            code = self._arriving(self.prior.dequantised(self.encoder(features)))
        reconstruction: Tensor = self.decoder(code)
        return reconstruction

    def _arriving(self, code: Tensor) -> Tensor:
        """Code [N, channels, H, W] behind the channel: noise added, packets erased."""
        if self.noise:
            code = code + self.noise * torch.randn_like(code)
        if not self.erasure:
            return code
        arrives = torch.rand(len(code), self.packet_count, device=code.device) >= self.erasure
        packet = torch.arange(code.shape[1], device=code.device) % self.packet_count
        return torch.where(arrives[:, packet, None, None], code, torch.zeros_like(code))

    # --- running ----------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, features: Tensor) -> list[bytes]:
        """One payload a sample, with all its packets."""
        coders = self._packet_coders
        self.check_features(features)
        payloads = []
        for sample in features:  # one at a time, as in LatentBottleneck.encode
            symbols = self.prior.symbols(self.encoder(sample[None])[0])
            streams = [coder.encode(symbols[self._channels(p)]) for p, coder in enumerate(coders)]
            payloads.append(self.assemble(streams))
        return payloads

    @torch.no_grad()
    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        """Reconstructions [N, *output_shape], from the packets that have arrived of each."""
        reconstruction: Tensor = self.decoder(torch.stack([self.code(payload) for payload in payloads]))
        return reconstruction

    @torch.no_grad()
    def code(self, payload: bytes) -> Tensor:
        """The code [*code_shape] that the decoder sees of a payload: zeros for the packets that are erased.

        Raises:
            PayloadError: not a payload of this bottleneck.
        """
        code = torch.zeros(self.code_shape).to(self.prior.medians).flatten(1)
        symbols = np.zeros(code.shape, dtype=np.int32)
        arrived = self._arrived(payload)
        for packet, found in arrived.items():
            symbols[self._channels(packet)] = found
        values = self.prior.code(symbols)
        for packet in arrived:
            code[self._channels(packet)] = values[self._channels(packet)]
        return code.view(self.code_shape)

    def packets(self, payload: bytes) -> list[bytes]:
        """The packets of a payload; an erased one is empty.

        Raises:
            PayloadError: not a payload of this bottleneck.
        """
        lengths, start = [], 0
        for packet in range(self.packet_count - 1):
            length, start = _varint(payload, start, packet)
            lengths.append(length)
        ends = [start + sum(lengths[: n + 1]) for n in range(len(lengths))]
        if ends[-1] > len(payload):
            raise PayloadError(f"payload of {len(payload)} bytes, its packets alone need {ends[-1]}")
        starts = [start, *ends]
        return [payload[a:b] for a, b in zip(starts, [*ends, len(payload)], strict=True)]

    def assemble(self, packets: Sequence[bytes | None]) -> bytes:
        """The payload of these packets, where None, or an empty one, has been erased.

        Raises:
            ValueError: another number of packets.
        """
        if len(packets) != self.packet_count:
            raise ValueError(f"{len(packets)} packets, expected {self.packet_count}")
        streams = [packet or b"" for packet in packets]
        return b"".join([*(_as_varint(len(stream)) for stream in streams[:-1]), *streams])

    def ideal_bits(self, payload: bytes) -> float:
        """Information of the packets that have arrived, under the frozen tables."""
        coders = self._packet_coders
        found = self._arrived(payload).items()
        return float(sum(coders[packet].tables.bits(symbols).sum() for packet, symbols in found))

    def wire_options(self) -> dict[str, Any]:
        """As of every latent bottleneck, and the number of packets."""
        return {**super().wire_options(), "packets": self.packet_count}

    @property
    def _packet_coders(self) -> list[EntropyCoder]:
        """One coder a packet, on the tables of its channels.

        Raises:
            NotFrozenError: there are no tables yet.
        """
        tables = self.prior.coder.tables
        if self._dealt is None or self._dealt[0] is not tables:
            parts = [self._channels(packet) for packet in range(self.packet_count)]
            dealt = [FrequencyTables(tables.frequencies[part], tables.offsets[part]) for part in parts]
            self._dealt = tables, [EntropyCoder(part) for part in dealt]
        return self._dealt[1]

    def _channels(self, packet: int) -> slice:
        """The code channels of a packet: every ``packets``-th, so that each carries about as much."""
        return slice(packet, None, self.packet_count)

    def _arrived(self, payload: bytes) -> dict[int, NDArray[np.int32]]:
        """Symbols [channels of the packet, n] of each packet that has not been erased."""
        coders = self._packet_coders
        count = math.prod(self.code_shape[1:])
        found = {}
        for packet, stream in enumerate(self.packets(payload)):
            if stream:
                try:
                    found[packet] = coders[packet].decode(stream, count)
                except CodingError as error:
                    raise PayloadError(f"packet {packet}: {error}") from error
        return found


def _as_varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, the top bit set on all bytes but the last (LEB128)."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _varint(payload: bytes, start: int, packet: int) -> tuple[int, int]:
    """The number at ``start``, and where what follows it starts."""
    value = 0
    for count, byte in enumerate(payload[start : start + 5]):
        value |= (byte & 0x7F) << 7 * count
        if byte <= 0x7F:
            return value, start + count + 1
    raise PayloadError(f"payload of {len(payload)} bytes without the length of packet {packet}")
