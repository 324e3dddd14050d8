"""Rounds of which the server sees the sum of all replies and no single one (:mod:`fedsim.federated.masking`).

::

    server                                        clients of the cohort
      query.keys   ------------------------------>  a key pair, for this round alone
                   <------------------------------  the public key
      train        -- packet, all public keys ---->  the method's step, its statistics masked
                   <------------------------------  words that look random
      query.unmask -- who is missing ------------>  those whose words have come
                   <------------------------------  the own secret, and those shared with the missing
      the sum, unmasked, is merged

A client is missing whose reply was lost, late, refused or never came; its own secret is not asked for, so
that what arrives of it stays masked. A client sends words once under its keys, tells secrets once, and only
where enough others stay; who goes missing in between makes the round void: the state stays as it was. So
does a client whose words are wrong, and it cannot be named, because nobody sees what it sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.prototypes import ClassStatistics, StatisticsError
from fedsim.errors import FederationError
from fedsim.federated.masking import FixedPoint, Keys, Words, masked, unmasked
from fedsim.federated.method import Client, FederatedMethod, Predictor, State
from fedsim.federated.packet import Packet
from fedsim.federated.privacy import GaussianPrivacy, PrivateStatistics
from fedsim.federated.site import Site
from fedsim.federated.work import Work

__all__ = ["KEYS", "PASSING", "UNMASK", "Exchange", "Masked", "VoidRoundError"]

#: Actions of Flower's queries.
KEYS, UNMASK = "keys", "unmask"
#: What names of things begin with that a client keeps for one round only.
PASSING = "passing:"

_KEY, _PEERS = PASSING + "key", PASSING + "peers"  # of the client, the number of the round first
_PUBLIC, _ALL, _ABSENT, _SECRETS, _MASKED = "public", "masking:peers", "absent", "secrets", "masked"
_NUMBER, _PARTITION, _BYTES = 8, 4, 32


@dataclass(frozen=True)
class Masked(FederatedMethod):
    """A method whose clients mask what they reply: pairwise, so that only the sum can be read.

    A reply then has eight bytes for every count and every value of every class, whatever the method's own
    messages cost.

    Args:
        method: whose updates are class statistics, of which it needs the sum alone
            (:attr:`fedsim.federated.method.FederatedMethod.additive`).
        least: clients that a sum has to be of. A client tells no secrets where fewer stay.
        share_noise: the noise of the method's privacy is shared: each client adds as much as it takes for
            that of ``least`` clients to add up to what is asked for, in place of all of it each. A client
            itself knows its own part, and those of clients that it is in league with.

    Raises:
        FederationError: the method needs single updates, or there is no noise to share, or ``least`` is
            less than 2.
    """

    method: FederatedMethod
    least: int = 2
    share_noise: bool = False

    def __post_init__(self) -> None:
        if not self.method.additive:
            name = type(self.method).__name__
            shown = "masking shows the sum of all clients' counts and sums, a row a class"
            hint = "; with weighting 'count' that is enough" if _enough_by_count(self.method) else ""
            raise FederationError(f"{name} cannot be masked: {shown}, and it needs more{hint}")
        if self.least < 2:
            raise FederationError(f"masking: least is {self.least}, a sum is of 2 clients or more")
        if self.share_noise and self._privacy is None:
            raise FederationError("masking: share_noise, and the method adds no noise")

    @property
    def additive(self) -> bool:
        """Masked already."""
        return False

    @property
    def _privacy(self) -> GaussianPrivacy | None:
        return self.method.privacy if isinstance(self.method, PrivateStatistics) else None

    # --- as the method itself ---------------------------------------------------------------

    def start(self, site: Site) -> State:
        """As the method."""
        return self.method.start(site)

    def setup(self, site: Site, state: State) -> Packet:
        """As the method."""
        return self.method.setup(site, state)

    def down(self, site: Site, state: State) -> Packet:
        """As the method."""
        return self.method.down(site, state)

    def work(self, site: Site, partition: int, samples: int) -> Work | None:
        """As the method: masks are cheap beside it."""
        return self.method.work(site, partition, samples)

    def merge(self, site: Site, state: State, updates: Sequence[tuple[int, Any]]) -> State:
        """As the method, of one update, which is the sum of all."""
        return self.method.merge(site, state, updates)

    def shared(self, site: Site, state: State) -> Packet:
        """As the method."""
        return self.method.shared(site, state)

    def predictors(self, site: Site, client: Client, packet: Packet) -> Mapping[str, Predictor]:
        """As the method."""
        return self.method.predictors(site, client, packet)

    def publish(self, site: Site, state: State, folder: Path) -> None:
        """As the method."""
        self.method.publish(site, state, folder)

    # --- a client ---------------------------------------------------------------------------

    def keys(self, client: Client) -> Packet:
        """A client's public key of a round."""
        keys = Keys()
        client.kept.pop(_PEERS, None)
        client.kept[_KEY] = _numbered(client.round, keys.private)
        return Packet({_PUBLIC: keys.public})

    def step(self, site: Site, client: Client, packet: Packet) -> Packet:
        """The method's step, and its statistics masked.

        Raises:
            FederationError: no keys of this round, or such as would lay the client open: of too few clients,
                or used already, for two replies under the same masks tell what lies between them.
        """
        keys = Keys(_of_round(client, _KEY))
        if _PEERS in client.kept:
            raise FederationError(f"the keys of round {client.round} have been used")
        peers = _peers(packet[_ALL])
        if peers.get(client.partition) != keys.public or len(peers) < self.least:
            raise FederationError(
                f"the keys of {len(peers)} clients; expected are this one's and {self.least} in all"
            )
        if len(set(peers.values())) < len(peers):  # two equal streams might cancel
            raise FederationError("two clients have the same public key")
        client.kept[_PEERS] = _numbered(client.round, packet[_ALL])
        own = Packet({name: part for name, part in packet.parts.items() if name != _ALL})
        others = {p: key for p, key in peers.items() if p != client.partition}
        secrets = {p: keys.secret(key, client.round) for p, key in others.items()}
        values = self._words(site, client, own)
        words = masked(values, client.partition, keys.own_secret(client.round), secrets)
        return Packet({_MASKED: words.astype("<u8").tobytes()})

    def unmask(self, client: Client, packet: Packet) -> Packet:
        """A client's own secret, and those that it shared with who is missing; once a round.

        Raises:
            FederationError: nothing that it may tell.
        """
        keys, peers = Keys(_of_round(client, _KEY)), _peers(_of_round(client, _PEERS))
        absent = np.frombuffer(packet[_ABSENT], "<u4").tolist()
        stay = len(peers.keys() - set(absent))
        if client.partition in absent or not peers.keys() >= set(absent) or stay < self.least:
            of = f"{len(absent)} of {len(peers)} clients"
            raise FederationError(f"the secrets shared with {of} are not told; {self.least} have to stay")
        del client.kept[_KEY], client.kept[_PEERS]
        shared = (keys.secret(peers[p], client.round) for p in absent)
        return Packet({_SECRETS: b"".join((keys.own_secret(client.round), *shared))})

    def _words(self, site: Site, client: Client, packet: Packet) -> Words:
        """A client's statistics as it would send them, in fixed point."""
        form = _form(site)
        if isinstance(self.method, PrivateStatistics) and self.method.privacy is not None:
            features, labels = self.method.features(site, client)
            sharers = self.least if self.share_noise else 1
            return form.encode_rows(self.method.privacy.rows(features, labels, site.classes, client, sharers))
        return form.encode(self.method.receive(site, self.method.step(site, client, packet)))

    # --- the server -------------------------------------------------------------------------

    def receive(self, site: Site, packet: Packet) -> Words:
        """A client's words, of which only their number can be checked."""
        payload, form = packet[_MASKED], _form(site)
        if len(payload) != (size := 8 * form.classes * (1 + form.dimension)):
            raise FederationError(f"masked statistics of {len(payload)} bytes, expected {size}")
        words = np.frombuffer(payload, "<u8").astype(np.uint64)
        return words.reshape(form.classes, 1 + form.dimension)

    def read(self, site: Site, words: Words, clients: int) -> ClassStatistics:
        """The statistics of an unmasked sum of so many clients.

        Raises:
            StatisticsError: it is none.
        """
        form = _form(site)
        if self._privacy is None:
            return form.decode(words)
        rows = form.decode_rows(words)
        if np.abs(rows).max() > clients * form.most:
            raise StatisticsError("values that cannot be: the masks did not cancel")
        return self._privacy.statistics_of(rows)


#: Sends packets to clients by partition as a query of an action; their replies, and who gave none and why.
Ask = Callable[[str, Mapping[int, Packet]], tuple[dict[int, Packet], dict[int, str]]]


class VoidRoundError(FederationError):
    """A round that comes to nothing. ``refused`` names clients that are to blame, with the reasons."""

    def __init__(self, reason: str, refused: Mapping[int, str] | None = None) -> None:
        super().__init__(reason)
        self.refused = dict(refused or {})


class Exchange:
    """The server's side of one round.

    Args:
        method: masked.
        site: of the run.
        number: of the round.
        ask: asks clients.
    """

    def __init__(self, method: Masked, site: Site, number: int, ask: Ask) -> None:
        self._method = method
        self._site = site
        self._number = number
        self._ask = ask
        self._peers: dict[int, bytes] = {}

    def open(self, cohort: Iterable[int]) -> dict[int, str]:
        """Ask for the public keys.

        Returns:
            who has no part in the round, and why.

        Raises:
            VoidRoundError: too few are left.
        """
        replies, refused = self._ask(KEYS, {partition: Packet() for partition in cohort})
        probe = Keys()
        for partition, packet in sorted(replies.items()):
            try:
                public = packet[_PUBLIC]
                probe.secret(public, self._number)
                if public in self._peers.values():
                    raise FederationError("the public key of another client")
                self._peers[partition] = public
            except FederationError as error:
                refused[partition] = str(error)
        self._check_enough(len(self._peers), refused)
        return refused

    @property
    def cohort(self) -> list[int]:
        """The partitions that are to train, ascending."""
        return sorted(self._peers)

    def packet(self, packet: Packet) -> Packet:
        """A packet for them, with the public keys of all."""
        peers = b"".join(p.to_bytes(_PARTITION, "little") + self._peers[p] for p in self.cohort)
        return packet.with_part(_ALL, peers)

    def close(self, sent: Mapping[int, Words]) -> ClassStatistics:
        """The statistics of all who sent something, together.

        Raises:
            VoidRoundError: too few did, or somebody did not tell the secrets, or not the right ones.
        """
        self._check_enough(len(sent))
        own, shared = self._secrets(sorted(sent))
        total = np.sum([sent[partition] for partition in sorted(sent)], axis=0, dtype=np.uint64)
        try:
            return self._method.read(self._site, unmasked(total, own, shared), len(sent))
        except StatisticsError as error:
            raise VoidRoundError(f"the masked sum cannot be read: {error}") from error

    def _secrets(self, present: list[int]) -> tuple[dict[int, bytes], dict[tuple[int, int], bytes]]:
        """Of those who are present their own secrets, and those that they shared with who is not."""
        absent = [partition for partition in self.cohort if partition not in present]
        packet = Packet({_ABSENT: np.array(absent, "<u4").tobytes()})
        replies, refused = self._ask(UNMASK, dict.fromkeys(present, packet))
        own: dict[int, bytes] = {}
        shared: dict[tuple[int, int], bytes] = {}
        size = _BYTES * (1 + len(absent))
        for partition, reply in replies.items():
            secrets = reply.parts.get(_SECRETS, b"")
            if len(secrets) != size:
                refused[partition] = f"{len(secrets)} bytes of secrets, expected {size}"
                continue
            own[partition], *others = (secrets[at : at + _BYTES] for at in range(0, size, _BYTES))
            shared |= {(partition, other): secret for other, secret in zip(absent, others, strict=True)}
        if refused:
            names = ", ".join(map(str, sorted(refused)))
            raise VoidRoundError(
                f"no secrets of clients {names}, without which the sum stays masked", refused
            )
        return own, shared

    def _check_enough(self, count: int, refused: Mapping[int, str] | None = None) -> None:
        if count < (least := self._method.least):
            raise VoidRoundError(f"{count} clients are left, a masked sum is of {least} or more", refused)


def _enough_by_count(method: FederatedMethod) -> bool:
    """Whether a method that weighs clients alike would be additive if it weighed them by samples."""
    uniform: Any = method
    return getattr(method, "weighting", "") == "uniform" and bool(
        replace(uniform, weighting="count").additive
    )


def _form(site: Site) -> FixedPoint:
    return FixedPoint(site.classes, site.dimension)


def _numbered(number: int, value: bytes) -> bytes:
    return number.to_bytes(_NUMBER, "little") + value


def _of_round(client: Client, name: str) -> bytes:
    """What a client keeps for this round."""
    value = client.kept.get(name, b"")
    if value[:_NUMBER] != client.round.to_bytes(_NUMBER, "little"):
        raise FederationError(f"no keys of round {client.round}")
    return value[_NUMBER:]


def _peers(data: bytes) -> dict[int, bytes]:
    """Public keys by partition."""
    size = _PARTITION + _BYTES
    if len(data) % size:
        raise FederationError(f"public keys of {len(data)} bytes")
    found = [data[at : at + size] for at in range(0, len(data), size)]
    return {int.from_bytes(one[:_PARTITION], "little"): one[_PARTITION:] for one in found}
