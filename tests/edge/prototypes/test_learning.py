"""Devices that learn and a server that classifies, as processes: ``edge.device --learn``, ``edge.server``."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file

from edge.bundle import load_device
from edge.device import main
from edge.learning import counted
from edge.prototypes import ClassStatistics, Prototypes, StatisticsCodec
from edge.samples import Samples

PARTS = ("low", "high")
RUN_A_DEVICE = """
import json, sys
from edge.device import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]))
"""


@pytest.fixture
def server_of(start_server, spaces, tmp_path):
    """Starts a server of ``split`` that keeps its prototypes in one file."""

    def begin(*arguments):
        return start_server(spaces["split"], arguments=["--prototypes", tmp_path / "prototypes", *arguments])

    return begin


@pytest.fixture
def learn(spaces, digits, capsys):
    """Runs a device that learns a file of digits; its exit code and what it printed."""

    def run(address, name, *arguments, model="whole"):
        code = main(
            [
                *("--learn", "--server", address, "--model", str(spaces[model])),
                *("--samples", str(digits[name]), "--client", name, *arguments),
            ]
        )
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if code == 0 else printed.err.splitlines()[-1]

    return run


@pytest.fixture
def learn_apart(spaces, digits):
    """The same in a process of its own; also what it loaded."""

    def run(address, name):
        device = ["--learn", "--server", address, "--model", spaces["whole"], "--samples", digits[name]]
        done = subprocess.run(
            [sys.executable, "-c", RUN_A_DEVICE, *map(str, device), "--client", name],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        printed, about = map(json.loads, done.stdout.splitlines())
        return about[0], printed, set(about[1])

    return run


@pytest.fixture
def classify(spaces, digits, tmp_path, events_of):
    """Runs the ordinary device on the digits to test; its exit code and the end of each sample."""

    def run(address):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        code = main(
            [
                *("--server", address, "--model", str(spaces["split"]), "--samples", str(digits["test"])),
                *("--out", str(out), "--in-flight", "8"),
            ]
        )
        ends = {key[1]: stages["total"][0] for key, stages in events_of(out).items() if key}
        assert len(ends) == 200
        return code, ends

    return run


def features_of(folder, file):
    tensors = load_file(file)
    features = load_device(folder).features(tensors["images"].float() / 255).numpy()
    return features, tensors["labels"].numpy()


def test_two_devices_learn_different_classes_and_a_third_tells_them_all_apart(
    learn, learn_apart, classify, server_of, spaces, digits, tmp_path
):
    server = server_of("--max-classes", "10")
    code, ends = classify(server.address)
    assert code == 4
    assert {end["detail"] for end in ends.values()} == {
        f"refused by the server: sample {number}: there is no prototype yet" for number in ends
    }

    halves = {name: counted(load_device(spaces["whole"]), Samples(digits[name]), name)[0] for name in PARTS}
    counts = {name: int(half.counts.sum()) for name, half in halves.items()}
    code, low, modules = learn_apart(server.address, "low")
    assert (code, low["counted"], low["classes"], low["samples"]) == (0, True, 5, counts["low"])
    code, high = learn(server.address, "high", "--bits", "5")
    assert (code, high["counted"], high["classes"], high["samples"]) == (0, True, 10, sum(counts.values()))
    assert high["payload_bytes"] * 3 < low["payload_bytes"] < low["frame_bytes"]
    # What else no device loads, and so this one does not, says ``test_imports.py``.
    assert {"edge.learning", "edge.prototypes.client"} <= modules
    assert not {"edge.prototypes.service", "edge.prototypes.store", "edge.service"} & modules
    assert not {"torchvision", "compressai", "sklearn", "flwr", "fedsim", "torch._dynamo"} & modules

    code, ends = classify(server.address)
    assert code == 0
    # What the server has is what has been sent: all digits of both devices, 5 to 9 at five bits.
    codecs = {"low": StatisticsCodec(16, 32), "high": StatisticsCodec(16, 5)}
    sent = [codecs[name].decode(codecs[name].encode(halves[name]).payload) for name in PARTS]
    features, labels = features_of(spaces["whole"], digits["test"])
    expected = Prototypes.of(ClassStatistics.merged(sent)).nearest(features)
    found = np.array([ends[number]["prediction"] for number in load_file(digits["test"])["ids"].tolist()])
    assert (found == expected).mean() >= 0.99  # of two that are equally near, arithmetic takes either
    assert (found == labels).mean() >= 0.85
    assert set(found) == set(range(10))

    # A server that is killed knows what it has replied to.
    server.end(signal.SIGKILL)
    before = load_arrays(tmp_path / "prototypes")
    server = server_of("--max-classes", "10", "--learned-with", spaces["whole"])
    _, restarted = classify(server.address)
    assert {n: end["prediction"] for n, end in restarted.items()} == {
        n: end["prediction"] for n, end in ends.items()
    }
    # And a device that is run again, because its reply was lost or because it was killed, counts once.
    code, again = learn(server.address, "low")
    assert (code, again["counted"], again["samples"]) == (0, False, sum(counts.values()))
    # What it does not take is one line.
    refused = f"python -m edge.device: refused by {server.address}: "
    code, error = learn(server.address, "low", model="other")
    assert code == 3
    assert error.startswith(f"{refused}FAILED_PRECONDITION: 'low': model id: expected")
    code, error = learn(server.address, "eleven")
    assert code == 3
    text = "INVALID_ARGUMENT: statistics of 'eleven': class 11 is unknown, allowed are 0 to 9"
    assert error == refused + text
    after = load_arrays(tmp_path / "prototypes")
    assert all(np.array_equal(after[name], before[name]) for name in before)
    assert server.end(signal.SIGTERM) == 0, server.errors
    assert server.errors == ""


def test_without_a_server_it_ends_at_its_deadline(learn):
    code, error = learn("127.0.0.1:1", "low", "--deadline", "0.3")
    assert code == 4
    assert error.startswith("python -m edge.device: 127.0.0.1:1: no answer within 0.3 s: UNAVAILABLE")


def test_statistics_are_those_of_the_samples_and_their_push_is_told_apart_by_them(spaces, digits):
    half = load_device(spaces["whole"])
    statistics, push = counted(half, Samples(digits["low"]), "camera")
    expected = ClassStatistics.of(*features_of(spaces["whole"], digits["low"]))
    assert np.array_equal(statistics.counts, expected.counts)
    assert np.abs(statistics.sums - expected.sums).max() <= 1e-4
    again, same = counted(half, Samples(digits["low"]), "camera")
    assert same == push
    assert np.array_equal(again.sums, statistics.sums)
    others = [
        counted(half, Samples(digits["low"]), "another")[1],
        counted(half, Samples(digits["low"], limit=70), "camera")[1],
        counted(half, Samples(digits["high"]), "camera")[1],
        counted(load_device(spaces["other"]), Samples(digits["low"]), "camera")[1],
    ]
    assert len({push, *others}) == 5
    assert {len(one) for one in (push, *others)} == {16}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--server", None], "--learn needs a tail server: --server HOST:PORT"),
        (["--model", "{whole}", "--model", "{other}"], "--learn takes one --model"),
        (["--out", "events"], "--out is of no use with --learn"),
        (["--repeat", "2"], "--repeat is of no use with --learn"),
        (["--fallback", "{whole}"], "--fallback is of no use with --learn"),
        (["--model", "{whole}", "--level", "1"], "--level is of no use with --learn"),
        (["--interval-ms", "5"], "--interval-ms is of no use with --learn"),
        (["--schedule", "{low}"], "--schedule is of no use with --learn"),
        (["--model", "{whole}", "--head-s", "1"], "--head-s is of no use with --learn"),
        (["--bits", "17"], "bits are 17, allowed are 1 to 16, 32 and 64"),
        (["--bits", "0"], "'0' is not a whole number of at least 1"),
        (["--model", "{split}"], "model split is split at stage2; a device learns with one that is whole"),
        (["--samples", "{unlabelled}"], "the samples have no 'labels', and a device learns labelled ones"),
        (["--samples", "{odd}"], "class -1, allowed are 0 to 2147483647"),
        (["--samples", "{large}"], "model whole takes images [1, 8, 8], the samples are [1, 9, 9]"),
        (["--samples", "{nowhere}"], "there is no file"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(spaces, digits, capsys, arguments, words):
    names = {**spaces, **digits, "nowhere": "nowhere"}
    usual = {"--server": "127.0.0.1:1", "--model": "{whole}", "--samples": "{low}"}
    given = [word for name, value in usual.items() if name not in arguments for word in (name, value)]
    given += [] if None in arguments else arguments
    with pytest.raises(SystemExit) as caught:
        main(["--learn", *(word.format(**names) for word in given)])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if "sample " not in line]
    assert line.startswith("python -m edge.device: ")
    assert words in line


def test_what_only_learning_needs_is_not_taken_without_it(spaces, digits, capsys):
    common = ["--model", str(spaces["whole"]), "--samples", str(digits["low"])]
    for arguments, words in (
        (["--bits", "5", "--out", "events"], "--bits is of no use without --learn"),
        ([], "the following arguments are required: --out"),
    ):
        with pytest.raises(SystemExit) as caught:
            main([*common, *arguments])
        assert caught.value.code == 2
        assert capsys.readouterr().err == f"python -m edge.device: {words}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--learned-with", "{whole}"], "--learned-with is of no use without --prototypes"),
        (["--max-classes", "3"], "--max-classes is of no use without --prototypes"),
        (["--prototypes", "{file}", "--max-classes", "0"], "'0' is not a whole number of at least 1"),
        (["--prototypes", "{file}", "--model", "{narrow}"], "these have: split 16, narrow 8"),
        (["--prototypes", "{file}", "--learned-with", "{split}"], "split is split"),
        (["--prototypes", "{folder}/nowhere/file"], "No such file or directory"),
        (["--prototypes", "{low}"], "has no prototypes, or is damaged"),
    ],
)
def test_what_a_server_cannot_begin_with_is_one_line(spaces, digits, tmp_path, capsys, arguments, words):
    from edge.server import main as serve

    names = {**spaces, **digits, "file": tmp_path / "file", "folder": tmp_path}
    with pytest.raises(SystemExit) as caught:
        serve(["--model", str(spaces["split"]), *(word.format(**names) for word in arguments)])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m edge.server: ")
    assert error.count("\n") == 1
    assert words in error
    assert not (tmp_path / "file").exists()
