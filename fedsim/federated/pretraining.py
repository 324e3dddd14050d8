"""How a server trains an embedding on the classes that it knows, before anybody goes out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from fedsim.errors import FederationError, TrainingError
from fedsim.federated.episodes import Episodes, prototypical_loss, prototypical_scores
from fedsim.federated.networks import PrototypeNetwork
from fedsim.federated.personal import load_values, values_codec
from fedsim.federated.site import Site, features_of, parameters_of
from fedsim.training.classifier import train_classifier
from fedsim.training.loop import Images, as_input, one_cycle

__all__ = ["EpisodicPretraining", "Pretraining", "available", "from_options", "options_of"]


@dataclass(frozen=True)
class Pretraining:
    """Training of a classifier of the base classes, whose features then serve for all classes.

    Args:
        epochs: passes over the base samples.
        batch_size: samples a step.
        learning_rate: of Adam.

    Raises:
        FederationError: numbers out of bounds.
    """

    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        _check_whole(self, epochs=1, batch_size=1)
        _check_rate(self.learning_rate)

    def trained(self, site: Site) -> PrototypeNetwork:
        """The site's first network, trained from its first weights, in evaluation mode.

        Raises:
            FederationError: the server has no base samples.
        """
        base = _base(site)
        network = _untrained(site)
        with torch.random.fork_rng(), site.display.task("training the embedding", self.epochs) as task:
            torch.manual_seed(site.seed)
            train_classifier(
                network,
                base,
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                generator=torch.Generator().manual_seed(site.seed),
                task=task,
            )
        return network


@dataclass(frozen=True)
class EpisodicPretraining:
    """Training of the embedding itself, on episodes of base classes, as it is used later on.

    Snell, Swersky, Zemel: "Prototypical Networks for Few-shot Learning", NeurIPS 2017: in every episode
    the queries of some classes have to be nearer to the mean of their own class than to those of the others;
    the paper finds many classes an episode to help. Adam, with a learning rate that rises over the first
    tenth and then falls to nothing (:func:`fedsim.training.loop.one_cycle`).

    Which weights are the best is decided by base classes that are held out, all of them told apart at once,
    and by no class that clients will meet; of two equal ones, the earlier stay.

    Args:
        episodes: steps, at most.
        ways: classes in an episode.
        shots: samples of each that its prototype is made of.
        queries: samples of each that are told by the prototypes.
        learning_rate: of Adam, at its largest.
        rotations: base classes turned by 90, 180 and 270 degrees are further classes.
        shift: pixels by which samples to train on are moved at most, each time anew.
        held_out: share of the base classes to choose the weights by; of 0, those of the end are taken.
        validate_every: episodes from one look at the held-out classes to the next.
        patience: looks without a better result, after which the training ends; None to go on to the end.

    Raises:
        FederationError: numbers out of bounds.
    """

    episodes: int = 2000
    ways: int = 60
    shots: int = 5
    queries: int = 5
    learning_rate: float = 1e-3
    rotations: bool = False
    shift: int = 0
    held_out: float = 0.1
    validate_every: int = 100
    patience: int | None = None

    def __post_init__(self) -> None:
        _check_whole(self, episodes=1, ways=2, shots=1, queries=1, shift=0, validate_every=1)
        if self.patience is not None:
            _check_whole(self, patience=1)
        _check_rate(self.learning_rate)
        if not isinstance(self.rotations, bool):
            raise FederationError(f"pretraining: rotations is {self.rotations!r}, allowed are true and false")
        if not _is_number(self.held_out) or not 0 <= self.held_out < 1:
            allowed = "allowed is a number, 0 and more, less than 1"
            raise FederationError(f"pretraining: held_out is {self.held_out!r}, {allowed}")

    def trained(self, site: Site) -> PrototypeNetwork:
        """The site's first network, trained from its first weights, in evaluation mode.

        Raises:
            FederationError: the server has no base samples, or too few for such episodes.
            TrainingError: the loss is not finite.
        """
        training, examination = self._prepared(site)
        network = _untrained(site)
        # Twice as fast as the other order on a CPU, with the same result but for rounding.
        network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.random.fork_rng(), site.display.task("training the embedding", self.episodes) as task:
            torch.manual_seed(site.seed)
            self._train(network, training, examination, site.seed, task.advance)
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return network.eval()

    def _prepared(self, site: Site) -> tuple[Episodes, Tensor | None]:
        """The classes to train on, and one task of all that are held out; both of base classes alone."""
        base = _base(site)
        classes = np.unique(base.labels.numpy())
        order = np.random.default_rng(site.seed).permutation(classes)
        count = round(self.held_out * len(classes))

        def of(some: np.ndarray, shift: int) -> Episodes:  # type: ignore[type-arg]
            return Episodes(base, np.sort(some).tolist(), self.shots + self.queries, self.rotations, shift)

        training, held_out = of(order[count:], self.shift), of(order[:count], 0)
        if self.ways > training.ways:
            turned = ", with their rotations" if self.rotations else ""
            most = f"{training.ways} base classes to train on{turned}"
            raise FederationError(f"pretraining: ways is {self.ways}, and there are {most}")
        if not self.held_out:
            return training, None
        if held_out.ways < 2:
            share = f"held_out is {self.held_out:g}, which is {count} of {len(classes)} base classes"
            raise FederationError(f"pretraining: {share}; 2 are needed to choose by, or held_out: 0")
        return training, held_out.draw(held_out.ways, torch.Generator().manual_seed(site.seed))

    def _train(
        self,
        network: PrototypeNetwork,
        training: Episodes,
        examination: Tensor | None,
        seed: int,
        advance: Callable[[Mapping[str, float]], None],
    ) -> None:
        """Train in place, to the weights that are best."""
        trained = [value for name, value in network.named_parameters() if not name.startswith("head.")]
        optimiser = torch.optim.Adam(trained, self.learning_rate)
        scheduler = LambdaLR(optimiser, partial(one_cycle, steps=self.episodes))
        generator = torch.Generator().manual_seed(seed)
        best, weights, looks = -1.0, None, 0
        figures: dict[str, float] = {}
        for episode in range(1, self.episodes + 1):
            pixels = training.draw(self.ways, generator)
            features = network.features(as_input(pixels.flatten(0, 1)))
            loss, right = prototypical_loss(features.reshape(*pixels.shape[:2], -1), self.shots)
            if not bool(torch.isfinite(loss)):
                value = float(loss.detach())
                raise TrainingError(
                    f"pretraining: the loss is {value:g} in episode {episode}; lower the learning rate"
                )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            scheduler.step()
            figures |= {"loss": float(loss.detach()), "right": right}
            if examination is not None and (episode % self.validate_every == 0 or episode == self.episodes):
                figures["held-out"] = found = self._examined(network, examination)
                looks += 1
                if found > best:
                    best, weights, looks = found, copy.deepcopy(network.state_dict()), 0
            advance(figures)
            if self.patience is not None and looks >= self.patience:
                break
        if weights is not None:
            network.load_state_dict(weights)

    def _examined(self, network: PrototypeNetwork, examination: Tensor) -> float:
        """Share of the queries of a task that are told rightly in evaluation mode; then goes on training."""
        features = features_of(network, examination.flatten(0, 1)).reshape(*examination.shape[:2], -1)
        scores, labels = prototypical_scores(features, self.shots)
        network.train()
        return float((scores.argmax(1) == labels).float().mean())


_KINDS: Mapping[str, type[Pretraining] | type[EpisodicPretraining]] = {
    "classifier": Pretraining,
    "episodic": EpisodicPretraining,
}


def available() -> dict[str, str]:
    """Every kind's name, with the first line of its documentation."""
    return {name: (kind.__doc__ or "").partition("\n")[0] for name, kind in _KINDS.items()}


def options_of(kind: str) -> tuple[str, ...]:
    """Names of the options of a kind.

    Raises:
        FederationError: unknown; lists the known ones.
    """
    if not isinstance(kind, str) or kind not in _KINDS:
        raise FederationError(f"unknown pretraining {kind!r}; known are {', '.join(_KINDS)}")
    return tuple(one.name for one in fields(_KINDS[kind]))


def from_options(options: Mapping[str, Any]) -> Pretraining | EpisodicPretraining:
    """A pretraining as a scenario names it: its ``kind``, by default ``classifier``, and its options.

    ::

        {kind: episodic, episodes: 3000, ways: 60, rotations: true}

    Raises:
        FederationError: an unknown kind or option, or a value that is not allowed.
    """
    given = dict(options)
    kind = given.pop("kind", "classifier")
    known = options_of(kind)
    for name in given:
        if name not in known:
            raise FederationError(f"pretraining {kind!r} has no option {name!r}; it has {', '.join(known)}")
    return _KINDS[kind](**given)


def _base(site: Site) -> Images:
    if not len(site.base):
        raise FederationError("the server has no base samples to train an embedding on")
    chosen = torch.from_numpy(site.base)
    return Images(site.images[chosen], site.labels[chosen])


def _untrained(site: Site) -> PrototypeNetwork:
    """The site's first network with its first weights, whatever anybody has made of it in between."""
    values: bytes = site.first(0, lambda network: values_codec(site, 0).encode(parameters_of(network)))
    return load_values(site, 0, values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_whole(pretraining: Pretraining | EpisodicPretraining, **least: int) -> None:
    for name, smallest in least.items():
        value = getattr(pretraining, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
            allowed = f"allowed is a whole number, {smallest} or more"
            raise FederationError(f"pretraining: {name} is {value!r}, {allowed}")


def _check_rate(rate: Any) -> None:
    if not _is_number(rate) or not 0 < rate < float("inf"):
        allowed = "allowed is a number, more than 0"
        raise FederationError(f"pretraining: learning_rate is {rate!r}, {allowed}")
