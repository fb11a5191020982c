from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class QualityLayer(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUALITY_LAYER_UNSPECIFIED: _ClassVar[QualityLayer]
    QUALITY_LAYER_IDENTITY: _ClassVar[QualityLayer]
    QUALITY_LAYER_REALISM: _ClassVar[QualityLayer]
    QUALITY_LAYER_CONTEXT: _ClassVar[QualityLayer]
QUALITY_LAYER_UNSPECIFIED: QualityLayer
QUALITY_LAYER_IDENTITY: QualityLayer
QUALITY_LAYER_REALISM: QualityLayer
QUALITY_LAYER_CONTEXT: QualityLayer

class QualityMeasure(_message.Message):
    __slots__ = ("layer", "id", "value", "unit", "lower", "upper", "passed", "component", "standard")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    LOWER_FIELD_NUMBER: _ClassVar[int]
    UPPER_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    STANDARD_FIELD_NUMBER: _ClassVar[int]
    layer: QualityLayer
    id: str
    value: float
    unit: str
    lower: float
    upper: float
    passed: bool
    component: int
    standard: str
    def __init__(self, layer: _Optional[_Union[QualityLayer, str]] = ..., id: _Optional[str] = ..., value: _Optional[float] = ..., unit: _Optional[str] = ..., lower: _Optional[float] = ..., upper: _Optional[float] = ..., passed: _Optional[bool] = ..., component: _Optional[int] = ..., standard: _Optional[str] = ...) -> None: ...

class QualityReport(_message.Message):
    __slots__ = ("measures", "passed")
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    measures: _containers.RepeatedCompositeFieldContainer[QualityMeasure]
    passed: bool
    def __init__(self, measures: _Optional[_Iterable[_Union[QualityMeasure, _Mapping]]] = ..., passed: _Optional[bool] = ...) -> None: ...

class Verification(_message.Message):
    __slots__ = ("similarity", "threshold", "same_person", "recogniser", "false_match_rate", "second_similarity")
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    SAME_PERSON_FIELD_NUMBER: _ClassVar[int]
    RECOGNISER_FIELD_NUMBER: _ClassVar[int]
    FALSE_MATCH_RATE_FIELD_NUMBER: _ClassVar[int]
    SECOND_SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    similarity: float
    threshold: float
    same_person: bool
    recogniser: str
    false_match_rate: float
    second_similarity: float
    def __init__(self, similarity: _Optional[float] = ..., threshold: _Optional[float] = ..., same_person: _Optional[bool] = ..., recogniser: _Optional[str] = ..., false_match_rate: _Optional[float] = ..., second_similarity: _Optional[float] = ...) -> None: ...
