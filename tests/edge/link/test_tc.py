"""The kernel's shaping, in network namespaces that end with the test; skipped where there are none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.link.tc import probe

ROOT = Path(__file__).parents[3]
VETH = """
import json, socket, subprocess, sys, time
from pathlib import Path
from edge.link import Direction, LinkError, Trace
from edge.link.tc import Shaper

def sh(command):
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout

def qdiscs():
    return [q for q in json.loads(sh("tc -j qdisc show dev vA")) if q.get("root")]

def link(name="vA"):
    return json.loads(sh(f"ip -d -s -j link show dev {name}"))[0]

for command in (
    "ip link add vA type veth peer name vB", "ip link set vA up", "ip link set vB up",
    "ip addr add 10.9.9.1/24 dev vA", "ip neigh add 10.9.9.2 lladdr 02:00:00:00:00:02 dev vA",
):
    sh(command)
"""


@pytest.fixture
def able():
    """What the probe says; skips where not even a namespace can be had."""
    found = probe()
    if found["tbf"] is not None:
        pytest.skip(f"tbf cannot be used here: {found['tbf']}")
    return found


def inside(script):
    """What a script prints as JSON that runs in a network namespace of its own, with a pair vA, vB."""
    command = ["unshare", "-n" if os.geteuid() == 0 else "-rn", sys.executable, "-c", VETH + script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_probe_tells_of_each_kind_and_leaves_nothing():
    before = sorted(os.listdir("/sys/class/net")) if os.path.isdir("/sys/class/net") else None
    found = probe()
    assert list(found) == ["tbf", "htb", "netem", "ifb"]
    assert all(why is None or (why and "\n" not in why) for why in found.values())
    if before is not None:
        assert sorted(os.listdir("/sys/class/net")) == before


def test_without_tc_the_probe_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set(probe().values()) == {"tc is not installed (iproute2)"}


def test_a_rate_is_set_changed_and_taken_away(able):
    before, shaped, changed, after = inside(
        """
before = [link()["gso_max_segs"], qdiscs()]
with Shaper("vA", Direction(20e6)) as shaper:
    shaped = [link()["gso_max_segs"], qdiscs()]
    shaper.change(Direction(5e6))
    changed = qdiscs()
shaper.close()
print(json.dumps([before, shaped, changed, [link()["gso_max_segs"], qdiscs()]]))
"""
    )
    assert before == after
    segments, (qdisc,) = shaped
    assert segments == 1
    assert qdisc["kind"] == "tbf"
    assert qdisc["options"]["rate"] == 20e6 / 8
    assert qdisc["options"]["burst"] == pytest.approx(2 * 1514, abs=2)  # in ticks of the kernel's
    assert changed[0]["options"]["rate"] == 5e6 / 8


def test_a_burst_is_two_packets_and_no_more(able):
    """20 packets of 1,442 bytes at 1 Mbit/s: all but those of the burst, and its last, take 11.5 ms each."""
    seconds, received = inside(
        """
with Shaper("vA", Direction(1e6)):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    began, start = time.monotonic(), link("vB")["stats64"]["rx"]["packets"]
    for _ in range(20):
        sender.sendto(bytes(1400), ("10.9.9.2", 9))
    while (received := link("vB")["stats64"]["rx"]["packets"] - start) < 20 and time.monotonic() < began + 20:
        time.sleep(0.001)
    print(json.dumps([time.monotonic() - began, received]))
"""
    )
    assert received >= 20  # the interface has packets of its own
    assert seconds > 14 * 8 * 1442 / 1e6


def test_delay_and_loss_take_netem_or_the_kernels_no(able):
    answer, segments = inside(
        """
segments = link()["gso_max_segs"]
try:
    with Shaper("vA", Direction(20e6, 0.025, 0.005, 0.01)):
        answer = qdiscs()
except OSError as error:
    answer = str(error)
print(json.dumps([answer, segments == link()["gso_max_segs"]]))
"""
    )
    assert segments
    if able["netem"] is None:
        assert answer[0]["kind"] == "netem"
    else:
        # The kernel's answer, and not tc's complaint about an argument.
        assert answer.startswith("tc qdisc add dev vA root netem delay 25000us 5000us loss 1.000000% rate")
        assert answer.endswith(able["netem"])


def test_what_tc_cannot_do_is_told(able):
    answers = inside(
        """
answers = []
for interface, direction in (
    ("vA", Direction(trace=Trace([0], [1e6]))), ("vA", Direction()), ("nope", Direction(1e6))
):
    try:
        Shaper(interface, direction)
    except (LinkError, OSError) as error:
        answers.append(f"{type(error).__name__}: {error}")
print(json.dumps(answers))
"""
    )
    assert answers[0] == "LinkError: tc has no traces; change the rate over time, or use the relay"
    assert answers[1].startswith("LinkError: a link without rate, delay and loss is nothing")
    assert "nope" in answers[2]
