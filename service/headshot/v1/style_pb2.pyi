from headshot.v1 import rules_pb2 as _rules_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RetouchLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETOUCH_LEVEL_UNSPECIFIED: _ClassVar[RetouchLevel]
    RETOUCH_LEVEL_NONE: _ClassVar[RetouchLevel]
    RETOUCH_LEVEL_LIGHT: _ClassVar[RetouchLevel]
    RETOUCH_LEVEL_STANDARD: _ClassVar[RetouchLevel]

class ImageFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_FORMAT_UNSPECIFIED: _ClassVar[ImageFormat]
    IMAGE_FORMAT_JPEG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_PNG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_WEBP: _ClassVar[ImageFormat]
    IMAGE_FORMAT_AVIF: _ClassVar[ImageFormat]
    IMAGE_FORMAT_TIFF: _ClassVar[ImageFormat]

class ColourSpace(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COLOUR_SPACE_UNSPECIFIED: _ClassVar[ColourSpace]
    COLOUR_SPACE_SRGB: _ClassVar[ColourSpace]
    COLOUR_SPACE_CMYK: _ClassVar[ColourSpace]
RETOUCH_LEVEL_UNSPECIFIED: RetouchLevel
RETOUCH_LEVEL_NONE: RetouchLevel
RETOUCH_LEVEL_LIGHT: RetouchLevel
RETOUCH_LEVEL_STANDARD: RetouchLevel
IMAGE_FORMAT_UNSPECIFIED: ImageFormat
IMAGE_FORMAT_JPEG: ImageFormat
IMAGE_FORMAT_PNG: ImageFormat
IMAGE_FORMAT_WEBP: ImageFormat
IMAGE_FORMAT_AVIF: ImageFormat
IMAGE_FORMAT_TIFF: ImageFormat
COLOUR_SPACE_UNSPECIFIED: ColourSpace
COLOUR_SPACE_SRGB: ColourSpace
COLOUR_SPACE_CMYK: ColourSpace

class Background(_message.Message):
    __slots__ = ("auto", "colour", "gradient", "blurred_scene", "image")
    AUTO_FIELD_NUMBER: _ClassVar[int]
    COLOUR_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    BLURRED_SCENE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    auto: bool
    colour: str
    gradient: str
    blurred_scene: bool
    image: bytes
    def __init__(self, auto: _Optional[bool] = ..., colour: _Optional[str] = ..., gradient: _Optional[str] = ..., blurred_scene: _Optional[bool] = ..., image: _Optional[bytes] = ...) -> None: ...

class RenditionSpec(_message.Message):
    __slots__ = ("name", "width", "height", "dpi", "format", "quality", "colour_space", "transparent", "progressive", "filename_template")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    DPI_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    COLOUR_SPACE_FIELD_NUMBER: _ClassVar[int]
    TRANSPARENT_FIELD_NUMBER: _ClassVar[int]
    PROGRESSIVE_FIELD_NUMBER: _ClassVar[int]
    FILENAME_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    name: str
    width: int
    height: int
    dpi: int
    format: ImageFormat
    quality: int
    colour_space: ColourSpace
    transparent: bool
    progressive: bool
    filename_template: str
    def __init__(self, name: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., dpi: _Optional[int] = ..., format: _Optional[_Union[ImageFormat, str]] = ..., quality: _Optional[int] = ..., colour_space: _Optional[_Union[ColourSpace, str]] = ..., transparent: _Optional[bool] = ..., progressive: _Optional[bool] = ..., filename_template: _Optional[str] = ...) -> None: ...

class Rendition(_message.Message):
    __slots__ = ("name", "filename", "media_type", "width", "height", "dpi", "data", "notes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    DPI_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    filename: str
    media_type: str
    width: int
    height: int
    dpi: int
    data: bytes
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., filename: _Optional[str] = ..., media_type: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., dpi: _Optional[int] = ..., data: _Optional[bytes] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class StyleInfo(_message.Message):
    __slots__ = ("style_id", "version", "description", "renditions", "backgrounds")
    STYLE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    RENDITIONS_FIELD_NUMBER: _ClassVar[int]
    BACKGROUNDS_FIELD_NUMBER: _ClassVar[int]
    style_id: str
    version: str
    description: str
    renditions: _containers.RepeatedScalarFieldContainer[str]
    backgrounds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, style_id: _Optional[str] = ..., version: _Optional[str] = ..., description: _Optional[str] = ..., renditions: _Optional[_Iterable[str]] = ..., backgrounds: _Optional[_Iterable[str]] = ...) -> None: ...
