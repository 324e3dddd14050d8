"""What a streamed sample costs beyond its payload: in its message, and on the wire."""

import statistics
import subprocess
import sys

import pytest

from edge.rpc import Uplink, sample_message

from .processes import PATIENCE_S, ROOT, device_command, events_at, saved_model, saved_samples, serving

PAYLOAD = 30
# Either side of where a number takes a further byte, and the largest that there is.
NUMBERS = (1, 127, 128, 16383, 16384, 10**6, 2**28 - 1, 2**32 - 1)
ASKED_UP_TO = 10**6
STREAMED = 400

pytestmark = pytest.mark.benchmark


def test_frame(report, tmp_path):
    frames = {}
    for number in NUMBERS:
        message = sample_message(number, bytes(range(PAYLOAD)))
        assert Uplink.FromString(message).SerializeToString() == message
        frames[str(number)] = len(message) - PAYLOAD
    # Raw images of 30 pixels, so that every payload has exactly the asked size.
    shape = (1, 5, 6)
    model = saved_model(
        tmp_path, "resnet18-32", shape, "input", "raw-image", network_arguments={"channels": 1, "width": 4}
    )
    samples = saved_samples(tmp_path / "samples.safetensors", shape, range(10**6, 10**6 + STREAMED))
    out = tmp_path / "events.jsonl"
    with serving(tmp_path, model) as address:
        command = [sys.executable, "-m", "edge.device", *device_command(address, model, samples, out)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE_S)
    sends, (stream,) = events_at(out, "send"), events_at(out, "stream")
    assert [send["payload_bytes"] for send in sends] == [PAYLOAD] * STREAMED
    measured = "wire_bytes" in stream
    wire = sorted(send["wire_bytes"] - PAYLOAD for send in sends) if measured else None
    figures = {
        "payload_bytes": PAYLOAD,
        "frame_overhead_bytes": frames,
        "largest_up_to_a_million": max(n for number, n in frames.items() if int(number) <= ASKED_UP_TO),
        "streamed_frame_overhead_bytes": max(send["frame_bytes"] - PAYLOAD for send in sends),
        "streamed_samples": STREAMED,
        "wire_overhead_bytes": {"p50": statistics.median(wire), "min": wire[0], "max": wire[-1]}
        if measured
        else "unavailable",
        "reply_wire_bytes_p50": statistics.median(send["reply_wire_bytes"] for send in sends)
        if measured
        else "unavailable",
        "stream_wire_bytes_of_no_sample": stream["wire_bytes"] - sum(send["wire_bytes"] for send in sends)
        if measured
        else "unavailable",
    }
    report("frame", figures, {"largest_up_to_a_million": "<= 12", "streamed_frame_overhead_bytes": "<= 12"})
