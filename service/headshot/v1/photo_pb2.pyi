from headshot.v1 import rules_pb2 as _rules_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PhotoCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHOTO_CODE_UNSPECIFIED: _ClassVar[PhotoCode]
    PHOTO_CODE_OK: _ClassVar[PhotoCode]
    PHOTO_CODE_UNREADABLE: _ClassVar[PhotoCode]
    PHOTO_CODE_TOO_LARGE: _ClassVar[PhotoCode]
    PHOTO_CODE_NO_FACE: _ClassVar[PhotoCode]
    PHOTO_CODE_SEVERAL_FACES: _ClassVar[PhotoCode]
    PHOTO_CODE_FACE_TOO_SMALL: _ClassVar[PhotoCode]
    PHOTO_CODE_BLURRED: _ClassVar[PhotoCode]
    PHOTO_CODE_POSE_TOO_STRONG: _ClassVar[PhotoCode]
    PHOTO_CODE_TOO_DARK: _ClassVar[PhotoCode]
    PHOTO_CODE_TOO_BRIGHT: _ClassVar[PhotoCode]
    PHOTO_CODE_OTHER_PERSON: _ClassVar[PhotoCode]
    PHOTO_CODE_DUPLICATE: _ClassVar[PhotoCode]
    PHOTO_CODE_FILTERED: _ClassVar[PhotoCode]
    PHOTO_CODE_GLARE: _ClassVar[PhotoCode]
    PHOTO_CODE_UNEVEN_LIGHT: _ClassVar[PhotoCode]
PHOTO_CODE_UNSPECIFIED: PhotoCode
PHOTO_CODE_OK: PhotoCode
PHOTO_CODE_UNREADABLE: PhotoCode
PHOTO_CODE_TOO_LARGE: PhotoCode
PHOTO_CODE_NO_FACE: PhotoCode
PHOTO_CODE_SEVERAL_FACES: PhotoCode
PHOTO_CODE_FACE_TOO_SMALL: PhotoCode
PHOTO_CODE_BLURRED: PhotoCode
PHOTO_CODE_POSE_TOO_STRONG: PhotoCode
PHOTO_CODE_TOO_DARK: PhotoCode
PHOTO_CODE_TOO_BRIGHT: PhotoCode
PHOTO_CODE_OTHER_PERSON: PhotoCode
PHOTO_CODE_DUPLICATE: PhotoCode
PHOTO_CODE_FILTERED: PhotoCode
PHOTO_CODE_GLARE: PhotoCode
PHOTO_CODE_UNEVEN_LIGHT: PhotoCode

class Photo(_message.Message):
    __slots__ = ("data", "photo_id", "face_hint")
    DATA_FIELD_NUMBER: _ClassVar[int]
    PHOTO_ID_FIELD_NUMBER: _ClassVar[int]
    FACE_HINT_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    photo_id: str
    face_hint: Point
    def __init__(self, data: _Optional[bytes] = ..., photo_id: _Optional[str] = ..., face_hint: _Optional[_Union[Point, _Mapping]] = ...) -> None: ...

class Point(_message.Message):
    __slots__ = ("x", "y")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("left", "top", "right", "bottom")
    LEFT_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    BOTTOM_FIELD_NUMBER: _ClassVar[int]
    left: float
    top: float
    right: float
    bottom: float
    def __init__(self, left: _Optional[float] = ..., top: _Optional[float] = ..., right: _Optional[float] = ..., bottom: _Optional[float] = ...) -> None: ...

class PhotoVerdict(_message.Message):
    __slots__ = ("index", "photo_id", "used", "code", "concerns", "advice", "reason", "weight", "face", "similarity")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PHOTO_ID_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    CONCERNS_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    FACE_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    index: int
    photo_id: str
    used: bool
    code: PhotoCode
    concerns: _containers.RepeatedScalarFieldContainer[PhotoCode]
    advice: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    weight: float
    face: Box
    similarity: float
    def __init__(self, index: _Optional[int] = ..., photo_id: _Optional[str] = ..., used: _Optional[bool] = ..., code: _Optional[_Union[PhotoCode, str]] = ..., concerns: _Optional[_Iterable[_Union[PhotoCode, str]]] = ..., advice: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., weight: _Optional[float] = ..., face: _Optional[_Union[Box, _Mapping]] = ..., similarity: _Optional[float] = ...) -> None: ...

class SetAdvice(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
