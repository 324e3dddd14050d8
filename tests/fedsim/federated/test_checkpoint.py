"""A federated run that is killed goes on from its last finished round to the same result."""

import json
from pathlib import Path

import numpy as np
import pytest
from flwr.serverapp import ServerApp

from fedsim.errors import OutputError
from fedsim.federated import method as methods
from fedsim.federated.checkpoint import FederationCheckpoint
from fedsim.federated.clients import client_app, give_back, kept_by
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.evaluation import Result
from fedsim.federated.grid import InlineGrid, run_inline
from fedsim.federated.local import LocalTraining
from fedsim.federated.method import State
from fedsim.federated.rounds import Rejection, RoundRecord
from fedsim.federated.strategy import MethodStrategy

from .conftest import dealt

ROUNDS = 4


class Killed(BaseException):
    pass


def carry_out(site, method, folder: Path, *, killed_in: int | None = None, identity="run"):
    """Run what is left of a run; die in the middle of a round, if asked."""
    checkpoint = FederationCheckpoint(folder, identity)
    kept = checkpoint.load()

    def die(partition, message):
        where = (message.metadata.group_id, message.metadata.message_type, partition)
        if where == (str(killed_in), "train", 2):
            raise Killed
        return message

    grid = InlineGrid(client_app(lambda context: (site, method)), site.clients, strict=True, sent=die)
    records = [] if kept is None else kept.records
    if kept is not None:
        give_back(grid, kept.clients)

    def ended(state, record):
        records.append(record)
        checkpoint.save(record.number, state, records, frozenset(strategy.informed), kept_by(grid))

    strategy = MethodStrategy(
        site,
        method,
        Cohorts(site.clients, 3, site.seed, dropout=0.2),
        ROUNDS,
        state=None if kept is None else kept.state,
        done=0 if kept is None else kept.rounds,
        informed=() if kept is None else kept.informed,
        round_ended=ended,
    )
    app = ServerApp()
    app.main()(lambda grid, context: strategy.run(grid))
    run_inline(app, grid)
    return strategy.state, records


@pytest.mark.parametrize("name", ["fedavg", "fedsa"])
def test_killed_in_any_round_it_comes_to_the_same(name, tmp_path):
    site = dealt(clients=4)
    method = methods.find(name)(training=LocalTraining(batch_size=32, learning_rate=0.05))
    whole_state, whole_records = carry_out(site, method, tmp_path / "whole")
    folder = tmp_path / "killed"
    deaths = [number for number in range(1, ROUNDS + 1) if 2 in Cohorts(4, 3, 0).of_round(number)]
    assert len(deaths) >= 2
    for number in deaths:
        with pytest.raises(Killed):
            carry_out(site, method, folder, killed_in=number)
    state, records = carry_out(site, method, folder)
    assert state.to_bytes() == whole_state.to_bytes()
    assert records == whole_records
    assert [record.number for record in records] == list(range(1, ROUNDS + 1))


def test_what_no_round_needs_is_removed(tmp_path):
    checkpoint = FederationCheckpoint(tmp_path / "kept", "run")
    for number in (1, 2, 3):
        clients = {0: {"model": b"same"}, 1: {"model": bytes([number])}, 2: {"model": b"same"}}
        checkpoint.save(number, State({"x": np.array([number])}), [], frozenset({0, 1}), clients)
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert [name.partition("-")[0] for name in names] == ["kept", "kept", "run.json", "state"]
    kept = FederationCheckpoint(tmp_path / "kept", "run").load()
    assert kept.rounds == 3
    assert kept.clients == clients
    assert kept.informed == {0, 1}
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_record_comes_back_as_it_was(tmp_path):
    record = RoundRecord(
        3,
        (0, 1, 2, 4),
        merged=(0,),
        lost=(1,),
        rejected=(Rejection(3, 2, "no reply in time"),),
        results={0: [Result("head", "all", "global", 1, 2)]},
        late={4: 0.1},
        void="the masked sum cannot be read",
    )
    FederationCheckpoint(tmp_path, "run").save(3, State(), [record], frozenset(), {})
    assert FederationCheckpoint(tmp_path, "run").load().records == [record]


def test_what_is_damaged_or_of_another_run_is_not_gone_on_from(tmp_path):
    checkpoint = FederationCheckpoint(tmp_path, "run")
    assert checkpoint.load() is None
    checkpoint.save(1, State(), [], frozenset(), {0: {"a": b"b"}})
    assert FederationCheckpoint(tmp_path, "another").load() is None
    assert FederationCheckpoint(tmp_path, "run").load() is not None
    next(tmp_path.glob("kept-*")).write_bytes(b"x")
    assert FederationCheckpoint(tmp_path, "run").load() is None
    whole = json.loads((tmp_path / "run.json").read_text())
    for text in ("{", "[]", json.dumps({**whole, "clients": []}), json.dumps({**whole, "records": [{}]})):
        (tmp_path / "run.json").write_text(text)
        assert FederationCheckpoint(tmp_path, "run").load() is None


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        FederationCheckpoint(tmp_path / "file", "run").save(1, State(), [], frozenset(), {})
