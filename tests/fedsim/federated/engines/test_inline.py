"""A described run on the grid in this process."""

from pathlib import Path

import pytest

from fedsim.errors import ClientError, FederationError
from fedsim.federated.checkpoint import FederationCheckpoint, Kept
from fedsim.federated.engines import inline
from fedsim.federated.pretraining import Pretraining

from .runs import assert_same, growing, personal


class Killed(BaseException):
    pass


def kept_in(folder: Path):
    checkpoint = FederationCheckpoint(folder, "run")

    def keep(now: Kept) -> None:
        checkpoint.save(now.rounds, now.state, now.records, now.informed, now.clients)

    return keep


def die_in(number: int):
    def passage(partition, message):
        if (message.metadata.group_id, message.metadata.message_type) == (str(number), "train"):
            raise Killed
        return message

    return passage


def test_a_run_that_is_killed_goes_on(tmp_path):
    spec = growing(rounds=3)
    runs: list[Kept] = []
    whole = inline.run(spec, keep=runs.append)
    assert [one.rounds for one in runs] == [0, 1, 2, 3]
    assert [len(one.records) for one in runs] == [0, 1, 2, 3]
    with pytest.raises(Killed):
        inline.run(spec, keep=kept_in(tmp_path), sent=die_in(2))
    runs.clear()
    outcome = inline.run(spec, kept=FederationCheckpoint(tmp_path, "run").load(), keep=runs.append)
    assert [one.rounds for one in runs] == [2, 3]
    assert outcome.state.to_bytes() == whole.state.to_bytes()
    assert outcome.records == whole.records
    assert_same(outcome, whole)


def test_what_is_trained_ahead_of_the_first_round_is_not_trained_again(tmp_path, monkeypatch):
    spec = growing()
    whole = inline.run(spec)
    with pytest.raises(Killed):
        inline.run(spec, keep=kept_in(tmp_path), sent=die_in(1))
    kept = FederationCheckpoint(tmp_path, "run").load()
    assert kept.rounds == 0
    with monkeypatch.context() as idle:
        idle.setattr(Pretraining, "trained", None)
        assert inline.run(spec, kept=kept).state.to_bytes() == whole.state.to_bytes()


def test_clients_that_train_at_once_come_to_the_same():
    spec = personal(clients=3)
    assert_same(inline.run(spec), inline.run(spec, at_once=True))


def test_clients_that_all_fail_fail_the_run():
    def damaged(partition, message):
        if message.has_content() and "packet" in message.content:
            del message.content["packet"]
        return message

    with pytest.raises(FederationError, match="no reply of any client was of use"):
        inline.run(growing(rounds=1), received=damaged)
    with pytest.raises(ClientError, match="client 0 failed in 'train'"):
        inline.run(growing(rounds=1), strict=True, sent=damaged)
