"""A run as a text, and what is wrong with one."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.errors import FederationError
from fedsim.federated.methods.fedproto import FedProto
from fedsim.federated.runspec import RunSpec

NETWORK = {"backbone": "digits-cnn", "arguments": {"widths": [2, 4, 8]}}
MISSIONS = {"base": [0, 1, 2, 3, 4], "field": [5, 6, 7, 8, 9], "classes": 2, "shots": 10}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def spec(**values) -> RunSpec:
    given = {"data": "digits", "clients": 3, "method": "fedproto", "rounds": 2, "networks": (NETWORK,)}
    given |= {} if "missions" in values else {"partition": {"kind": "iid"}}
    return RunSpec(**(given | values))


@settings(max_examples=30)
@given(
    options=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    partition=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    dropout=st.floats(0, 0.9),
    slowness=st.dictionaries(st.integers(0, 99).map(str), st.floats(0.1, 9), max_size=3),
    seed=st.integers(0, 2**63),
    results=st.none() | st.text(),
)
def test_what_is_written_is_read_again(options, partition, dropout, slowness, seed, results):
    made = spec(
        options=options,
        partition=partition,
        dropout=dropout,
        slowness=slowness,
        seed=seed,
        results=results,
        limits={"reply_s": 5.0},
        absent=(2, 0),
    )
    text = made.to_json()
    assert RunSpec.from_json(text) == made
    assert text.isascii()
    assert "\n" not in text
    assert RunSpec.from_json(json.dumps(json.loads(text), indent=2)).to_json() == text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rounds": 0}, "rounds = 0: has to be 1 or more"),
        ({"rounds": "2"}, 'rounds = "2": has to be a whole number'),
        ({"rounds": True}, "rounds = true: has to be a whole number"),
        ({"round": 2}, "round = 2: unknown key; did you mean 'rounds'?"),
        ({"seed": -1}, "seed = -1: has to be 0 or more"),
        ({"networks": []}, "networks: clients need at least one"),
        ({"networks": [{"arguments": {}}]}, "networks.0.backbone: is missing"),
        ({"limits": {"replies": 1}}, "limits.replies = 1: unknown key"),
        ({"missions": MISSIONS}, "either this or missions"),
        ({"partition": None}, "either this or missions"),
        ({"partition": None, "missions": {**MISSIONS, "base": 5}}, "missions.base = 5: has to be"),
        ({"partition": None, "missions": {**MISSIONS, "shot": 1}}, "missions.shot = 1: unknown key"),
        ({"absent": [0, 3]}, "absent = 3: has to be numbers of clients"),
        ({"absent": ["first"]}, "absent"),
        ({"slowness": {"first": 2.0}}, "slowness.first: has to be the number of a client"),
    ],
)
def test_what_is_wrong_is_named(values, said):
    document = json.loads(spec().to_json()) | values
    with pytest.raises(FederationError, match="the description of the run") as caught:
        RunSpec.from_json(json.dumps(document))
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"data": "digits"}'])
def test_what_is_no_run_is_refused(text):
    with pytest.raises(FederationError, match="the description of the run"):
        RunSpec.from_json(text)


def test_the_same_site_in_every_process():
    text = spec(missions=MISSIONS, seed=3).to_json()
    one, other = (RunSpec.from_json(text).site(together=False) for _ in range(2))
    assert not one.together
    assert one.clients == 3
    for mine, theirs in zip(one.shares, other.shares, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine.rounds, theirs.rounds, strict=True))
    weights, others = (site.network(0).state_dict() for site in (one, other))
    assert all(value.equal(others[name]) for name, value in weights.items())


def test_what_is_made_of_it():
    made = spec(
        missions=MISSIONS,
        options={"pull": 0.5, "training": {"epochs": 2}},
        cohort=2,
        dropout=0.25,
        slowness={"1": 2.0},
        limits={"payload_bytes": 100},
    )
    method = made.federated_method()
    assert isinstance(method, FedProto)
    assert (method.pull, method.training.epochs) == (0.5, 2)
    assert made.bounds.payload_bytes == 100
    strategy = made.strategy(made.site(together=True), method)
    assert (strategy.cohorts.size, strategy.cohorts.dropout, strategy.rounds) == (2, 0.25, 2)
    assert strategy.cohorts.slowness == {1: 2.0}
    with pytest.raises(FederationError, match="unknown federated method"):
        spec(method="fedprot").federated_method()
