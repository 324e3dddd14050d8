"""The folder in which a server leaves what came of a run."""

import numpy as np
import pytest

from fedsim.errors import DataError, FederationError, OutputError
from fedsim.federated.engines.outcome import Outcome, ResultFolder
from fedsim.federated.method import State
from fedsim.federated.strategy import Rejection, RoundRecord


def test_a_run_that_came_to_its_end(tmp_path):
    server, reader = ResultFolder(tmp_path / "results"), ResultFolder(tmp_path / "results")
    assert (reader.rounds(), reader.server(), reader.failure(), reader.done()) == (0, None, None, False)
    records = [RoundRecord(number, (0, 1), merged=(0,)) for number in (1, 2)]
    with server.told():
        assert reader.server() is not None
        for record in records:
            server.round_ended(State({"x": np.array([record.number])}), record)
            assert reader.rounds() == record.number
            assert not reader.done()
            with pytest.raises(FederationError, match="no result"):
                reader.outcome()
    assert reader.done()
    assert reader.failure() is None
    outcome = reader.outcome(["a trouble"])
    assert outcome.records == records
    assert outcome.state.arrays["x"] == 2
    assert outcome.troubles == ("a trouble",)


@pytest.mark.parametrize(
    ("error", "said", "expected"),
    [
        (DataError("no such data"), "no such data", True),
        (ZeroDivisionError("by nothing"), "the ServerApp failed: ZeroDivisionError: by nothing", False),
        (SystemExit(3), "the ServerApp failed: SystemExit: 3", False),
    ],
)
def test_a_server_that_gives_up_says_why(tmp_path, error, said, expected):
    folder = ResultFolder(tmp_path)
    with pytest.raises(type(error)), folder.told():
        raise error
    assert folder.failure() == (said, expected)
    assert not folder.done()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), ResultFolder(tmp_path / "file").told():
        pytest.fail("nothing can be told there")


def test_a_run_that_nobody_had_a_part_in_has_failed():
    refused = RoundRecord(1, (0, 1), rejected=(Rejection(1, 1, "values that are not finite"),))
    with pytest.raises(FederationError, match=r"client 1, round 1: values that are not finite"):
        Outcome(State(), [refused])
    Outcome(State(), [refused, RoundRecord(2, (0, 1), merged=(0,))])
    Outcome(State(), [RoundRecord(1, (0,), lost=(0,))])
