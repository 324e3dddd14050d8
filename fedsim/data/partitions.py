"""Who holds which samples: partitions of a data set over clients, most by flwr-datasets' partitioners."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedsim.data.missions import n_way_k_shot
from fedsim.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flwr_datasets.partitioner import Partitioner

__all__ = ["Partition", "available", "options_of", "partition"]

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Partition:
    """The samples of each client, in ascending order; none belongs to two.

    Args:
        kind: as in a scenario.
        indices: int64 [n_i] for each client; none is empty.
        unused: samples of no client, int64 [m], where the kind leaves some over.
    """

    kind: str
    indices: tuple[Indices, ...]
    unused: Indices

    def __len__(self) -> int:
        """Clients."""
        return len(self.indices)

    def counts(self, labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
        """How many samples of each class each client has, int64 [clients, classes]."""
        rows = [np.bincount(labels[own], minlength=classes) for own in self.indices]
        return np.stack(rows).astype(np.int64)


def _iid(clients: int, seed: int) -> Partitioner:
    """Samples are dealt out at random, the same number to each client."""
    from flwr_datasets.partitioner import IidPartitioner  # noqa: PLC0415

    return IidPartitioner(clients)


def _dirichlet(
    clients: int,
    seed: int,
    *,
    alpha: float,
    smallest: int = 10,
    balanced: bool = False,
) -> Partitioner:
    """Each class is shared out by a draw of a Dirichlet distribution (Yurochkin et al., ICML 2019)."""
    from flwr_datasets.partitioner import DirichletPartitioner  # noqa: PLC0415

    return DirichletPartitioner(
        clients,
        "label",
        alpha=alpha,
        min_partition_size=smallest,
        self_balancing=balanced,
        shuffle=False,
        seed=seed,
    )


def _pathological(clients: int, seed: int, *, classes: int) -> Partitioner:
    """Each client has samples of a few classes, drawn at random (McMahan et al., AISTATS 2017)."""
    from flwr_datasets.partitioner import PathologicalPartitioner  # noqa: PLC0415

    return PathologicalPartitioner(clients, "label", classes, "first-deterministic", shuffle=False, seed=seed)


def _shards(clients: int, seed: int, *, shards: int) -> Partitioner:
    """Samples sorted by class are cut into shards, of which each client gets some (McMahan et al. 2017)."""
    from flwr_datasets.partitioner import ShardPartitioner  # noqa: PLC0415

    return ShardPartitioner(clients, "label", num_shards_per_partition=shards, shuffle=True, seed=seed)


def _natural(clients: int, seed: int) -> Partitioner:
    """Each client is one natural source of samples, such as the person who drew them."""
    from flwr_datasets.partitioner import NaturalIdPartitioner  # noqa: PLC0415

    return NaturalIdPartitioner("source")


def _n_way_k_shot(
    clients: int, seed: int, *, ways: int, shots: int, spread: int = 2
) -> partial[tuple[Indices, ...]]:
    """Each client has some ways, more or fewer by spread, with the same shots of each (Tan et al. 2022)."""
    return partial(n_way_k_shot, clients=clients, ways=ways, spread=spread, shots=shots, seed=seed)


_KINDS: Mapping[str, Callable[..., Partitioner | partial[tuple[Indices, ...]]]] = {
    "iid": _iid,
    "dirichlet": _dirichlet,
    "pathological": _pathological,
    "shards": _shards,
    "natural": _natural,
    "n-way-k-shot": _n_way_k_shot,
}


def available() -> dict[str, str]:
    """Every kind's name, with what it does."""
    return {name: (make.__doc__ or "").strip() for name, make in _KINDS.items()}


@cache
def options_of(kind: str) -> Mapping[str, inspect.Parameter]:
    """The options of a kind by name; one without a default is required."""
    parameters = inspect.signature(_KINDS[kind]).parameters
    return {name: one for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}


def partition(
    labels: NDArray[np.int64],
    kind: str,
    clients: int,
    seed: int,
    *,
    sources: NDArray[np.int64] | None = None,
    **options: Any,
) -> Partition:
    """Share samples out.

    Args:
        labels: class of each sample, int64 [n].
        kind: one of :func:`available`.
        clients: how many. Of kind ``natural`` the first ``clients`` sources get to be one; what the
            others have is unused.
        seed: the same seed gives the same partition.
        sources: natural source of each sample, int64 [n], where the data set knows it.
        options: of the kind (:func:`options_of`).

    Raises:
        DataError: an unknown kind or option, or samples that cannot be shared out so.
    """
    if kind not in _KINDS:
        raise DataError(f"unknown partition {kind!r}; known are {', '.join(_KINDS)}")
    known = options_of(kind)
    for name in options:
        if name not in known:
            allowed = ", ".join(known) or "none"
            raise DataError(f"partition {kind!r} has no option {name!r}; it has {allowed}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in options:
            raise DataError(f"partition {kind!r} needs the option {name!r}")
    if kind == "natural" and sources is None:
        raise DataError("partition 'natural': the data set does not know where its samples come from")
    if not 1 <= clients <= len(labels):
        raise DataError(f"{len(labels)} samples cannot be shared out to {clients} clients")
    order = np.arange(len(labels))
    if kind in {"iid", "pathological"}:  # which deal out in the order of the samples
        order = np.random.default_rng(seed).permutation(len(labels))
    parts = _parts(kind, clients, seed, labels[order], None if sources is None else sources[order], options)
    indices = tuple(np.sort(order[part]) for part in parts)
    for number, own in enumerate(indices):
        if not len(own):
            raise DataError(f"partition {kind!r}: client {number} of {clients} would have no samples")
    used = np.concatenate(indices)
    if (shared := np.bincount(used) > 1).any():
        scarce = int(labels[np.flatnonzero(shared)[0]])
        raise DataError(
            f"partition {kind!r}: class {scarce} has {int((labels == scarce).sum())} samples, too few for "
            f"{clients} clients; fewer clients, ways or shots need fewer"
        )
    return Partition(kind, indices, np.setdiff1d(np.arange(len(labels)), used))


def _parts(
    kind: str,
    clients: int,
    seed: int,
    labels: NDArray[np.int64],
    sources: NDArray[np.int64] | None,
    options: Mapping[str, Any],
) -> list[Indices]:
    from datasets import Dataset  # noqa: PLC0415  (takes seconds to import)

    columns = {"index": np.arange(len(labels)), "label": labels}
    if sources is not None:
        columns["source"] = sources
    try:
        with _quiet():
            partitioner = _KINDS[kind](clients, seed, **options)
            if isinstance(partitioner, partial):
                return list(partitioner(labels))
            partitioner.dataset = Dataset.from_dict(columns)
            parts = [partitioner.load_partition(number)["index"] for number in range(clients)]
    except (ValueError, TypeError, KeyError, RuntimeError, IndexError) as error:
        asked = f"partition {kind!r} of {len(labels)} samples to {clients} clients"
        raise DataError(f"{asked}: {error}") from error
    return [np.asarray(part, dtype=np.int64) for part in parts]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of ``datasets``, and without a warning of what is left unused."""
    import datasets  # noqa: PLC0415

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        if shown:
            datasets.enable_progress_bars()
