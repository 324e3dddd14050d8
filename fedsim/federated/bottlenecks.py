"""Training of a split model on one client's samples, and what of the model travels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from edge.bottlenecks import Bottleneck
from edge.bottlenecks.latent import LatentBottleneck
from edge.bottlenecks.symbols import MAX_HALF_WIDTH
from edge.split import SplitModel
from fedsim.errors import FederationError
from fedsim.federated.site import parameters_of
from fedsim.training.loop import Images, as_input, batches

__all__ = ["BottleneckTraining", "Learned", "averaged", "bottleneck_of", "check_density", "fit_scale"]

_CHUNK = 512  # images at a time
_WIDEST = 4 * MAX_HALF_WIDTH  # a density's support on each side; a code of spread 1000 has one of 10,000
#: What freeze makes. CompressAI's density keeps tables of its own, which nothing here reads.
_MADE = ("medians", "quantiles", "_quantized_cdf", "_offset", "_cdf_length")


@dataclass(frozen=True)
class BottleneckTraining:
    """Adam, which begins anew in every round, on all parts of the model at once.

    Args:
        epochs: passes over the client's samples in a round.
        batch_size: samples a step.
        learning_rate: of every step; the prior, which starts far from a new code, learns ten times as fast.
    """

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 1e-3

    def run(self, model: SplitModel, samples: Images, beta: float, generator: torch.Generator) -> Learned:
        """Train a model in place; noise comes from torch's global generator.

        Raises:
            FederationError: the loss is not finite.
        """
        bottleneck = bottleneck_of(model)
        model.train()
        named = [(name, p) for name, p in model.named_parameters() if not _made_by_freeze(name)]
        priors = [p for name, p in named if ".prior." in name]
        networks = [p for name, p in named if ".prior." not in name]
        optimiser = torch.optim.Adam(networks, self.learning_rate)
        optimiser.add_param_group({"params": priors, "lr": 10 * self.learning_rate})
        losses, bits_seen = 0.0, 0.0
        for _ in range(self.epochs):
            for batch in batches(samples, self.batch_size, generator):
                optimiser.zero_grad()
                reconstruction, bits, rate, penalty = bottleneck.training_pass(model.head(batch.inputs))
                task = F.cross_entropy(model.tail(reconstruction), batch.labels)
                loss = task + beta * rate.mean() + penalty.mean()
                if not bool(torch.isfinite(loss)):
                    value = float(loss.detach())
                    raise FederationError(f"the loss is {value:g}; lower the learning rate")
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                share = len(batch.labels) / (len(samples) * self.epochs)
                losses += share * float(task.detach())
                bits_seen += share * float(bits.detach().mean())
        model.eval()
        with torch.no_grad():
            code = bottleneck.encoder(model.head(as_input(samples.pixels[:_CHUNK])))
            spread = float(code.transpose(0, 1).flatten(1).std(1, correction=0).mean())
        return Learned(losses, bits_seen, spread)


@dataclass(frozen=True)
class Learned:
    """How the training of a round went.

    Args:
        loss: of the task, in nats, while the model was trained.
        bits: of a sample under the learned density, too.
        spread: standard deviation of the code's values, the mean of all channels, behind the training.
    """

    loss: float
    bits: float
    spread: float


def bottleneck_of(model: SplitModel) -> LatentBottleneck:
    """The bottleneck, if its prior can be averaged and then frozen without samples.

    Raises:
        FederationError: it cannot.
    """
    bottleneck = model.bottleneck
    fits = (
        isinstance(bottleneck, LatentBottleneck)
        and type(bottleneck).observe is Bottleneck.observe
        and type(bottleneck).calibrate is LatentBottleneck.calibrate
    )
    if not isinstance(bottleneck, LatentBottleneck) or not fits:
        name = type(bottleneck).__name__
        needed = "a bottleneck of one factorized prior, such as 'factorized'"
        raise FederationError(f"fedavg-bottleneck needs {needed}; {name} is none")
    return bottleneck


def check_density(bottleneck: LatentBottleneck) -> None:
    """See that frequency tables can be made of a density: that it lies somewhere, and is not without end.

    Where it has no end, :meth:`freeze <edge.bottlenecks.Bottleneck.freeze>` takes minutes, and fails.

    Raises:
        FederationError: it cannot be.
    """
    low, high = bottleneck.prior.support()
    if not bool(((low > -_WIDEST) & (low <= high) & (high < _WIDEST)).all()):
        ends = f"{float(low.min()):g} to {float(high.max()):g}"
        raise FederationError(f"a density of codes from {ends}, allowed are -{_WIDEST} to {_WIDEST}")


def _made_by_freeze(name: str) -> bool:
    return ".prior." in name and name.rpartition(".")[2] in _MADE


def averaged(model: SplitModel) -> dict[str, NDArray[Any]]:
    """The values that travel, by name."""
    return {name: value for name, value in parameters_of(model).items() if not _made_by_freeze(name)}


def fit_scale(bottleneck: LatentBottleneck, spread: float) -> None:
    """Start the prior at the spread of codes that are not here: two values a channel, so far apart."""
    apart = torch.tensor([-1.0, 1.0]) * spread / 2**0.5
    bottleneck.prior.fit_scale(apart.expand(1, bottleneck.prior.channels, 2))
