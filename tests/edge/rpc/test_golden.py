"""Messages to the byte: a field that changed its number or its type would be misread by every older peer."""

import pytest

from edge.coding.frame import Handshake
from edge.rpc import (
    Downlink,
    PrototypesReply,
    PrototypesRequest,
    StatisticsMessage,
    StatisticsReply,
    Timing,
    Uplink,
    Welcome,
    from_handshake,
    sample_message,
    statistics_message,
    to_handshake,
)

HANDSHAKE = Handshake("0123456789abcdef", bytes(range(8)), (64, 4, 4), client="camera 7", top=3)
REPLY = Downlink(
    sample=300,
    labels=[7, 1],
    scores=[0.5, 0.25],
    timing=Timing(queue_us=2000, decode_us=150, tail_us=900, batch=4),
)
REFUSAL = Downlink(sample=300, code=3, error="empty")
WELCOME = Downlink(welcome=Welcome(protocol=1, model="0123456789abcdef", max_in_flight=32, max_payload=20480))
WHOLE = Handshake("0123456789abcdef", b"", (16,), client="camera 7")
COUNTED = StatisticsReply(counted=True, classes=10, samples=600)
WANTED = PrototypesRequest(handshake=from_handshake(WHOLE), bits=5)
KNOWN = PrototypesReply(bits=5, statistics=b"statistics")

# Spaces stand where a field of the outermost message begins.
GOLDEN = {
    "sample": "08ac02 12077061796c6f6164 1da97283d7",
    "handshake": "222f08011210303132333435363738396162636465661a08000102030405060722034004042a08"
    "63616d65726120373003",
    "reply": "08ac02 22020701 2a080000003f0000803e 320b08d00f1096011884072004",
    "refusal": "08ac02 1003 1a05656d707479",
    "welcome": "3a1a080112103031323334353637383961626364656618202080a001",
    "push": "0a2308011210303132333435363738396162636465662201102a0863616d65726120373001"
    " 1210000102030405060708090a0b0c0d0e0f 1805 220a73746174697374696373 2d69dacff0",
    "counted": "0801 100a 18d804",
    "wanted": "0a2308011210303132333435363738396162636465662201102a0863616d65726120373001 1005",
    "known": "0805 120a73746174697374696373",
}


def made():
    """The messages as they are made today."""
    return {
        "sample": sample_message(300, b"payload"),
        "handshake": Uplink(handshake=from_handshake(HANDSHAKE)).SerializeToString(),
        "reply": REPLY.SerializeToString(),
        "refusal": REFUSAL.SerializeToString(),
        "welcome": WELCOME.SerializeToString(),
        "push": statistics_message(WHOLE, bytes(range(16)), 5, b"statistics"),
        "counted": COUNTED.SerializeToString(),
        "wanted": WANTED.SerializeToString(),
        "known": KNOWN.SerializeToString(),
    }


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_messages_are_written_as_ever(name):
    assert made()[name].hex() == GOLDEN[name].replace(" ", "")


def test_messages_are_read_as_ever():
    raw = {name: bytes.fromhex(text) for name, text in GOLDEN.items()}
    sample = Uplink.FromString(raw["sample"])
    assert (sample.sample, sample.payload, sample.HasField("handshake")) == (300, b"payload", False)
    assert to_handshake(Uplink.FromString(raw["handshake"]).handshake) == HANDSHAKE
    assert Downlink.FromString(raw["reply"]) == REPLY
    assert Downlink.FromString(raw["refusal"]) == REFUSAL
    assert Downlink.FromString(raw["welcome"]) == WELCOME
    push = StatisticsMessage.FromString(raw["push"])
    assert (push.push, push.bits, push.statistics) == (bytes(range(16)), 5, b"statistics")
    assert (to_handshake(push.handshake), push.checksum) == (WHOLE, 0xF0CFDA69)
    assert StatisticsReply.FromString(raw["counted"]) == COUNTED
    assert PrototypesRequest.FromString(raw["wanted"]) == WANTED
    assert PrototypesReply.FromString(raw["known"]) == KNOWN
