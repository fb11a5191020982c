from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StageTiming(_message.Message):
    __slots__ = ("stage", "total_ms", "queue_ms", "compute_ms", "wire_ms", "requests", "mean_batch")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_MS_FIELD_NUMBER: _ClassVar[int]
    WIRE_MS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MEAN_BATCH_FIELD_NUMBER: _ClassVar[int]
    stage: str
    total_ms: float
    queue_ms: float
    compute_ms: float
    wire_ms: float
    requests: int
    mean_batch: float
    def __init__(self, stage: _Optional[str] = ..., total_ms: _Optional[float] = ..., queue_ms: _Optional[float] = ..., compute_ms: _Optional[float] = ..., wire_ms: _Optional[float] = ..., requests: _Optional[int] = ..., mean_batch: _Optional[float] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("total_ms", "admission_ms", "stages", "computing_ms")
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    ADMISSION_MS_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    COMPUTING_MS_FIELD_NUMBER: _ClassVar[int]
    total_ms: float
    admission_ms: float
    stages: _containers.RepeatedCompositeFieldContainer[StageTiming]
    computing_ms: float
    def __init__(self, total_ms: _Optional[float] = ..., admission_ms: _Optional[float] = ..., stages: _Optional[_Iterable[_Union[StageTiming, _Mapping]]] = ..., computing_ms: _Optional[float] = ...) -> None: ...
