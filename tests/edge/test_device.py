"""``python -m edge.device`` against a real server: what it writes down, how it ends."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edge.bundle import load_device, load_server
from edge.device import main
from edge.meter import STAGES, Event

ROOT = Path(__file__).parents[2]


def predictions(folder, samples):
    """What device and server compute of all samples when nothing lies between them."""
    device = load_device(folder)
    features = device.features(load_file(samples)["images"].float() / 255)
    if device.local:
        return features.argmax(1).tolist()
    server = load_server(folder)
    return server.predict(server.decode(device.encode(features))).argmax(1).tolist()


def test_every_sample_is_written_down_with_all_it_cost(
    models, samples, start, start_server, tmp_path, events_of
):
    out = tmp_path / "events.jsonl"
    server = start_server(models["plain"], models["coded"])
    device = start(
        "edge.device", "--server", server.address, "--samples", samples, "--out", out, "--shard", "1/4",
        "--model", models["plain"], "--model", models["coded"], "--model", models["whole"],
        "--run", "a run", "--client", "camera 7",
    )  # fmt: skip
    assert device.end() == 0, device.errors
    for line in out.read_text().splitlines():
        event = Event.from_json(line)
        assert (event.run, event.client, event.provenance) == ("a run", "camera 7", "measured")
    events = events_of(out)
    labels = load_file(samples)["labels"].tolist()
    for method in ("plain", "coded"):
        expected = predictions(models[method], samples)
        wire = 0
        for position in range(1, 40, 4):
            stages = events.pop((method, 100 + position))
            assert {stage: len(found) for stage, found in stages.items()} == dict.fromkeys(STAGES, 1)
            total, send = stages["total"][0], stages["send"][0]
            assert total["outcome"] == "answered"
            assert (total["label"], total["prediction"]) == (labels[position], expected[position])
            parts = sum(stages[stage][0]["duration_s"] for stage in STAGES[:-1])
            assert parts <= total["duration_s"] + 1e-5
            assert 0 < send["payload_bytes"] < send["frame_bytes"] <= send["payload_bytes"] + 14
            assert send["ideal_bits"] <= 8 * send["payload_bytes"]
            assert send["wire_bytes"] > send["frame_bytes"]
            assert send["reply_wire_bytes"] > 50
            assert send["rate"] == 0.5
            wire += send["wire_bytes"]
        (stream,) = [event for event in events[None]["stream"] if event["method"] == method]
        assert stream["wire_bytes"] > wire
    expected = predictions(models["whole"], samples)
    for position in range(1, 40, 4):
        stages = events.pop(("whole", 100 + position))
        assert sorted(stages) == ["head", "total"]
        assert stages["total"][0]["outcome"] == "local"
        assert stages["total"][0]["prediction"] == expected[position]
    assert list(events) == [None]
    assert "coded: sample 10/10" in device.errors


def test_samples_in_flight_overlap(models, samples, start, start_server, tmp_path, events_of):
    out = tmp_path / "events.jsonl"
    server = start_server(
        models["plain"], arguments=["--wait-ms", "200", "--batch", "4", "--max-in-flight", "4"]
    )
    device = start(
        "edge.device", "--server", server.address, "--samples", samples, "--out", out,
        "--model", models["plain"], "--in-flight", "100", "--repeat", "2",
    )  # fmt: skip
    assert device.end() == 0, device.errors
    events = events_of(out)
    (stream,) = events.pop(None)["stream"]
    assert stream["wire_bytes"] > sum(stages["send"][0]["frame_bytes"] for stages in events.values())
    assert sorted(number for _, number in events) == [*range(100, 140), *range(240, 280)]
    expected = predictions(models["plain"], samples)
    for (_, number), stages in events.items():
        assert "wire_bytes" not in stages["send"][0]  # other samples shared the connection meanwhile
        assert stages["total"][0]["outcome"] == "answered"
        assert stages["total"][0]["prediction"] == expected[(number - 100) % 140]
    spans = [(s["total"][0]["start_s"], s["total"][0]["duration_s"]) for s in events.values()]
    assert sum(duration for _, duration in spans) > 2 * (max(a + b for a, b in spans) - min(spans)[0])


@pytest.mark.parametrize("fallback", [False, True])
def test_without_a_server_each_sample_ends_at_its_deadline(
    models, samples, tmp_path, events_of, capsys, fallback
):
    out = tmp_path / "events.jsonl"
    code = main(
        [
            "--server", "127.0.0.1:1", "--samples", str(samples), "--out", str(out), "--limit", "3",
            "--model", str(models["plain"]), "--deadline", "0.3", "--warmup", "0",
            *(["--fallback", str(models["whole"])] if fallback else []),
        ]
    )  # fmt: skip
    assert code == (0 if fallback else 4)
    events = events_of(out)
    attempts = events.pop(None)["stream"]
    assert all("UNAVAILABLE" in attempt["detail"] for attempt in attempts[:-1])
    assert sorted(events) == [("plain", number) for number in (100, 101, 102)]
    expected = predictions(models["whole"], samples)
    for (_, number), stages in events.items():
        (total,) = stages["total"]
        assert total["outcome"] == ("local" if fallback else "failed")
        assert total.get("prediction") == (expected[number - 100] if fallback else None)
        assert "no answer within 0.3 s: UNAVAILABLE" in total["detail"]
        assert 0.3 <= total["duration_s"] < 5
        assert stages["send"][0]["frame_bytes"] == 0


@pytest.mark.parametrize("fallback", [False, True])
def test_a_refusal_is_final_and_said(models, samples, start, start_server, tmp_path, events_of, fallback):
    out = tmp_path / "events.jsonl"
    server = start_server(models["other"])
    device = start(
        "edge.device", "--server", server.address, "--samples", samples, "--out", out,
        "--model", models["plain"], "--deadline", "60",
        *(["--fallback", models["whole"]] if fallback else []),
    )  # fmt: skip
    assert device.end() == 3
    mine, theirs = load_device(models["plain"]).model_id, load_server(models["other"]).model_id
    refusal = f"FAILED_PRECONDITION: model id: expected {theirs}, got '{mine}'"
    (message,) = [line for line in device.errors.splitlines() if "refused" in line]
    assert refusal in message
    events = events_of(out)
    (stream,) = events.pop(None)["stream"]
    assert refusal in stream["detail"]
    assert stream["wire_bytes"] > 200  # a refusal has its price, too
    assert len(events) == 40
    expected = predictions(models["whole"], samples) if fallback else [None] * 40
    for (_, number), stages in events.items():
        (total,) = stages["total"]
        assert total["outcome"] == ("local" if fallback else "failed")
        assert total.get("prediction") == expected[number - 100]
        assert refusal in total["detail"]


@pytest.mark.parametrize("method", ["whole", "plain"])
def test_a_full_disk_is_one_line_and_leaves_whole_events(
    models, samples, start_server, tmp_path, method, events_of
):
    out = tmp_path / "events.jsonl"
    arguments = ["--model", models[method], "--samples", samples, "--out", out, "--in-flight", "4"]
    if method != "whole":
        arguments += ["--server", start_server(models[method]).address]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 4; exec "$@"', "-", sys.executable, "-m", "edge.device", *arguments],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (message,) = [line for line in done.stderr.splitlines() if "sample " not in line]
    assert message == f"python -m edge.device: {out} cannot be written: File too large"
    assert 0 < out.stat().st_size <= 4096
    assert all("total" in stages for key, stages in events_of(out).items() if key)


def test_a_device_is_small(models, samples, start_server, tmp_path):
    """Its memory, as the process itself sees it. What it may load, ``test_imports.py`` says."""
    server = start_server(models["coded"])
    script = (
        "import sys\n"
        "from edge.device import main\n"
        "code = main(sys.argv[1:])\n"
        "peak = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')]\n"
        "print(code, *peak)\n"
    )
    arguments = ["--server", server.address, "--model", models["coded"], "--samples", samples]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments), "--out", str(tmp_path / "events.jsonl")],
        capture_output=True, text=True, timeout=60, check=True, cwd=ROOT,
    )  # fmt: skip
    code, peak_kb = map(int, done.stdout.split())
    assert code == 0
    assert peak_kb / 1024 <= 300


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "{nowhere}"], "there is no folder"),
        (["--samples", "{nowhere}"], "there is no file"),
        (["--samples", "{text}"], "not a readable safetensors file"),
        (["--samples", "{odd}"], "'images' is F32[2, 1, 8, 8], expected U8 (uint8) [N, C, H, W]"),
        (["--samples", "{large}"], "takes images [1, 8, 8], the samples are [1, 9, 9]"),
        (["--out", "{text}"], "is there already"),
        (["--server", "nowhere"], "'nowhere' is not HOST:PORT"),
        (["--shard", "2/2"], "'2/2' is not I/N with 0 <= I < N"),
        (["--shard", "40/50"], "none of its 40 samples is in shard 40/50"),
        (["--in-flight", "0"], "'0' is not a whole number of at least 1"),
        (["--deadline", "soon"], "'soon' is not a number of at least 0"),
        (["--fallback", "{plain}"], "fallback model plain is split at stage2"),
        (["--model", "{plain}"], "needs a tail server"),
        (["--schedule", "{text}"], "text: not a readable safetensors file"),
        (["--schedule", "{short}"], "a schedule of 2 samples, but the device has 40"),
        (["--schedule", "{short}", "--interval-ms", "5"], "--schedule and --interval-ms both say when"),
        (["--limit", "1", "--encode-s", "1"], "runs whole on the device: it has no encode_s"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(models, samples, tmp_path, capsys, arguments, words):
    (tmp_path / "text").write_text("no tensors")
    save_file({"images": torch.zeros(2, 1, 8, 8)}, tmp_path / "odd")
    save_file({"images": torch.zeros(2, 1, 9, 9, dtype=torch.uint8)}, tmp_path / "large")
    save_file({"pause_s": torch.zeros(2, dtype=torch.float64)}, tmp_path / "short")
    names = {name: tmp_path / name for name in ("nowhere", "text", "odd", "large", "short")}
    usual = {"--samples": samples, "--out": tmp_path / "events.jsonl", "--model": models["whole"]}
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    words_of_command = [
        str(word).format(**names, **models) for pair in (usual | given).items() for word in pair
    ]
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as caught:
        main(words_of_command)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m edge.device: ")
    assert error.count("\n") == 1
    assert words in error
    assert sorted(tmp_path.iterdir()) == before


def test_help_names_every_option_and_exit_code(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    output = capsys.readouterr().out
    for word in ("--server", "--in-flight", "--deadline", "--fallback", "--tls-ca", "Exit codes"):
        assert word in output
