"""A described run on the grid in this process."""

import pytest

from fedsim.errors import ClientError, FederationError
from fedsim.federated.engines import inline

from .runs import assert_same, growing


class Killed(BaseException):
    pass


def die_in(number: int):
    def passage(partition, message):
        if (message.metadata.group_id, message.metadata.message_type) == (str(number), "train"):
            raise Killed
        return message

    return passage


def test_a_run_that_is_killed_goes_on(tmp_path):
    spec, folder = growing(rounds=3), tmp_path / "checkpoint"
    rounds: list[int] = []
    whole = inline.run(spec, report=rounds.append)
    assert rounds == [1, 2, 3]
    with pytest.raises(Killed):
        inline.run(spec, checkpoint=folder, sent=die_in(2))
    rounds.clear()
    outcome = inline.run(spec, checkpoint=folder, report=rounds.append)
    assert rounds == [1, 2, 3]
    assert outcome.state.to_bytes() == whole.state.to_bytes()
    assert outcome.records == whole.records
    assert_same(outcome, whole)
    assert not folder.exists()


def test_the_checkpoint_of_another_run_is_no_use(tmp_path):
    with pytest.raises(Killed):
        inline.run(growing(seed=1), checkpoint=tmp_path / "kept", sent=die_in(2))
    rounds: list[int] = []
    inline.run(growing(rounds=1, seed=2), checkpoint=tmp_path / "kept", report=rounds.append)
    assert rounds == [1]


def test_clients_that_all_fail_fail_the_run():
    def damaged(partition, message):
        if message.has_content() and "packet" in message.content:
            del message.content["packet"]
        return message

    with pytest.raises(FederationError, match="no reply of any client was of use"):
        inline.run(growing(rounds=1), received=damaged)
    with pytest.raises(ClientError, match="client 0 failed in 'train'"):
        inline.run(growing(rounds=1), strict=True, sent=damaged)
