"""The kernel's shaping, in network namespaces that end with the test; skipped where there are none."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.link import Direction, LinkError, LinkSpec, Trace
from edge.link.__main__ import main
from edge.link.tc import KernelLink

ROOT = Path(__file__).parents[3]
UNSHARE = ["unshare", "-n" if os.geteuid() == 0 else "-rn"]

#: A namespace with vA, whose other end lies in a namespace of its own, where a server is.
PAIR = """
import atexit, contextlib, json, os, signal, socket, subprocess, sys, time
from pathlib import Path
from edge.link import Direction, LinkError, LinkSpec, Trace
from edge.link.tc import KernelLink

SERVER = '''
import socket, subprocess, sys
from edge.leash import Leash
sys.stdin.readline()
Leash()
for command in ("ip addr add 10.9.9.2/24 dev vB", "ip link set vB up"):
    subprocess.run(command.split(), check=True)
listener = socket.create_server(("10.9.9.2", 7000))
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    with connection:
        data = connection.makefile("rb")
        while line := data.readline():
            data.read(max(int(line), 0))
            connection.sendall(bytes(max(-int(line), 1)))
'''

def sh(command):
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout

def shown(command):
    return json.loads(sh(command) or "[]")

def root(device="vA"):
    (qdisc,) = [q for q in shown(f"tc -j qdisc show dev {device}") if q.get("root")]
    return qdisc

def state():
    links = {
        link["ifname"]: {k: v for k, v in link.items() if k not in ("ifindex", "flags")}
        for link in shown("ip -d -j link show")
    }
    return [links, shown("tc -j qdisc show"), shown("tc -j filter show dev vA parent ffff:")]

def both(rate):
    return LinkSpec(Direction(rate), Direction(rate), sharing="fifo")

def transfer(connection, size):
    '''Seconds until so many bytes are at the other end; until they have come, if below 0.'''
    began = time.monotonic()
    connection.sendall(f"{size}\\n".encode() + bytes(max(size, 0)))
    left = max(-size, 1)
    while left:
        left -= len(connection.recv(left))
    return time.monotonic() - began

def started(command):
    '''A process that ends with this one.'''
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    child = subprocess.Popen(command, text=True, **pipes)
    atexit.register(child.kill)
    return child

def shaping(*arguments):
    return started([sys.executable, "-m", "edge.link", "--interface", "vA", "--leashed", *arguments])

def server():
    command = ["unshare", "-n", sys.executable, "-c", SERVER]
    child = started(command)
    while os.readlink(f"/proc/{child.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        time.sleep(0.01)
    sh(f"ip link set vB netns {child.pid}")
    child.stdin.write("\\n")
    child.stdin.flush()
    assert child.stdout.readline() == "ready\\n"
    return child

def until(condition):
    patience = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < patience
        time.sleep(0.01)
    return found

for command in (
    "ip link set lo up", "ip link add vA type veth peer name vB",
    "ip addr add 10.9.9.1/24 dev vA", "ip link set vA up",
):
    sh(command)
"""


def tried(commands):
    """Why shell commands fail in a namespace of their own; None if they do not."""
    if lacking := [program for program in ("unshare", "tc", "ip") if shutil.which(program) is None]:
        return f"{lacking[0]} is not installed"
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", commands], capture_output=True, text=True, timeout=60, check=False
    )
    return None if done.returncode == 0 else done.stderr.strip()


@pytest.fixture(scope="module")
def inside():
    """What a script prints as JSON that runs in such a namespace."""
    why = tried("ip link add x type ifb && tc qdisc add dev x root tbf rate 1mbit burst 3028 limit 9000")
    if why is not None:
        pytest.skip(f"the kernel's shaping cannot be used here: {why}")

    def run(script, *arguments):
        command = [*UNSHARE, sys.executable, "-c", PAIR + script, *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Stands in for tc and ip; the commands they were given, but for those that only look.

    It fails, as the kernel would, at a command that contains the words in the file ``fails``.
    """
    script = """#!/bin/sh
case "$*" in
  *"link show"*) echo '[{"mtu": 1500, "ifindex": 7, "gso_max_segs": 64}]'; exit;;
  *"qdisc show"*) echo '[{"handle": "0:", "bytes": 1514, "packets": 1, "drops": 0}]'; exit;;
esac
if [ -e FOLDER/fails ]; then
  case "$*" in *"$(head -1 FOLDER/fails)"*) tail -1 FOLDER/fails >&2; exit 2; esac
fi
echo "$(basename $0) $*" >>FOLDER/commands
"""
    for name in ("tc", "ip"):
        (tmp_path / name).write_text(script.replace("FOLDER", str(tmp_path)))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    written = tmp_path / "commands"

    def given():
        lines = written.read_text().splitlines() if written.exists() else []
        written.unlink(missing_ok=True)
        return lines

    return given


def test_both_directions_are_set_changed_and_taken_away(inside):
    before, shaped, changed, after = inside(
        """
before = state()
with KernelLink("vA", both(20e6)) as link:
    (ifb,) = [name for name in state()[0] if name.startswith("fedsim")]
    shaped = [root(), root(ifb)]
    link.change(both(5e6))
    changed = [root(), root(ifb)]
link.close()
print(json.dumps([before, shaped, changed, state()]))
"""
    )
    assert before == after
    for then, now in zip(shaped, changed, strict=True):
        assert then["kind"] == "tbf"
        assert then["options"]["rate"] == 20e6 / 8
        assert then["options"]["burst"] == pytest.approx(2 * 1514, abs=2)  # in ticks of the kernel's
        assert now["handle"] == then["handle"]  # the same queue
        assert now["options"]["rate"] == 5e6 / 8


def test_small_payloads_take_their_time_in_both_directions(inside):
    """20 kB at 2 Mbit/s are 83.7 ms, of which the two packets of the burst are free."""
    free, times = inside(
        """
child = server()
with socket.create_connection(("10.9.9.2", 7000), 20) as connection:
    free = [transfer(connection, size) for size in (20_000, -20_000)]
    with KernelLink("vA", both(2e6)):
        times = []
        for size in 2 * [20_000, -20_000]:
            time.sleep(0.2)  # the bucket is full again
            times.append(transfer(connection, size))
print(json.dumps([free, times]))
"""
    )
    least = 8 * (LinkSpec().wire_bytes(20_000) - 2 * 1514) / 2e6
    assert min(times) >= 0.98 * least, (free, times)


def test_the_program_shapes_counts_rereads_its_link_and_leaves_nothing(inside, tmp_path):
    (tmp_path / "link.json").write_text(LinkSpec(Direction(20e6), Direction(20e6), sharing="fifo").to_json())
    found = inside(
        """
folder = Path(sys.argv[1])
before = state()
child = server()
linked = state()
files = {"spec": "link.json", "announce": "link.pid", "counters": "counters.json"}
program = shaping(*(text for name, file in files.items() for text in (f"--{name}", str(folder / file))))
until((folder / "link.pid").exists)
announced = json.loads((folder / "link.pid").read_text())

def counters():
    (folder / "counters.json").unlink(missing_ok=True)
    program.send_signal(signal.SIGUSR1)
    until((folder / "counters.json").exists)
    return json.loads((folder / "counters.json").read_text())

def reread(text):
    (folder / "link.json").write_text(text)
    program.send_signal(signal.SIGHUP)

with socket.create_connection(("10.9.9.2", 7000), 20) as connection:
    for size in (50_000, -100_000):
        transfer(connection, size)
    first = counters()
    program.send_signal(signal.SIGUSR2)  # a relay's
    reread('{"up": {"rate_bps": 1e6}}')
    complaint = program.stderr.readline()
    reread(both(5e6).to_json())
    until(lambda: root()["options"]["rate"] == 5e6 / 8)
    reread(LinkSpec(down=Direction(6e6), sharing="fifo").to_json())
    until(lambda: root()["kind"] == "pfifo")
    second = counters()
program.send_signal(signal.SIGTERM)
output, errors = program.communicate(timeout=20)
last = json.loads((folder / "counters.json").read_text())
same = state() == linked
ended = [program.pid, program.returncode, output, errors]
print(json.dumps([announced, complaint, ended, same, first, second, last]))
""",
        tmp_path,
    )
    announced, complaint, ended, same, first, second, last = found
    assert ended == [announced["pid"], 0, "shaping vA\n", ""]
    assert announced == {"interface": "vA", "pid": ended[0]}
    assert "the link stays as it is: sharing is processor" in complaint
    assert same
    assert LinkSpec().wire_bytes(50_000) <= first["up"]["wire_bytes"] < 70_000
    assert LinkSpec().wire_bytes(100_000) <= first["down"]["wire_bytes"] < 120_000
    assert first["up"]["packets"] > 0
    assert first["down"]["packets"] >= LinkSpec().packets(100_000)
    for before, after in ((first, second), (second, last)):
        assert before["seconds"] < after["seconds"]
        for direction in ("up", "down"):  # a queue of another kind counts on
            assert before[direction]["wire_bytes"] <= after[direction]["wire_bytes"]


def test_the_program_ends_with_who_holds_its_leash(inside, tmp_path):
    (tmp_path / "link.json").write_text(LinkSpec(Direction(20e6), sharing="fifo").to_json())
    began, code, same = inside(
        """
before = state()
program = shaping("--spec", sys.argv[1])
began = [program.stdout.readline(), root()["kind"], len(state()[0]) == len(before[0])]
program.communicate(timeout=20)
print(json.dumps([began, program.returncode, state() == before]))
""",
        tmp_path / "link.json",
    )
    assert began == ["shaping vA\n", "tbf", True]  # nothing was asked of down: no ifb device
    assert (code, same) == (0, True)


def test_a_step_that_fails_takes_back_those_before_it(inside):
    """Somebody else has the interface's ingress, or its queue."""
    answers, changed, same = inside(
        """
answers, changed = [], None
for command in ("tc qdisc add dev vA ingress", "tc qdisc add dev vA root pfifo"):
    sh(command)
    before = state()
    try:
        KernelLink("vA", both(20e6))
    except OSError as error:
        answers.append([str(error), state() == before])
    if changed is None:
        with KernelLink("vA", LinkSpec(Direction(20e6), sharing="fifo")) as link:
            one = state()
            with contextlib.suppress(OSError):
                link.change(both(5e6))
            changed = state() == one and link.counters()["down"] is None
    sh(command.replace(" add ", " del ").removesuffix(" pfifo"))
before = state()
with KernelLink("vA", LinkSpec(Direction(20e6), sharing="fifo")) as link:
    link.change(both(5e6))
    (ifb,) = [name for name in state()[0] if name.startswith("fedsim")]
    assert [root()["options"]["rate"], root(ifb)["options"]["rate"]] == [5e6 / 8, 5e6 / 8]
    assert link.counters()["down"]["dropped"] == 0
print(json.dumps([answers, changed, state() == before]))
"""
    )
    (ingress, unchanged), (queue, unchanged_too) = answers
    assert ingress.startswith(
        "down: tc qdisc add dev vA ingress: Error: Exclusivity flag on, cannot modify; "
    )
    assert queue.startswith("up: vA has a qdisc already, pfifo 8")
    for message in (ingress, queue):
        assert message.endswith(
            "; somebody shapes it, or was killed: see docs/links.md, or use the relay (--to)"
        )
    assert unchanged
    assert unchanged_too
    assert changed
    assert same


@pytest.mark.parametrize("name", ["up", "down"])
def test_delay_takes_netem_or_is_told_before_anything_changes(inside, name):
    spec = LinkSpec(**{name: Direction(20e6, 0.025, 0.005, 0.01)}, sharing="fifo")
    answer, same = inside(
        """
before = state()
try:
    with KernelLink("vA", LinkSpec.from_json(sys.argv[1])):
        (ifb,) = [name for name in state()[0] if name.startswith("fedsim")] or ["vA"]
        answer = root(ifb)["kind"]
except OSError as error:
    answer = str(error)
print(json.dumps([answer, state() == before]))
""",
        spec.to_json(),
    )
    assert same
    if tried("tc qdisc add dev lo root netem delay 1ms") is None:
        assert answer == "netem"
    else:
        # The kernel's answer, and not tc's complaint about an argument.
        assert answer.startswith(f"netem for {name}.delay_s and {name}.loss: tc qdisc add")
        assert "qdisc kind is unknown; choose a kernel that has it" in answer
        assert answer.endswith("or use the relay (--to)")


def test_netem_is_given_packets_and_what_is_under_way_counts(commands):
    spec = LinkSpec(Direction(20e6, 0.025, 0.005, 0.01), Direction(delay_s=0.1), sharing="fifo")
    with KernelLink("eth0", spec) as link:
        assert commands() == [
            "ip link add fedsim7 mtu 1500 type ifb",
            "ip link set fedsim7 addrgenmode none",
            "tc qdisc add dev fedsim7 root netem delay 100000us limit 82736",
            "ip link set dev fedsim7 gso_max_segs 1",
            "ip link set fedsim7 up",
            "tc qdisc add dev eth0 root netem delay 25000us 5000us loss 1.000000% rate 20000000bit limit 223",
            "ip link set dev eth0 gso_max_segs 1",
            "tc qdisc add dev eth0 ingress",
            "tc filter add dev eth0 parent ffff: protocol all u32 match u32 0 0 "
            "action mirred egress redirect dev fedsim7",
        ]
        link.change(LinkSpec(Direction(500e6), Direction(), sharing="fifo"))
        assert commands() == [
            "tc qdisc replace dev fedsim7 root pfifo limit 1000",
            "ip link set dev fedsim7 gso_max_segs 64",
            "tc qdisc replace dev eth0 root tbf rate 500000000bit burst 6250 limit 262144",
            "ip link set dev eth0 gso_max_segs 64",
        ]
        assert link.counters()["up"] == {"wire_bytes": 2 * 1514, "packets": 2, "dropped": 0}
    assert commands() == [
        "tc qdisc del dev eth0 ingress",
        "tc qdisc del dev eth0 root",
        "ip link del fedsim7",
    ]


@pytest.mark.parametrize(
    ("words", "said", "message"),
    [
        ("type ifb", "Error: Unknown device type.", "an ifb device for down.rate_bps: ip link add"),
        ("type ifb", "RTNETLINK answers: Operation not permitted", "be root, or have CAP_NET_ADMIN"),
        ("filter", "Error: TC classifier not found.", "classifier not found; choose a kernel that has it"),
        (
            "eth0 root",
            "RTNETLINK answers: Invalid argument",
            "tbf for up.rate_bps: tc qdisc add dev eth0 root tbf",
        ),
    ],
)
def test_what_the_kernel_refuses_is_told_and_taken_back(commands, tmp_path, words, said, message):
    (tmp_path / "fails").write_text(f"{words}\n{said}\n")
    with pytest.raises(OSError, match=message):
        KernelLink("eth0", LinkSpec(Direction(20e6), Direction(20e6), sharing="fifo"))
    given = commands()
    added = [line for line in given if " qdisc add dev eth0 " in line or " link add " in line]
    taken = [line for line in given if " del " in line]
    assert len(added) == len(taken)


def test_all_is_taken_away_though_one_step_fails(commands, tmp_path):
    link = KernelLink("eth0", LinkSpec(Direction(20e6), Direction(20e6), sharing="fifo"))
    commands()
    (tmp_path / "fails").write_text("dev eth0\nCannot find device eth0\n")
    with pytest.raises(OSError, match="at the end: tc qdisc del dev eth0"):
        link.close()
    assert commands() == ["ip link del fedsim7"]
    link.close()


def test_a_change_that_fails_leaves_the_link_as_it_was(commands, tmp_path):
    with KernelLink("eth0", LinkSpec(Direction(20e6), Direction(20e6), sharing="fifo")) as link:
        (tmp_path / "fails").write_text("netem\nError: Specified qdisc kind is unknown.\n")
        commands()
        with pytest.raises(OSError, match=r"netem for up\.delay_s: "):
            link.change(LinkSpec(Direction(delay_s=0.1), Direction(5e6), sharing="fifo"))
        rates = [line.split("rate ")[1].split("bit")[0] for line in commands()]
        assert rates == ["5000000", "20000000", "20000000"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            LinkSpec(down=Direction(trace=Trace([0], [1e6])), sharing="fifo"),
            r"down\.trace: tc has no traces; give a rate_bps, or use the relay \(--to\)",
        ),
        (
            LinkSpec(),
            "sharing is processor: what uses eth0 waits in one queue of the kernel's; say fifo, or use",
        ),
        (
            LinkSpec(sharing="fifo", segment=200),
            "packets of 266 bytes, and those of eth0 have 1514; set its mtu to 252 or segment to 1448",
        ),
    ],
)
def test_what_tc_cannot_do_is_told_before_anything_changes(commands, spec, message):
    with pytest.raises(LinkError, match=message):
        KernelLink("eth0", spec)
    assert commands() == []
    with KernelLink("eth0", LinkSpec(sharing="fifo")) as link:
        commands()
        with pytest.raises(LinkError, match=message):
            link.change(spec)
        assert commands() == []


def test_without_tc_or_the_interface(inside, monkeypatch, tmp_path):
    answer = inside(
        """
try:
    KernelLink("nope", both(1e6))
except OSError as error:
    print(json.dumps(str(error)))
"""
    )
    assert answer == 'interface: ip -d -j link show dev nope: Device "nope" does not exist'
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("edge.link.tc._SYSTEM_FOLDERS", ())
    with pytest.raises(OSError, match=r"ip is not installed \(iproute2\); install it, or use the relay"):
        KernelLink("lo", LinkSpec(sharing="fifo"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--to 127.0.0.1:1", "argument --to: not allowed with argument --interface"),
        ("--listen 127.0.0.1:0", "argument --listen: not allowed with argument --interface"),
        ("--seed 1", "argument --seed: not allowed with argument --interface"),
    ],
)
def test_what_is_the_relays_is_told(tmp_path, capsys, arguments, message):
    (tmp_path / "link.json").write_text("{}")
    with pytest.raises(SystemExit) as caught:
        main(["--spec", str(tmp_path / "link.json"), "--interface", "lo", *arguments.split()])
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"python -m edge.link: {message}\n"
