from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Handshake(_message.Message):
    __slots__ = ("protocol", "model", "tables", "feature_shape", "client", "top")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SHAPE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    model: str
    tables: bytes
    feature_shape: _containers.RepeatedScalarFieldContainer[int]
    client: str
    top: int
    def __init__(self, protocol: _Optional[int] = ..., model: _Optional[str] = ..., tables: _Optional[bytes] = ..., feature_shape: _Optional[_Iterable[int]] = ..., client: _Optional[str] = ..., top: _Optional[int] = ...) -> None: ...

class Uplink(_message.Message):
    __slots__ = ("sample", "payload", "checksum", "handshake")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    HANDSHAKE_FIELD_NUMBER: _ClassVar[int]
    sample: int
    payload: bytes
    checksum: int
    handshake: Handshake
    def __init__(self, sample: _Optional[int] = ..., payload: _Optional[bytes] = ..., checksum: _Optional[int] = ..., handshake: _Optional[_Union[Handshake, _Mapping]] = ...) -> None: ...

class Downlink(_message.Message):
    __slots__ = ("sample", "code", "error", "labels", "scores", "timing", "welcome")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    sample: int
    code: int
    error: str
    labels: _containers.RepeatedScalarFieldContainer[int]
    scores: _containers.RepeatedScalarFieldContainer[float]
    timing: Timing
    welcome: Welcome
    def __init__(self, sample: _Optional[int] = ..., code: _Optional[int] = ..., error: _Optional[str] = ..., labels: _Optional[_Iterable[int]] = ..., scores: _Optional[_Iterable[float]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("queue_us", "decode_us", "tail_us", "batch")
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    DECODE_US_FIELD_NUMBER: _ClassVar[int]
    TAIL_US_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    queue_us: int
    decode_us: int
    tail_us: int
    batch: int
    def __init__(self, queue_us: _Optional[int] = ..., decode_us: _Optional[int] = ..., tail_us: _Optional[int] = ..., batch: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "model", "max_in_flight", "max_payload")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    model: str
    max_in_flight: int
    max_payload: int
    def __init__(self, protocol: _Optional[int] = ..., model: _Optional[str] = ..., max_in_flight: _Optional[int] = ..., max_payload: _Optional[int] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Description(_message.Message):
    __slots__ = ("protocol", "models", "streams", "waiting", "answered", "rejected")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    models: _containers.RepeatedCompositeFieldContainer[Handshake]
    streams: int
    waiting: int
    answered: int
    rejected: int
    def __init__(self, protocol: _Optional[int] = ..., models: _Optional[_Iterable[_Union[Handshake, _Mapping]]] = ..., streams: _Optional[int] = ..., waiting: _Optional[int] = ..., answered: _Optional[int] = ..., rejected: _Optional[int] = ...) -> None: ...

class StatisticsMessage(_message.Message):
    __slots__ = ("handshake", "push", "bits", "statistics", "checksum")
    HANDSHAKE_FIELD_NUMBER: _ClassVar[int]
    PUSH_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    handshake: Handshake
    push: bytes
    bits: int
    statistics: bytes
    checksum: int
    def __init__(self, handshake: _Optional[_Union[Handshake, _Mapping]] = ..., push: _Optional[bytes] = ..., bits: _Optional[int] = ..., statistics: _Optional[bytes] = ..., checksum: _Optional[int] = ...) -> None: ...

class StatisticsReply(_message.Message):
    __slots__ = ("counted", "classes", "samples")
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    counted: bool
    classes: int
    samples: int
    def __init__(self, counted: _Optional[bool] = ..., classes: _Optional[int] = ..., samples: _Optional[int] = ...) -> None: ...

class PrototypesRequest(_message.Message):
    __slots__ = ("handshake", "bits")
    HANDSHAKE_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    handshake: Handshake
    bits: int
    def __init__(self, handshake: _Optional[_Union[Handshake, _Mapping]] = ..., bits: _Optional[int] = ...) -> None: ...

class PrototypesReply(_message.Message):
    __slots__ = ("bits", "statistics")
    BITS_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    bits: int
    statistics: bytes
    def __init__(self, bits: _Optional[int] = ..., statistics: _Optional[bytes] = ...) -> None: ...
