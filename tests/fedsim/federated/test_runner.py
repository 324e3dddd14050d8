"""A federation from its scenario to its run folder."""

import io
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from edge.bundle import load_device, load_server
from fedsim import runner
from fedsim.errors import DataError, FederationError
from fedsim.federated.checkpoint import FederationCheckpoint
from fedsim.federated.metering import NO_SOCKET, NOT_READ
from fedsim.federated.method import State
from fedsim.federated.methods.local import Local
from fedsim.federated.runner import federate, specs_of
from fedsim.measure.ledger import read_parquet
from fedsim.measure.schema import Summary, json_schema
from fedsim.progress import Display
from fedsim.scenario import FederatedScenario, Scenario

FAST = {"batch_size": 64, "learning_rate": 0.05}
TINY = {
    "name": "tiny",
    "seed": 3,
    "data": {"name": "digits", "partition": {"kind": "dirichlet", "alpha": 0.5}},
    "model": {"backbone": "digits-cnn", "backbone_arguments": {"widths": [2, 4, 4]}},
    "fleet": [{"count": 4}],
    "federation": {
        "rounds": 3,
        "cohort": 3,
        "evaluate_every": 2,
        "methods": [
            {"name": "local", "training": FAST},
            {"name": "fedavg", "training": FAST},
            {"name": "fedproto", "label": "fedproto-5-bit", "bits": 5, "training": FAST},
        ],
    },
}
SCENARIO = FederatedScenario.model_validate(TINY)
FILES = [
    "federation.png",
    "ledger.parquet",
    "partition.png",
    "rounds.json",
    "scenario.yaml",
    "states",
    "summary.json",
]


def run(out: Path, scenario=SCENARIO) -> tuple[Summary, str]:
    said = io.StringIO()
    runner.run(scenario, out, False, Console(file=said, width=140))
    return Summary.read(out / "summary.json"), said.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary, str]:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    return out, *run(out)


def test_what_a_run_leaves(finished) -> None:
    out, summary, _ = finished
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]
    assert summary.rows == []
    assert summary.scenario == SCENARIO.resolved()
    jsonschema.validate(json.loads((out / "summary.json").read_text()), json_schema())
    for name in ("federation.png", "partition.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 200
    names = {"local", "fedavg", "fedproto-5-bit"}
    assert {path.stem for path in (out / "states").iterdir()} == names
    state = State.from_bytes((out / "states" / "fedproto-5-bit.safetensors").read_bytes())
    assert len(state.statistics["prototypes"]) == 10


def test_the_figures_are_those_of_the_rounds_and_of_the_ledger(finished) -> None:
    out, summary, _ = finished
    federation = summary.federation
    assert federation is not None
    assert [row.method for row in federation.rows] == ["local", "fedavg", "fedproto-5-bit"]
    assert [row.name for row in federation.rows] == ["local", "fedavg", "fedproto"]
    records = json.loads((out / "rounds.json").read_text())
    ledger = read_parquet(out / "ledger.parquet").to_pylist()
    for row in federation.rows:
        assert [one.round for one in row.rounds] == [1, 2, 3]
        assert [bool(one.accuracy) for one in row.rounds] == [False, True, True]
        for one, record in zip(row.rounds, records[row.method], strict=True):
            assert one.cohort == one.merged == len(record["cohort"]) == 3
        mine = [event for event in ledger if event["method"] == row.method]
        for kind, stage in (("up", "up"), ("down", "down"), ("evaluation_down", "evaluate-down")):
            total = getattr(row.bytes, kind)
            found = [event for event in mine if event["stage"] == stage]
            assert total.messages == len(found) > 0
            assert total.payload_bytes == sum(event["payload_bytes"] for event in found)
            assert total.frame_bytes == sum(event["frame_bytes"] for event in found)
            assert total.ideal_bits == pytest.approx(sum(event["ideal_bits"] for event in found))
            assert total.wire_bytes is None
            assert total.payload_bytes == sum(getattr(each.bytes, kind).payload_bytes for each in row.rounds)
        right = sum(
            result["right"]
            for results in records[row.method][-1]["results"].values()
            for result in results
            if (result["predictor"], result["classes"], result["test"]) == ("head", "all", "global")
        )
        (told,) = [
            one for one in row.accuracy if (one.predictor, one.classes, one.test) == ("head", "all", "global")
        ]
        assert (told.right, told.total, told.clients) == (right, 4 * 599, 4)
        assert told.accuracy == right / (4 * 599)
        assert [event["client"] for event in mine if event["stage"] == "merge"] == ["server"] * 3
    local, fedavg, fedproto = federation.rows
    assert local.bytes.up.payload_bytes == local.bytes.down.payload_bytes == 0
    assert 0 < 20 * fedproto.bytes.up.payload_bytes < fedavg.bytes.up.payload_bytes
    assert 8 * fedproto.bytes.up.payload_bytes > fedproto.bytes.up.ideal_bits
    assert sum(one.train + one.test for one in federation.clients) == 1198
    assert federation.provenance.wire == "unavailable"
    assert "socket" in federation.provenance.detail


def test_what_is_printed(finished) -> None:
    _, _, said = finished
    assert "tiny: accuracy in % behind the last round" in said
    assert "tiny: bytes of all clients in a round" in said
    assert f"Note: wire bytes are unavailable; {NO_SOCKET}." in said
    for row in ("local", "fedavg", "fedproto-5-bit"):
        assert any(line.startswith(row) for line in said.splitlines())


def test_killed_anywhere_it_goes_on_to_the_same(finished, tmp_path: Path, monkeypatch) -> None:
    whole, summary, _ = finished
    out, left = tmp_path / "tiny", iter([True] * 6 + [False])  # dies in the second method's second round
    real = FederationCheckpoint.save

    def save(self, *arguments) -> None:
        if not next(left, True):
            raise KeyboardInterrupt
        real(self, *arguments)

    with monkeypatch.context() as mortal:
        mortal.setattr(FederationCheckpoint, "save", save)
        with pytest.raises(KeyboardInterrupt):
            run(out)
    assert not out.exists()
    with monkeypatch.context() as idle:  # what is finished is not carried out again
        idle.setattr(Local, "loss", None)
        again, said = run(out)
    assert "local goes on after round 3 of 3" in said
    assert "fedavg goes on after round 1 of 3" in said
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    assert (out / "rounds.json").read_text() == (whole / "rounds.json").read_text()
    for path in (whole / "states").iterdir():
        assert (out / "states" / path.name).read_bytes() == path.read_bytes()
    columns = ["method", "client", "stage", "round", "ideal_bits", "payload_bytes", "frame_bytes"]
    before, after = (read_parquet(folder / "ledger.parquet").select(columns) for folder in (whole, out))
    assert after.equals(before)
    assert [row.accuracy for row in again.federation.rows] == [
        row.accuracy for row in summary.federation.rows
    ]


def test_another_scenario_does_not_go_on_from_what_this_one_left(tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "tiny"
    one = {**TINY, "federation": {**TINY["federation"], "methods": TINY["federation"]["methods"][1:2]}}
    real = FederationCheckpoint.save

    def save(self, rounds, *arguments) -> None:
        real(self, rounds, *arguments)
        if rounds == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as mortal:
        mortal.setattr(FederationCheckpoint, "save", save)
        with pytest.raises(KeyboardInterrupt):
            run(out, FederatedScenario.model_validate(one))
    summary, said = run(out, FederatedScenario.model_validate({**one, "seed": 4}))
    assert "goes on" not in said
    assert len(summary.federation.rows[0].rounds) == 3


def test_missions_say_how_many_rounds_there_are(tmp_path: Path) -> None:
    growing = {
        **TINY,
        "data": {"name": "digits"},
        "fleet": [{"count": 3}],
        "federation": {
            "missions": {"base": 5, "classes": 2, "shots": 20, "disjoint": True},
            "methods": [
                {"name": "reconnaissance", "pretraining": {"epochs": 1}},
                {
                    "name": "reconnaissance",
                    "label": "private",
                    "masking": {"least": 2},
                    "pretraining": {"epochs": 1},
                    "privacy": {"clip": 1.0, "noise": 1.0, "seed": 1},
                },
            ],
        },
    }
    summary, said = run(tmp_path / "growing", FederatedScenario.model_validate(growing))
    federation = summary.federation
    # Five classes, two a client, three clients: all are met on the first mission.
    assert federation.rounds == 1
    plain, private = federation.rows
    assert plain.rounds[0].cohort == 3
    assert federation.base_samples > 0
    assert plain.bytes.setup.messages == 3
    assert plain.bytes.masking.messages == 0
    assert private.bytes.masking.messages == 12  # keys and secrets, up and down
    assert plain.privacy is None
    assert (private.privacy.level, private.privacy.releases) == ("sample", 1)
    assert 3 < private.privacy.epsilon < 8  # one Gaussian query of multiplier 1 at delta 1e-5
    assert "private: epsilon " in said


def test_what_the_server_does_ahead_of_the_first_round_is_shown(tmp_path: Path) -> None:
    growing = {
        **TINY,
        "data": {"name": "digits"},
        "federation": {
            "missions": {"base": 5, "classes": 2, "shots": 20},
            "rounds": 1,
            "methods": [{"name": "reconnaissance", "pretraining": {"epochs": 2}}],
        },
    }
    said = io.StringIO()
    display = Display(Console(file=said, width=140), every_s=0.0)
    scenario = FederatedScenario.model_validate(growing)
    with display.live():
        federate(scenario, "growing", tmp_path / "checkpoints", display)
    lines = [line.split("  ")[0].strip() for line in said.getvalue().splitlines()]
    assert lines.index("training the embedding 1/2") < lines.index("training the embedding 2/2")
    assert lines.index("training the embedding 2/2") < lines.index("reconnaissance 1/1")


def test_a_split_network_and_a_federation_stand_in_one_run_folder(tmp_path: Path) -> None:
    both = Scenario.model_validate(
        {
            **TINY,
            "model": {**TINY["model"], "cut": "stage2", "bottleneck": {"name": "float16"}},
            "training": {"teacher_epochs": 1, "batch_size": 400},
            "fleet": [{"count": 2}],
            "engine": "inprocess",
            "federation": {"rounds": 1, "methods": [{"name": "local", "training": FAST}]},
            "baselines": ["local"],
        }
    )
    summary, said = run(tmp_path / "both", both)
    assert [row.method for row in summary.rows] == ["local", "float16"]
    assert [row.method for row in summary.federation.rows] == ["local"]
    ledger = read_parquet(tmp_path / "both" / "ledger.parquet")
    federated = [event for event in ledger.to_pylist() if event["round"] is not None]
    assert {event["method"] for event in federated} == {"local"}
    assert ledger.num_rows > len(federated) > 0
    assert {"tradeoff.png", "federation.png"} <= {path.name for path in (tmp_path / "both").iterdir()}
    assert "latency in ms" in said
    assert "accuracy in % behind the last round" in said


def test_what_cannot_be_shared_out_leaves_nothing(tmp_path: Path) -> None:
    few = {**TINY, "data": {"name": "digits", "partition": {"kind": "natural"}}}
    with pytest.raises(DataError, match="does not know where its samples come from"):
        run(tmp_path / "few", FederatedScenario.model_validate(few))
    assert list(tmp_path.iterdir()) == []


def test_where_no_client_is_of_use_the_run_fails_with_the_reason(tmp_path: Path) -> None:
    strict = {**TINY, "federation": {**TINY["federation"], "limits": {"payload_bytes": 100}}}
    with pytest.raises(FederationError, match="no reply of any client was of use"):
        run(tmp_path / "strict", FederatedScenario.model_validate(strict))
    assert not (tmp_path / "strict").exists()


def test_rejected_replies_are_told(tmp_path: Path) -> None:
    site = specs_of(SCENARIO)["local"].site(together=True)
    classes = [len(np.unique(site.dataset.y_train[share.samples(1)])) for share in site.shares]
    row = 4 * (site.dimension) + 3  # bytes of a class in float32, with its count and its number
    most = 10 + row * (max(classes) - 1)
    methods = [{"name": "fedproto", "training": FAST}]
    limited = {"rounds": 1, "methods": methods, "limits": {"payload_bytes": most}}
    summary, said = run(tmp_path / "c", FederatedScenario.model_validate({**TINY, "federation": limited}))
    (found,) = summary.federation.rows
    assert 0 < found.rounds[0].rejected == classes.count(max(classes)) < 4
    (remark,) = found.remarks
    assert remark.startswith(f"fedproto: {found.rounds[0].rejected} replies were rejected: ")
    assert f"allowed are {most}" in said.replace("\n", " ")


@pytest.mark.slow
@pytest.mark.parametrize("tls", [True, False])
def test_a_scenario_says_whether_what_passes_is_encrypted(tmp_path: Path, tls: bool) -> None:
    one = {"rounds": 1, "methods": [{"name": "local", "training": FAST}]} | ({} if tls else {"tls": False})
    scenario = FederatedScenario.model_validate(
        {**TINY, "fleet": [{"count": 1}], "federation": one, "engine": "deployment"}
    )
    federate(scenario, "one", tmp_path, Display(quiet=True))
    served = (tmp_path / "federation-local" / "logs" / "superlink.log").read_text()
    assert ("https://127.0.0.1" if tls else "http://127.0.0.1") in served


@pytest.mark.slow
def test_on_superlink_and_supernodes_the_same_word_by_word(tmp_path: Path) -> None:
    methods = [{"name": "fedproto", "training": FAST}]
    scenario = {**TINY, "fleet": [{"count": 3}], "federation": {"rounds": 2, "methods": methods}}
    here, _ = run(tmp_path / "here", FederatedScenario.model_validate(scenario))
    there, said = run(
        tmp_path / "there", FederatedScenario.model_validate({**scenario, "engine": "deployment"})
    )
    cohorts = [
        [record["cohort"] for record in json.loads((tmp_path / name / "rounds.json").read_text())["fedproto"]]
        for name in ("here", "there")
    ]
    assert cohorts[0] == cohorts[1]
    states = [
        State.from_bytes((tmp_path / name / "states" / "fedproto.safetensors").read_bytes())
        for name in ("here", "there")
    ]
    one, other = (state.statistics["prototypes"] for state in states)
    assert np.array_equal(one.counts, other.counts)
    assert np.abs(one.sums - other.sums).max() < 1e-3
    one, other = (found.federation.rows[0] for found in (here, there))
    assert other.bytes == one.bytes
    assert other.bytes.up.wire_bytes is None
    assert one.rounds[0].step_s > 0
    assert other.rounds[0].step_s is None
    provenance = there.federation.provenance
    assert (provenance.payload, provenance.frame, provenance.wire) == ("measured", "measured", "unavailable")
    assert f"Note: wire bytes are unavailable; {NOT_READ}." in said
    events = read_parquet(tmp_path / "there" / "ledger.parquet").to_pylist()
    assert {(event["run"], event["method"]) for event in events} == {("there", "fedproto")}


def test_a_bottleneck_that_was_learned_together_can_be_served(tmp_path: Path) -> None:
    """The run folder has its bundle, whose server half knows the models of the rounds before."""
    method = {"name": "fedavg-bottleneck", "label": "learned", "cut": "stage2", "warm_up": 0}
    small = {"channels": 2, "encoder_channels": [2, 2], "decoder_channels": [2, 2]}
    methods = [{**method, "arguments": small, "training": {"batch_size": 64}}, {"name": "local"}]
    plan = {**TINY, "federation": {"rounds": 2, "evaluate_every": 2, "methods": methods}}
    run(tmp_path / "out", FederatedScenario.model_validate(plan))
    bundles = tmp_path / "out" / "bundles"
    assert [folder.name for folder in bundles.iterdir()] == ["learned"]
    server, device = load_server(bundles / "learned"), load_device(bundles / "learned")
    assert server.model_id == device.model_id
    assert len(set(server.replaces) - {server.model_id}) == 2  # the first weights, and the first round
