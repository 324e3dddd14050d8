"""The apps that processes of Flower's engines import by reference, here on the grid in this process."""

import dataclasses

import pytest
from flwr.supercore.object_ref import load_app

from fedsim.errors import FederationError
from fedsim.federated import flower
from fedsim.federated.engines import inline
from fedsim.federated.engines.outcome import ResultFolder
from fedsim.federated.grid import InlineGrid, run_inline
from fedsim.federated.metering import NOT_READ, Meter

from .engines.runs import assert_same, growing, personal


def carried_out(spec) -> None:
    """As an engine does: the apps by reference, and nothing but a text in the configuration."""
    server, client = (
        load_app(f"fedsim.federated.flower:{name}", FederationError) for name in ("server_app", "client_app")
    )
    config = {flower.RUN: spec.to_json()}
    run_inline(server, InlineGrid(client, spec.clients, run_config=config), run_config=config)


def test_a_run_is_all_in_its_configuration(tmp_path):
    spec = growing(results=str(tmp_path / "results"))
    carried_out(spec)
    outcome = ResultFolder(tmp_path / "results").outcome()
    assert_same(inline.run(spec), outcome)
    assert [record.merged for record in outcome.records] == [(0, 1), (0, 1)]


def test_bytes_are_those_of_one_process_and_what_is_not_known_is_not_said(tmp_path):
    spec = growing(rounds=3, clients=3, dropout=0.5, results=str(tmp_path / "results"))
    carried_out(spec)
    site = spec.site(together=True)
    meter = Meter("run", "row", site.dimension, lost=spec.cohorts.lost)
    inline.run(spec, site, sent=meter.sent, received=meter.received, merged=meter.merged)

    def told(events):
        sizes = [
            (e.round, e.stage, e.client, e.payload_bytes, e.frame_bytes, e.ideal_bits)
            for e in events
            if e.payload_bytes is not None or e.stage == "merge"
        ]
        return sorted(sizes, key=str)

    here, there = meter.take(), ResultFolder(tmp_path / "results").outcome().events
    assert told(there) == told(here)
    assert {e.stage for e in here} - {e.stage for e in there} == {"step", "evaluate"}
    assert {e.detail for e in there if e.payload_bytes is not None} == {NOT_READ}


def test_a_client_that_fails_says_why(tmp_path):
    training = {"learning_rate": 1e20, "momentum": 0.0, "batch_size": 8}
    spec = personal(rounds=1, clients=3, options={"training": training}, results=str(tmp_path))
    carried_out(spec)
    with pytest.raises(FederationError, match=r"round 1: the loss is (inf|nan); lower the learning rate$"):
        ResultFolder(tmp_path).outcome()


def test_a_server_that_fails_says_why_in_its_folder(tmp_path):
    spec = growing(results=str(tmp_path), options={"bits": 3, "bit": 4})
    with pytest.raises(FederationError, match="bit = 4: unknown key"):
        carried_out(spec)
    message, expected = ResultFolder(tmp_path).failure()
    assert "bit = 4: unknown key" in message
    assert expected


def test_a_configuration_without_a_run():
    with pytest.raises(FederationError, match="has no text 'fedsim-run'"):
        run_inline(flower.server_app, InlineGrid(flower.client_app, 1))
    spec = dataclasses.replace(growing(), results=None)
    with pytest.raises(FederationError, match="results is missing"):
        run_inline(
            flower.server_app, InlineGrid(flower.client_app, 2), run_config={flower.RUN: spec.to_json()}
        )
