"""The committed stubs are those of the committed .proto."""

import sys
from pathlib import Path
from subprocess import run

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from edge.rpc import edge_pb2

ROOT = Path(edge_pb2.__file__).parents[2]
PROTO = "edge/rpc/edge.proto"


def protoc(*arguments):
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *arguments, PROTO]
    run(command, cwd=ROOT, check=True, timeout=60)


def test_messages_are_those_of_the_proto_file(tmp_path):
    protoc(f"--descriptor_set_out={tmp_path / 'set'}")
    (generated,) = FileDescriptorSet.FromString((tmp_path / "set").read_bytes()).file
    committed = FileDescriptorProto.FromString(edge_pb2.DESCRIPTOR.serialized_pb)
    for message in generated.message_type:
        for field in message.field:
            field.ClearField("json_name")  # protoc adds it here, not in Python stubs
    assert generated.name == PROTO
    assert generated == committed


def test_annotations_are_those_of_the_proto_file(tmp_path):
    protoc(f"--pyi_out={tmp_path}")
    generated = (tmp_path / "edge/rpc/edge_pb2.pyi").read_text()
    assert generated == (ROOT / "edge/rpc/edge_pb2.pyi").read_text()
