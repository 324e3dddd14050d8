"""Vector quantisation in residual stages: a bottleneck whose every prefix decodes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.bottlenecks.base import Bottleneck, NotFrozenError, PayloadError, TrainingPass
from edge.bottlenecks.codebook import Codebooks, coded_information, frequency_tables
from edge.bottlenecks.options import real_number, whole_number
from edge.bottlenecks.registry import register
from edge.bottlenecks.student_layers import student_layers
from edge.coding import CodingError, FrequencyTables
from edge.coding.progressive import ProgressiveCoder

__all__ = ["VectorQuantizedBottleneck"]


@register("vq")
class VectorQuantizedBottleneck(Bottleneck):
    """Code vectors from learned codebooks, each stage refining what the stages before it left.

    ::

        features --encoder--> code --nearest of codebook 0--> indices 0 --.
                                |-- minus its code vector --> codebook 1 --> indices 1 --.
                                ...                                                      payload
        reconstruction <--decoder-- sum of the code vectors <--------- indices of stages 0 .. level

    At each position of the code one vector is quantised. van den Oord, Vinyals, Kavukcuoglu: "Neural
    Discrete Representation Learning", NeurIPS 2017 (straight-through gradient, commitment cost, codebooks
    by moving averages: :class:`edge.bottlenecks.codebook.Codebooks`); residual stages, the revival of dead
    codes, and the random number of stages in training after Zeghidour et al.: "SoundStream", 2021; sent
    over a split network at a rate chosen per sample as in "ARTOVeQ" (arXiv 2501.02521). The layers are
    those of :mod:`edge.bottlenecks.student_layers`.

    Level ``l`` sends stages 0 to ``l`` in one stream (:class:`edge.coding.progressive.ProgressiveCoder`):
    any prefix of a payload that holds a whole stage decodes. Indices are coded by their frequencies in what
    was observed, or at log2(codes) bits each where nothing was.

    The rate is set by ``codes``, ``stages`` and the level, not trained: the bits of a training pass are the
    information of the indices at their average use, and have no gradient.

    Args:
        input_shape: (C, H, W) of one sample.
        output_shape: (C', H', W') with H' = H / r rounded up, r in 1, 2, 4; default the input shape.
        channels: length of a code vector.
        codes: code vectors of each stage, 2 to 65534.
        stages: 1 to 255.
        commitment: weight of the squared distance between code and code vectors in the loss.
        encoder_channels: widths of the encoder's two hidden layers.
        decoder_channels: widths of the decoder's two hidden layers.

    Raises:
        ValueError: shapes between which these layers cannot lead, or options out of range.
    """

    learned = True
    rate_weighted = False

    def __init__(
        self,
        input_shape: Sequence[int],
        output_shape: Sequence[int] | None = None,
        *,
        channels: int = 24,
        codes: int = 64,
        stages: int = 4,
        commitment: float = 0.25,
        encoder_channels: Sequence[int] | None = None,
        decoder_channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__(input_shape, output_shape)
        whole_number("codes", codes, 2, 65534)
        whole_number("stages", stages, 1, 255)
        self.commitment = real_number(
            "commitment", commitment, lambda weight: weight >= 0, "finite numbers of 0 or more"
        )
        layers = student_layers(
            self.input_shape, self.output_shape, channels, encoder_channels, decoder_channels
        )
        self.encoder, self.decoder, self.code_shape = layers
        self.stages = nn.ModuleList(Codebooks(1, codes, channels) for _ in range(stages))
        self._coder: ProgressiveCoder | None = None

    # --- training ---------------------------------------------------------------------------

    def prepare_training(self) -> None:
        """Attach the moving averages of the codebooks. Idempotent."""
        for book in self._books:
            book.prepare_training()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction from all stages (gradients pass straight through), and bits [N] of the indices."""
        trained = self._pass(features, features.new_full((len(features),), self.levels, dtype=torch.long))
        return trained.reconstruction, trained.bits

    def training_pass(self, features: Tensor) -> TrainingPass:
        """As :meth:`forward`, from a random number of stages for each sample, with the commitment cost."""
        return self._pass(features, self._random_depths(features))

    def _pass(self, features: Tensor, depths: Tensor) -> TrainingPass:
        """A pass in which sample ``i`` has ``depths[i]`` stages. In train mode the codebooks learn."""
        code = self.encoder(features)
        learn = self.training and self._coder is None
        vectors, indices = self._quantised(code, depths, learn=learn)
        bits = self._bits(indices, depths)
        reconstruction = self.decoder(code + (vectors - code).detach())
        distance = (code - vectors).square().flatten(1).sum(1)
        return TrainingPass(reconstruction, bits, bits, self.commitment * distance)

    @torch.no_grad()
    def _quantised(self, code: Tensor, depths: Tensor, *, learn: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Sums of the code vectors of ``depths`` [N] stages, [N, *code_shape], and indices [N, n] of all."""
        residual = _vectors(code)
        total = torch.zeros_like(residual)
        indices = []
        for stage, book in enumerate(self._books):
            if learn and not book.started:
                book.start(residual)
            index = book.nearest(residual)
            vectors = book.look_up(index)
            if learn:
                book.update(residual, index)
            sent = (depths > stage).repeat_interleave(residual.shape[1] // len(code))
            total = total + vectors * sent[None, :, None]
            residual = residual - vectors
            indices.append(index.view(len(code), -1))
        return total.view(len(code), -1, code.shape[1]).mT.reshape(code.shape), indices

    def _bits(self, indices: list[Tensor], depths: Tensor) -> Tensor:
        """Information [N] of the indices that are sent: under the tables, if there are any by now."""
        information = (
            torch.cat([book.information() for book in self._books])
            if self._coder is None
            else coded_information(self._coder.tables, self._books[0].codes)
        )
        bits = [
            of_code[index].sum(1) * (depths > stage)
            for stage, (of_code, index) in enumerate(zip(information, indices, strict=True))
        ]
        return torch.stack(bits).sum(0)

    def _random_depths(self, features: Tensor) -> Tensor:
        """Numbers of stages from 1 to all, as likely as each other, [N]."""
        return torch.randint(1, self.levels + 1, (len(features),), device=features.device)

    @torch.no_grad()
    def calibrate(self, features: Tensor) -> None:
        """Start the codebooks, stage by stage, from the code of ``features``."""
        residual = _vectors(self.encoder(features))
        for book in self._books:
            book.start(residual)
            residual = residual - book.look_up(book.nearest(residual))

    @torch.no_grad()
    def observe(self, features: Tensor) -> None:
        """Count the indices that ``features`` are given."""
        for book, index in zip(self._books, self._indices(features), strict=True):
            book.observe(index.view(1, -1))

    def freeze(self) -> None:
        """Make the frequency tables from the counts. From then on the codebooks stay as they are."""
        self.load_tables(frequency_tables(np.concatenate([book.counts for book in self._books])))

    # --- running ----------------------------------------------------------------------------

    @property
    def levels(self) -> int:
        """One for each stage: level ``l`` sends ``l + 1`` stages."""
        return len(self.stages)

    def encode(self, features: Tensor) -> list[bytes]:
        """One payload of all stages a sample."""
        return self.encode_at(features, self.levels - 1)

    @torch.no_grad()
    def encode_at(self, features: Tensor, level: int) -> list[bytes]:
        """One payload of stages 0 to ``level`` a sample."""
        coder, depth = self._frozen, self.check_level(level) + 1
        self.check_features(features)
        payloads = []
        # One at a time: a convolution may round otherwise in another batch, and the payload with it.
        for sample in features:
            rows = torch.cat(self._indices(sample[None])[:depth])
            payloads.append(coder.encode(rows.cpu().numpy().astype(np.int32)))
        return payloads

    @torch.no_grad()
    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        """Reconstructions [N, *output_shape] from the whole stages in each payload or prefix of one."""
        codes = torch.stack([self._code(self._rows(payload)) for payload in payloads])
        reconstruction: Tensor = self.decoder(codes)
        return reconstruction

    def stages_in(self, payload: bytes) -> int:
        """Whole stages in a payload or a prefix of one, 1 or more.

        Raises:
            PayloadError: there is none.
        """
        return len(self._rows(payload))

    def ideal_bits(self, payload: bytes) -> float:
        """Information of the indices of the payload's whole stages under the frozen tables."""
        rows = self._rows(payload)
        stages = np.repeat(np.arange(len(rows)), rows.shape[1])
        return float(self._frozen.tables.bits_under(rows.reshape(-1), stages).sum())

    def transmit(self, features: Tensor) -> Tensor:
        """Reconstruction from all stages; gradients reach the decoder only."""
        return self.transmit_at(features, self.levels - 1)

    def transmit_at(self, features: Tensor, level: int) -> Tensor:
        """Reconstruction from stages 0 to ``level``; gradients reach the decoder only."""
        depth = self.check_level(level) + 1
        return self._transmitted(features, features.new_full((len(features),), depth, dtype=torch.long))

    def rehearse(self, features: Tensor) -> Tensor:
        """:meth:`transmit_at` a level drawn at random for each sample."""
        return self._transmitted(features, self._random_depths(features))

    def _transmitted(self, features: Tensor, depths: Tensor) -> Tensor:
        with torch.no_grad():
            code, _ = self._quantised(self.encoder(features), depths)
        reconstruction: Tensor = self.decoder(code)
        return reconstruction

    @property
    def tables(self) -> FrequencyTables | None:
        """The frequency tables, one a stage, once frozen."""
        return None if self._coder is None else self._coder.tables

    def load_tables(self, tables: FrequencyTables) -> None:
        """Take over the tables that were shipped with the model.

        Raises:
            ValueError: not one for each stage, of as many symbols as there are codes.
        """
        codes = self._books[0].codes.shape[1]
        shape = [len(table) - 1 for table in tables.frequencies]
        if shape != [codes] * self.levels or tables.offsets.any():
            raise ValueError(f"frequency tables of {shape} symbols for {self.levels} stages of {codes} codes")
        self._coder = ProgressiveCoder(tables)

    def wire_options(self) -> dict[str, Any]:
        """What, beside the tables, turns a payload into a code: its shape and the code vectors."""
        digest = hashlib.sha256()
        for book in self._books:
            digest.update(book.codes.detach().cpu().contiguous().numpy().astype("<f4").tobytes())
        return {"code_shape": self.code_shape, "codes": digest.hexdigest()}

    @property
    def _books(self) -> list[Codebooks]:
        return [cast("Codebooks", stage) for stage in self.stages]

    @property
    def _frozen(self) -> ProgressiveCoder:
        if self._coder is None:
            raise NotFrozenError("no frequency tables yet: call freeze() after training, or load them")
        return self._coder

    def _indices(self, features: Tensor) -> list[Tensor]:
        """For each stage the indices [N, n] of features [N, *input_shape]."""
        code = self.encoder(features)
        if bool(code.isnan().any()):
            raise ValueError("the encoder made values that are not numbers")
        return self._quantised(code, code.new_zeros(len(code)))[1]

    def _rows(self, payload: bytes) -> NDArray[np.int32]:
        try:
            return self._frozen.decode(payload, math.prod(self.code_shape[1:]))
        except CodingError as error:
            raise PayloadError(str(error)) from error

    def _code(self, rows: NDArray[np.int32]) -> Tensor:
        """The code [*code_shape] of one sample's indices [stages sent, n]."""
        total = torch.zeros(1, rows.shape[1], self.code_shape[0], device=self._books[0].codes.device)
        for book, row in zip(self._books, rows, strict=False):
            total = total + book.look_up(torch.from_numpy(row).long().to(total.device)[None])
        return total[0].mT.reshape(self.code_shape)


def _vectors(code: Tensor) -> Tensor:
    """The vectors of a code [N, channels, ...] as float32 [1, N * n, channels]."""
    return code.detach().float().flatten(2).mT.reshape(1, -1, code.shape[1])
