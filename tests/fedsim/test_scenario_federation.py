"""The federation of a scenario: what is right, and one clear line for everything that is wrong."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsim.errors import ScenarioError
from fedsim.federated import method as methods
from fedsim.federated.methods.reconnaissance import Reconnaissance
from fedsim.federated.networks import SplitEncoder
from fedsim.federated.options import method_of
from fedsim.federated.runner import specs_of
from fedsim.federated.runspec import RunSpec
from fedsim.federated.secure_aggregation import Masked
from fedsim.scenario import FederatedScenario, Scenario, load

DEALT: dict[str, Any] = {
    "name": "dealt",
    "data": {"name": "digits", "partition": {"kind": "dirichlet", "alpha": 0.3}},
    "model": {"backbone": "digits-cnn", "backbone_arguments": {"widths": [2, 4, 4]}},
    "fleet": [{"count": 3}, {"count": 1}],
    "federation": {"rounds": 2, "methods": ["local", {"name": "fedproto", "bits": 5}]},
}
GROWING: dict[str, Any] = {
    **{key: DEALT[key] for key in ("model", "fleet")},
    "name": "growing",
    "data": {"name": "digits"},
    "federation": {
        "missions": {"base": 5, "classes": 2, "shots": 10},
        "methods": ["reconnaissance"],
    },
}


@pytest.fixture
def dealt(tmp_path: Path) -> Path:
    (tmp_path / "dealt.yaml").write_text(yaml.safe_dump(DEALT))
    return tmp_path / "dealt.yaml"


@pytest.fixture
def growing(tmp_path: Path) -> Path:
    (tmp_path / "growing.yaml").write_text(yaml.safe_dump(GROWING))
    return tmp_path / "growing.yaml"


def refused(file: Path, *overrides: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        load(file, overrides)
    return str(caught.value).replace(f"{file}: ", "").replace(" (by --set)", "")


def test_a_scenario_without_a_bottleneck_is_federated_only(dealt: Path) -> None:
    scenario = load(dealt)
    assert isinstance(scenario, FederatedScenario)
    assert scenario.engine == "inprocess"
    assert scenario.devices == 4
    assert [section.row for section in scenario.federation.methods] == ["local", "fedproto"]
    assert scenario.federation.methods[1].options == {"bits": 5}


def test_loaded_again_the_resolved_one_is_equal(dealt: Path, growing: Path) -> None:
    for file in (dealt, growing):
        scenario = load(file)
        file.write_text(yaml.safe_dump(scenario.resolved()))
        assert load(file) == scenario


def test_a_split_network_and_a_federation_may_stand_together(dealt: Path) -> None:
    scenario = load(dealt, ["model.cut=stage2", "model.bottleneck={name: float16}"])
    assert isinstance(scenario, Scenario)
    assert scenario.engine == "processes"
    assert scenario.federation is not None
    assert load(dealt).federation == scenario.federation


def test_half_of_a_split_network_is_not_taken_for_none(dealt: Path) -> None:
    assert refused(dealt, "model.cut=stage2").startswith("model.bottleneck: is missing")
    assert refused(dealt, "model.bottleneck={name: float16}") == "model.cut: is missing; has to be text"


def test_what_is_of_split_networks_is_told(dealt: Path) -> None:
    said = refused(dealt, "training.teacher_epochs=3")
    assert "unknown key; the keys here are name, seed, data, model, fleet, federation, engine" in said


def test_a_partition_needs_a_federation(dealt: Path) -> None:
    whole = ["federation=null", "model.cut=stage2", "model.bottleneck={name: float16}"]
    assert refused(dealt, *whole) == "data.partition: is of a federation; there is no section federation"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("fleet.0.link=lte-2013", "fleet.0.link = \"lte-2013\": unknown link; did you mean 'lte-2012'?"),
        ("fleet.0.link=lora-sf7", "is of LoRa, on which rounds are not priced; has to be cellular, Wi-Fi"),
        ("fleet.1.device=raspberry-pi-6", 'fleet.1.device = "raspberry-pi-6": unknown device'),
        ("fleet.1.device=jetson-tx2", "device jetson-tx2: no rate is known of it"),
        ("fleet.1.radio=wifi-pi-4", "fleet.1.radio = \"wifi-pi-4\": is of a link, and the group has none"),
        ("fleet.0.battery_wh=10", "fleet.0.battery_wh: is of a split network; here is none"),
        ("fleet.0.availability={kind: churn}", "fleet.0.availability: is of a split network"),
        ("fleet.0.arrivals={kind: closed}", "fleet.0.arrivals: is of a split network"),
        ("federation.methods.1.bitz=5", "methods.1.bitz = 5: unknown key; did you mean 'bits'?"),
        ("federation.methods.1.bits=20", "methods.1.bits = 20: has to be a whole number, 1 to 16, 32 or 64"),
        ("federation.methods.1.pull=-1", "methods.1.pull = -1: has to be a number, at least 0"),
        ("federation.methods.1.pull=much", 'methods.1.pull = "much": has to be a number'),
        ("federation.methods.1.weighting=best", "has to be one of count, uniform"),
        ("federation.methods.1.training=5", "methods.1.training = 5: has to be a mapping"),
        ("federation.methods.1.training={epoch: 5}", "training.epoch = 5: unknown key; did you mean"),
        ("federation.methods.1.training={epochs: 0}", "epochs = 0: has to be a whole number, at least 1"),
        ("federation.methods.1.name=fedprot", "unknown federated method; did you mean 'fedproto'?"),
        ("federation.methods.1.label=local", 'methods.1 = "local": gives a row the name that methods.0 has'),
        ("federation.methods.1.masking={}", "FedProto cannot be masked"),
        ("federation.methods.1.masking={least: 1}", "least = 1: has to be a whole number, at least 2"),
        ("federation.methods=[]", "federation.methods = []: has to be a list of at least 1 entries"),
        ("federation.rounds=null", "federation.rounds: is missing"),
        ("federation.rounds=0", "federation.rounds = 0: has to be a whole number, at least 1"),
        ("federation.cohort=5", "federation.cohort = 5: the fleet has 4 devices"),
        ("federation.dropout=1", "federation.dropout = 1: has to be a number, at least 0 and less than 1"),
        ("federation.slowness=[2]", "federation.slowness = [2.0]: needs 2 entries"),
        ("federation.tls=perhaps", 'federation.tls = "perhaps": has to be true or false'),
        ("federation.limits={bytes: 3}", "federation.limits.bytes = 3: unknown key"),
        ("federation.limits={payload_bytes: 0}", "payload_bytes is 0"),
        ("federation.round=3", "federation.round = 3: unknown key; did you mean 'rounds'?"),
        ("data.partition.kind=dirichle", "unknown partition; did you mean 'dirichlet'?"),
        ("data.partition={kind: dirichlet}", "data.partition.alpha: is missing; the partition 'dirichlet'"),
        ("data.partition.alpha=much", 'data.partition.alpha = "much": has to be a number'),
        ("data.partition.beta=1", "data.partition.beta = 1: unknown key; the keys here are kind, alpha"),
        ("data.partition=null", "data.partition: is missing"),
        ("data.personal_test=1", "data.personal_test = 1: has to be a number, at least 0 and less than 1"),
        ("federation.missions={base: 5, classes: 1, shots: 5}", "stands beside federation.missions"),
        ("model.backbone=digits-cn", "digits-cn"),
        ("model=null", "model: is missing; name a backbone here, or federation.networks"),
        ("federation.networks=[{backbone: nothing}]", "federation.networks.0 = "),
        ("engine=processes", "unknown engine of a federation; did you mean 'inprocess'? known are"),
        ("fleet.0.count=0", "fleet.0.count = 0"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line(dealt: Path, override: str, said: str) -> None:
    message = refused(dealt, override)
    assert said in message
    assert len(message.splitlines()) == 1


def test_everything_wrong_is_told_at_once(dealt: Path) -> None:
    overrides = ["federation.methods.1.bits=99", "federation.cohort=9", "data.partition.alpha=x"]
    keys = [line.partition(" ")[0] for line in refused(dealt, *overrides).splitlines()]
    assert keys == ["data.partition.alpha", "federation.cohort", "federation.methods.1.bits"]


def test_networks_need_one_prototype_space(dealt: Path) -> None:
    small = "{backbone: digits-cnn, arguments: {widths: [2, 2, 4]}}"
    large = "{backbone: digits-cnn, arguments: {widths: [2, 2, 8]}}"
    said = refused(dealt, f"federation.networks=[{small}, {large}]")
    assert said.startswith("federation.networks: have prototype spaces of ")
    adapted = [part.removesuffix("}") + ", dimension: 6}" for part in (small, large)]
    scenario = load(dealt, [f"federation.networks=[{', '.join(adapted)}]", "model=null"])
    assert specs_of(scenario)["fedproto"].site(together=True).dimension == 6
    said = refused(dealt, f"federation.networks=[{', '.join(adapted)}]", "federation.methods=[fedavg]")
    assert "all clients need the same network" in said


def test_groups_of_the_fleet_have_networks_of_their_own(dealt: Path) -> None:
    wide = "{backbone: digits-cnn, arguments: {widths: [2, 2, 8]}, dimension: 6}"
    coded = (
        "{backbone: digits-cnn, arguments: {widths: [2, 2, 4]}, dimension: 6, cut: stage1, "
        "bottleneck: {name: factorized, channels: 2, beta: 0.001}}"
    )
    networks = f"federation.networks=[{wide}, {coded}]"
    groups = "fleet=[{count: 1}, {count: 3}]"
    spec = specs_of(load(dealt, [networks, groups, "federation.network_of=[1, 0]"]))["fedproto"]
    site = RunSpec.from_json(spec.to_json()).site(together=True)
    assert [share.network for share in site.shares] == [1, 0, 0, 0]
    encoder = site.network(1).encoder
    assert isinstance(encoder, SplitEncoder)
    assert encoder.beta == 0.001
    in_turn = specs_of(load(dealt, [networks, groups]))["fedproto"].site(together=True)
    assert [share.network for share in in_turn.shares] == [0, 1, 0, 1]
    said = refused(dealt, networks, groups, "federation.network_of=[1, 2]")
    assert said == "federation.network_of.1 = 2: there are 2 networks, the first of them is 0"
    said = refused(dealt, networks, groups, "federation.network_of=[1]")
    assert said == "federation.network_of = [1]: needs 2 entries, one for each group of the fleet"
    said = refused(dealt, networks.replace("stage1", "stage9"), groups)
    assert said.startswith("federation.networks.1 = ")
    assert "has no layer 'stage9'" in said


def test_a_classifier_of_prototypes_is_an_option(growing: Path) -> None:
    method = "federation.methods.0={name: reconnaissance, classifier: gaussian, slots: 4}"
    made = specs_of(load(growing, [method]))["reconnaissance"].federated_method()
    assert isinstance(made, Reconnaissance)
    assert (made.classifier, made.slots) == ("gaussian", 4)
    said = refused(growing, method.replace("gaussian", "best"))
    assert "unknown prototype classifier 'best'; known are cosine, euclidean, gaussian" in said
    assert "slots = 0: has to be a whole number, at least 1" in refused(growing, method.replace("4", "0"))
    several = "federation.networks=[{backbone: digits-cnn}, {backbone: digits-cnn}]"
    said = refused(growing, several, "federation.methods=[reconnaissance]")
    assert "has one embedding, so all clients need the same network" in said


def test_missions_fit_the_data(growing: Path) -> None:
    assert "leaves no class to be met; the data set 'digits' has 10" in refused(
        growing, "federation.missions.base=10"
    )
    assert "there are 5 classes to be met" in refused(growing, "federation.missions.classes=6")
    spec = specs_of(load(growing))["reconnaissance"]
    assert spec.missions is not None
    assert (spec.missions["base"], spec.missions["field"]) == ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9])


def test_a_method_that_trains_on_base_classes_needs_some(dealt: Path) -> None:
    assert "so it needs federation.missions" in refused(dealt, "federation.methods=[reconnaissance]")


def test_methods_get_their_options_nested_ones_too(growing: Path) -> None:
    options = "{pretraining: {epochs: 3}, bits: 8, masking: {least: 3}, privacy: {clip: 1.0, noise: 0.5}}"
    scenario = load(growing, [f"federation.methods.0={{name: reconnaissance, {options[1:]}"])
    method = specs_of(scenario)["reconnaissance"].federated_method()
    assert isinstance(method, Masked)
    assert method.least == 3
    inner = method.method
    assert isinstance(inner, Reconnaissance)
    assert (inner.bits, inner.pretraining.epochs, inner.privacy.noise) == (8, 3, 0.5)
    episodic = "{name: reconnaissance, pretraining: {kind: episodic, ways: 4}}"
    made = specs_of(load(growing, [f"federation.methods.0={episodic}"]))["reconnaissance"].federated_method()
    assert made.pretraining.ways == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("pretraining: {kind: lucky}", "unknown pretraining 'lucky'"),
        ("pretraining: {kind: episodic, ways: 1}", "ways is 1"),
        ("pretraining: {epochs: 0}", "epochs is 0"),
        ("privacy: {clip: 1.0}", "privacy.noise: is missing"),
        ("privacy: {clip: 0, noise: 1.0}", "clip is 0"),
        ("masking: {share_noise: true}", "the method adds no noise"),
    ],
)
def test_mistakes_in_nested_options(growing: Path, options: str, said: str) -> None:
    assert said in refused(growing, f"federation.methods.0={{name: reconnaissance, {options}}}")


def test_the_rest_of_a_nested_option_is_the_methods_own() -> None:
    method = method_of("fedproto", {"training": {"epochs": 3}})
    default = methods.find("fedproto")()
    assert method.training.epochs == 3
    assert method.training.momentum == default.training.momentum == 0.5
    assert method.training.batch_size == default.training.batch_size


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:Mine", "federated method 'nowhere:Mine' cannot be imported: No module named 'nowhere'"),
        ("beside:Nothing", "cannot be imported: AttributeError: module 'beside' has no attribute 'Nothing'"),
        ("beside:Half", "'beside:Half' is not complete: it has no down, merge, predictors, receive, shared"),
        ("beside:Loose", "'beside:Loose' is no dataclass that is a FederatedMethod"),
        ("beside:broken", "'beside:broken' is no dataclass that is a FederatedMethod"),
    ],
)
def test_a_method_of_ones_own_that_is_none(dealt: Path, monkeypatch, name: str, said: str) -> None:
    (dealt.parent / "beside.py").write_text(
        "from dataclasses import dataclass\nfrom fedsim.federated.method import FederatedMethod\nbroken = 3\n"
        "class Loose(FederatedMethod): ...\n"
        "@dataclass(frozen=True)\nclass Half(FederatedMethod):\n  def start(self, site): ...\n"
    )
    monkeypatch.syspath_prepend(dealt.parent)
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    message = refused(dealt, f'federation.methods.1={{name: "{name}"}}')
    assert message.startswith("federation.methods.1.name = ")
    assert said in message
    assert len(message.splitlines()) == 1


def test_that_nobody_can_tell_epsilon_is_told_ahead_of_the_run(growing: Path, monkeypatch) -> None:
    private = "federation.methods.0={name: reconnaissance, privacy: {clip: 1.0, noise: 0.5}}"
    load(growing, [private])
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    assert "methods.0.privacy: needs dp-accounting for its epsilon" in refused(growing, private)
    load(growing, [private.replace("0.5", "0.0")])


def test_slowness_is_that_of_the_group(dealt: Path) -> None:
    spec = specs_of(load(dealt, ["federation.slowness=[1, 4]", "federation.deadline_s=2"]))["local"]
    assert spec.slowness == {"0": 1.0, "1": 1.0, "2": 1.0, "3": 4.0}
    assert spec.deadline_s == 2
