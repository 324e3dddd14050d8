"""What is chosen when a model is run: its name, its level, a cap on its bytes; and packets that get lost."""

import asyncio
from collections import Counter

import pytest
import torch
from safetensors.torch import save_file

from edge.bundle import ModelSpec, build, load_device, save
from edge.device import main
from edge.journal import Journal
from edge.samples import Samples
from edge.sending import Choice, Erasure
from edge.session import Plan, run_model

LEVELS = 3


@pytest.fixture(scope="module")
def levelled(tmp_path_factory):
    """Folder of a model that is not trained, but whose prior fits the spread of its code."""
    spec = ModelSpec(
        name="levelled",
        network="digits-cnn",
        network_arguments={},
        cut="stage2",
        entry=None,
        input_shape=(1, 8, 8),
        bottleneck="variable-rate",
        bottleneck_arguments={"channels": 4, "levels": LEVELS, "encoder_channels": [8, 6]},
        rate=0.5,
    )
    torch.manual_seed(0)
    model = build(spec).eval()
    model.bottleneck.prepare_training()
    with torch.no_grad():
        features = model.head(torch.rand(64, 1, 8, 8))
        model.bottleneck.encoder[-1].weight.mul_(5.0 / model.bottleneck.encoder(features).std())
        model.bottleneck.calibrate(features)
    model.bottleneck.freeze()
    folder = tmp_path_factory.mktemp("levelled") / "levelled"
    save(model, spec, folder)
    return folder


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A file of six images of growing contrast, so that their payloads grow, too."""
    path = tmp_path_factory.mktemp("contrasts") / "samples.safetensors"
    noise = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    images = (noise * torch.linspace(20, 255, 6).view(6, 1, 1, 1)).to(torch.uint8)
    save_file({"images": images, "labels": torch.arange(6), "ids": torch.arange(100, 106)}, path)
    return path


@pytest.fixture
def session(levelled, samples, serve, tmp_path, events_of):
    """Runs samples through a half, several choices one after the other; the tallies and the events."""
    runs = iter(range(100))

    def run(half, *choices, fallback=None, limit=6, folder=levelled, **plan):
        out = tmp_path / f"events.{next(runs)}.jsonl"
        journal = Journal(out)
        tallies = []

        async def check(server):
            chosen = Plan(run="r", client="c", server=server.address, **plan)
            for choice in choices:
                running = run_model(half, Samples(samples, limit=limit), chosen, journal, fallback, choice)
                tallies.append(await asyncio.wait_for(running, 30))

        serve([folder], check)
        journal.close()
        events = events_of(out)
        events.pop(None, None)
        return tallies, events

    return run


@pytest.fixture
def payloads(levelled, samples):
    """The payloads of the first six samples, level by level."""
    half, images = load_device(levelled), Samples(samples)
    features = torch.cat([half.features(images.image(i)) for i in range(6)])
    return [half.encode(features, level) for level in range(LEVELS)]


def test_a_half_encodes_at_a_level(levelled, payloads, samples):
    half = load_device(levelled)
    features = half.features(Samples(samples).image(0))
    assert half.levels == LEVELS
    assert half.encode(features) == [payloads[LEVELS - 1][0]]
    assert [payload[0][0] for payload in payloads] == [0, 1, 2]
    with pytest.raises(ValueError, match="level is 3, allowed are whole numbers of 0 to 2"):
        half.encode(features, 3)


def test_one_bundle_is_several_rows(levelled, session, payloads):
    choices = [Choice(f"level{level}", level) for level in range(LEVELS)]
    tallies, events = session(load_device(levelled), *choices, Choice())
    assert [tally.failed for tally in tallies] == [0] * 4
    for level, name in enumerate(("level0", "level1", "level2")):
        for position, payload in enumerate(payloads[level]):
            stages = events[name, 100 + position]
            assert stages["send"][0]["payload_bytes"] == len(payload)
            assert stages["total"][0]["outcome"] == "answered"
            assert "detail" not in stages["total"][0]
            # Where nothing is chosen, it is the highest level under the model's own name.
            if level == LEVELS - 1:
                assert events["levelled", 100 + position]["send"][0]["payload_bytes"] == len(payload)


@pytest.mark.parametrize("top", [None, 1])
def test_a_cap_takes_the_highest_level_that_fits(levelled, session, payloads, top):
    lengths = [[len(payload) for payload in level] for level in payloads]
    cap = sorted(lengths[1])[2]  # level 1 fits for some, level 0 for all
    assert max(lengths[0]) <= cap < max(lengths[1])
    _, events = session(load_device(levelled), Choice(level=top, max_bytes=cap))
    assert all(min(level) < max(level) for level in lengths)
    highest = LEVELS - 1 if top is None else top
    expected = [max(i for i in range(highest + 1) if lengths[i][position] <= cap) for position in range(6)]
    assert {0, 1} <= set(expected)
    for position, level in enumerate(expected):
        stages = events["levelled", 100 + position]
        assert stages["send"][0]["payload_bytes"] == lengths[level][position]
        assert stages["total"][0]["detail"] == f"level {level}"


@pytest.mark.parametrize("fallback", [False, True])
def test_where_no_level_fits_nothing_is_sent(levelled, models, session, payloads, fallback):
    whole = load_device(models["whole"]) if fallback else None
    tallies, events = session(load_device(levelled), Choice(max_bytes=2), fallback=whole)
    assert tallies[0].failed == (0 if fallback else 6)
    for position in range(6):
        stages = events["levelled", 100 + position]
        (total,) = stages["total"]
        assert total["outcome"] == ("local" if fallback else "failed")
        assert total["detail"] == f"no level fits 2 bytes (lowest takes {len(payloads[0][position])})"
        assert sorted(stages) == ["encode", "head", "total"]


def test_a_cap_works_for_a_model_of_one_level(models, session):
    half = load_device(models["plain"])
    for cap, outcome in ((10**6, "answered"), (1, "failed")):
        _, events = session(half, Choice(max_bytes=cap), limit=2, folder=models["plain"])
        assert {stages["total"][0]["outcome"] for stages in events.values()} == {outcome}


def test_lost_packets_are_the_same_whatever_is_in_flight(levelled, session, payloads):
    found = []
    for in_flight in (1, 4):
        erasure = Erasure(0.4, seed=0)
        _, events = session(load_device(levelled), Choice(), in_flight=in_flight, erasure=erasure)
        found.append(
            {
                number: (stages["send"][0]["frame_bytes"] if "send" in stages else None)
                for (_, number), stages in events.items()
            }
        )
        for (_, number), stages in events.items():
            whole = len(payloads[LEVELS - 1][number - 100])
            if "send" in stages:  # what was coded is counted, and what crossed the socket
                assert stages["send"][0]["payload_bytes"] == whole
                assert stages["send"][0]["ideal_bits"] > 0
            else:
                assert stages["total"][0]["detail"] == "every packet was lost"
    assert found[0] == found[1]
    assert any(frame is None for frame in found[0].values())
    _, untouched = session(load_device(levelled), Choice())
    full = {number: stages["send"][0]["frame_bytes"] for (_, number), stages in untouched.items()}
    kept = Counter(frame == full[number] for number, frame in found[0].items() if frame is not None)
    assert kept[False]
    assert all(frame is None or frame <= full[number] for number, frame in found[0].items())


def test_where_everything_is_lost_the_fallback_answers(levelled, models, session):
    whole = load_device(models["whole"])
    tallies, events = session(load_device(levelled), Choice(), fallback=whole, erasure=Erasure(1.0))
    assert tallies[0].failed == 0
    totals = [stages["total"][0] for stages in events.values()]
    assert {(total["outcome"], total["detail"]) for total in totals} == {("local", "every packet was lost")}


def test_the_command_line_gives_each_model_its_own(
    levelled, models, samples, start_server, tmp_path, events_of, payloads
):
    out = tmp_path / "events.jsonl"
    arguments = [
        "--server", start_server(levelled).address, "--samples", samples, "--out", out, "--limit", "6",
        "--model", levelled, "--as", "low", "--level", "0",
        "--model", levelled, "--method", "small", "--max-bytes", max(map(len, payloads[1])),
        "--model", levelled,
        "--model", models["whole"], "--as", "nothing sent",
    ]  # fmt: skip
    assert main(list(map(str, arguments))) == 0
    events = events_of(out)
    sizes = {
        name: [events[name, 100 + i]["send"][0]["payload_bytes"] for i in range(6)]
        for name in ("low", "small", "levelled")
    }
    assert sizes["low"] == [len(payload) for payload in payloads[0]]
    assert sizes["small"] == [len(payload) for payload in payloads[1]]
    assert sizes["levelled"] == [len(payload) for payload in payloads[2]]
    assert events["nothing sent", 100]["total"][0]["outcome"] == "local"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--level", "0", "--model", "{levelled}"],
            "--level: has to stand behind the --model that it is for",
        ),
        (
            ["--model", "{levelled}", "--level", "0", "--level", "1"],
            "--level: is given twice for one --model",
        ),
        (["--model", "{levelled}", "--level", "-1"], "'-1' is not a whole number of at least 0"),
        (["--model", "{levelled}", "--level", "3"], "model levelled: level is 3, allowed are whole numbers"),
        (["--model", "{levelled}", "--as", " "], "a name must not be empty"),
        (["--model", "{levelled}", "--max-bytes", "0"], "'0' is not a whole number of at least 1"),
        (["--model", "{levelled}", "--model", "{levelled}"], "two models would both be called levelled"),
        (["--model", "{whole}", "--level", "0"], "runs whole on the device: it has no level"),
        (["--model", "{whole}", "--max-bytes", "9"], "runs whole on the device: it has no max_bytes"),
        (["--model", "{whole}", "--erase", "1.5"], "'1.5' is not a number of 0 to 1"),
    ],
)
def test_what_cannot_be_chosen_is_one_line(levelled, models, samples, tmp_path, capsys, words, says):
    chosen = [word.format(levelled=levelled, whole=models["whole"]) for word in words]
    out = tmp_path / "events.jsonl"
    with pytest.raises(SystemExit) as caught:
        main([*chosen, "--server", "127.0.0.1:1", "--samples", str(samples), "--out", str(out)])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert not out.exists()
