from headshot.v1 import rules_pb2 as _rules_pb2
from google.rpc import status_pb2 as _status_pb2
from headshot.v1 import photo_pb2 as _photo_pb2
from headshot.v1 import quality_pb2 as _quality_pb2
from headshot.v1 import style_pb2 as _style_pb2
from headshot.v1 import timing_pb2 as _timing_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BATCH: _ClassVar[Priority]

class TeamDifference(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TEAM_DIFFERENCE_UNSPECIFIED: _ClassVar[TeamDifference]
    TEAM_DIFFERENCE_EYE_LINE: _ClassVar[TeamDifference]
    TEAM_DIFFERENCE_HEAD_SIZE: _ClassVar[TeamDifference]
    TEAM_DIFFERENCE_BACKGROUND: _ClassVar[TeamDifference]
    TEAM_DIFFERENCE_TEMPERATURE: _ClassVar[TeamDifference]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BATCH: Priority
TEAM_DIFFERENCE_UNSPECIFIED: TeamDifference
TEAM_DIFFERENCE_EYE_LINE: TeamDifference
TEAM_DIFFERENCE_HEAD_SIZE: TeamDifference
TEAM_DIFFERENCE_BACKGROUND: TeamDifference
TEAM_DIFFERENCE_TEMPERATURE: TeamDifference

class EncodeIdentityRequest(_message.Message):
    __slots__ = ("photos", "consent_reference", "template_ttl_seconds", "request_id")
    PHOTOS_FIELD_NUMBER: _ClassVar[int]
    CONSENT_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    photos: _containers.RepeatedCompositeFieldContainer[_photo_pb2.Photo]
    consent_reference: str
    template_ttl_seconds: int
    request_id: str
    def __init__(self, photos: _Optional[_Iterable[_Union[_photo_pb2.Photo, _Mapping]]] = ..., consent_reference: _Optional[str] = ..., template_ttl_seconds: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class EncodeIdentityResponse(_message.Message):
    __slots__ = ("identity_template", "expires_at_unix_seconds", "recogniser", "photos", "advice", "timings", "request_id")
    IDENTITY_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RECOGNISER_FIELD_NUMBER: _ClassVar[int]
    PHOTOS_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    identity_template: bytes
    expires_at_unix_seconds: int
    recogniser: str
    photos: _containers.RepeatedCompositeFieldContainer[_photo_pb2.PhotoVerdict]
    advice: _containers.RepeatedCompositeFieldContainer[_photo_pb2.SetAdvice]
    timings: _timing_pb2.Timings
    request_id: str
    def __init__(self, identity_template: _Optional[bytes] = ..., expires_at_unix_seconds: _Optional[int] = ..., recogniser: _Optional[str] = ..., photos: _Optional[_Iterable[_Union[_photo_pb2.PhotoVerdict, _Mapping]]] = ..., advice: _Optional[_Iterable[_Union[_photo_pb2.SetAdvice, _Mapping]]] = ..., timings: _Optional[_Union[_timing_pb2.Timings, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class DenoiseRequest(_message.Message):
    __slots__ = ("photo", "identity_template", "style_id", "candidates", "strength", "steps", "seed", "previews", "request_id")
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    STYLE_ID_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PREVIEWS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    photo: _photo_pb2.Photo
    identity_template: bytes
    style_id: str
    candidates: int
    strength: float
    steps: int
    seed: int
    previews: bool
    request_id: str
    def __init__(self, photo: _Optional[_Union[_photo_pb2.Photo, _Mapping]] = ..., identity_template: _Optional[bytes] = ..., style_id: _Optional[str] = ..., candidates: _Optional[int] = ..., strength: _Optional[float] = ..., steps: _Optional[int] = ..., seed: _Optional[int] = ..., previews: _Optional[bool] = ..., request_id: _Optional[str] = ...) -> None: ...

class DenoiseProgress(_message.Message):
    __slots__ = ("candidate", "step", "steps", "preview")
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    candidate: int
    step: int
    steps: int
    preview: bytes
    def __init__(self, candidate: _Optional[int] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., preview: _Optional[bytes] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("index", "image", "strength")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    index: int
    image: bytes
    strength: float
    def __init__(self, index: _Optional[int] = ..., image: _Optional[bytes] = ..., strength: _Optional[float] = ...) -> None: ...

class DenoiseResult(_message.Message):
    __slots__ = ("candidates", "reference", "photo", "timings", "request_id")
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    reference: bytes
    photo: _photo_pb2.PhotoVerdict
    timings: _timing_pb2.Timings
    request_id: str
    def __init__(self, candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., reference: _Optional[bytes] = ..., photo: _Optional[_Union[_photo_pb2.PhotoVerdict, _Mapping]] = ..., timings: _Optional[_Union[_timing_pb2.Timings, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class DenoiseResponse(_message.Message):
    __slots__ = ("progress", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: DenoiseProgress
    result: DenoiseResult
    def __init__(self, progress: _Optional[_Union[DenoiseProgress, _Mapping]] = ..., result: _Optional[_Union[DenoiseResult, _Mapping]] = ...) -> None: ...

class MatteRequest(_message.Message):
    __slots__ = ("photo", "cutout", "request_id")
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    CUTOUT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    photo: _photo_pb2.Photo
    cutout: bool
    request_id: str
    def __init__(self, photo: _Optional[_Union[_photo_pb2.Photo, _Mapping]] = ..., cutout: _Optional[bool] = ..., request_id: _Optional[str] = ...) -> None: ...

class MatteResponse(_message.Message):
    __slots__ = ("alpha", "cutout", "width", "height", "timings", "request_id")
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    CUTOUT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    alpha: bytes
    cutout: bytes
    width: int
    height: int
    timings: _timing_pb2.Timings
    request_id: str
    def __init__(self, alpha: _Optional[bytes] = ..., cutout: _Optional[bytes] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., timings: _Optional[_Union[_timing_pb2.Timings, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpscaleRequest(_message.Message):
    __slots__ = ("photo", "format", "request_id")
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    photo: _photo_pb2.Photo
    format: _style_pb2.ImageFormat
    request_id: str
    def __init__(self, photo: _Optional[_Union[_photo_pb2.Photo, _Mapping]] = ..., format: _Optional[_Union[_style_pb2.ImageFormat, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpscaleResponse(_message.Message):
    __slots__ = ("image", "width", "height", "timings", "request_id")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    width: int
    height: int
    timings: _timing_pb2.Timings
    request_id: str
    def __init__(self, image: _Optional[bytes] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., timings: _Optional[_Union[_timing_pb2.Timings, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("photo", "references", "identity_template", "request_id")
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    photo: _photo_pb2.Photo
    references: _containers.RepeatedCompositeFieldContainer[_photo_pb2.Photo]
    identity_template: bytes
    request_id: str
    def __init__(self, photo: _Optional[_Union[_photo_pb2.Photo, _Mapping]] = ..., references: _Optional[_Iterable[_Union[_photo_pb2.Photo, _Mapping]]] = ..., identity_template: _Optional[bytes] = ..., request_id: _Optional[str] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("verification", "photo", "references", "timings", "request_id")
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    verification: _quality_pb2.Verification
    photo: _photo_pb2.PhotoVerdict
    references: _containers.RepeatedCompositeFieldContainer[_photo_pb2.PhotoVerdict]
    timings: _timing_pb2.Timings
    request_id: str
    def __init__(self, verification: _Optional[_Union[_quality_pb2.Verification, _Mapping]] = ..., photo: _Optional[_Union[_photo_pb2.PhotoVerdict, _Mapping]] = ..., references: _Optional[_Iterable[_Union[_photo_pb2.PhotoVerdict, _Mapping]]] = ..., timings: _Optional[_Union[_timing_pb2.Timings, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class HeadshotOptions(_message.Message):
    __slots__ = ("style_id", "style_version", "background", "renditions", "candidates", "strength", "steps", "seed", "retouch", "allow_unverified", "include_intermediates", "previews", "no_degrade", "lift_dark_face")
    STYLE_ID_FIELD_NUMBER: _ClassVar[int]
    STYLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    RENDITIONS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    RETOUCH_FIELD_NUMBER: _ClassVar[int]
    ALLOW_UNVERIFIED_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_INTERMEDIATES_FIELD_NUMBER: _ClassVar[int]
    PREVIEWS_FIELD_NUMBER: _ClassVar[int]
    NO_DEGRADE_FIELD_NUMBER: _ClassVar[int]
    LIFT_DARK_FACE_FIELD_NUMBER: _ClassVar[int]
    style_id: str
    style_version: str
    background: _style_pb2.Background
    renditions: _containers.RepeatedCompositeFieldContainer[_style_pb2.RenditionSpec]
    candidates: int
    strength: float
    steps: int
    seed: int
    retouch: _style_pb2.RetouchLevel
    allow_unverified: bool
    include_intermediates: bool
    previews: bool
    no_degrade: bool
    lift_dark_face: bool
    def __init__(self, style_id: _Optional[str] = ..., style_version: _Optional[str] = ..., background: _Optional[_Union[_style_pb2.Background, _Mapping]] = ..., renditions: _Optional[_Iterable[_Union[_style_pb2.RenditionSpec, _Mapping]]] = ..., candidates: _Optional[int] = ..., strength: _Optional[float] = ..., steps: _Optional[int] = ..., seed: _Optional[int] = ..., retouch: _Optional[_Union[_style_pb2.RetouchLevel, str]] = ..., allow_unverified: _Optional[bool] = ..., include_intermediates: _Optional[bool] = ..., previews: _Optional[bool] = ..., no_degrade: _Optional[bool] = ..., lift_dark_face: _Optional[bool] = ...) -> None: ...

class CreateHeadshotRequest(_message.Message):
    __slots__ = ("photos", "identity_template", "options", "consent_reference", "priority", "validate_only", "request_id")
    PHOTOS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CONSENT_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    photos: _containers.RepeatedCompositeFieldContainer[_photo_pb2.Photo]
    identity_template: bytes
    options: HeadshotOptions
    consent_reference: str
    priority: Priority
    validate_only: bool
    request_id: str
    def __init__(self, photos: _Optional[_Iterable[_Union[_photo_pb2.Photo, _Mapping]]] = ..., identity_template: _Optional[bytes] = ..., options: _Optional[_Union[HeadshotOptions, _Mapping]] = ..., consent_reference: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ..., validate_only: _Optional[bool] = ..., request_id: _Optional[str] = ...) -> None: ...

class StageEvent(_message.Message):
    __slots__ = ("stage", "finished", "duration_ms")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    finished: bool
    duration_ms: float
    def __init__(self, stage: _Optional[str] = ..., finished: _Optional[bool] = ..., duration_ms: _Optional[float] = ...) -> None: ...

class CandidateReport(_message.Message):
    __slots__ = ("index", "strength", "verification", "chosen", "regenerations", "reasons")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    REGENERATIONS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    index: int
    strength: float
    verification: _quality_pb2.Verification
    chosen: bool
    regenerations: int
    reasons: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, index: _Optional[int] = ..., strength: _Optional[float] = ..., verification: _Optional[_Union[_quality_pb2.Verification, _Mapping]] = ..., chosen: _Optional[bool] = ..., regenerations: _Optional[int] = ..., reasons: _Optional[_Iterable[str]] = ...) -> None: ...

class Intermediates(_message.Message):
    __slots__ = ("reference", "candidates", "alpha", "upscaled")
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    UPSCALED_FIELD_NUMBER: _ClassVar[int]
    reference: bytes
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    alpha: bytes
    upscaled: bytes
    def __init__(self, reference: _Optional[bytes] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., alpha: _Optional[bytes] = ..., upscaled: _Optional[bytes] = ...) -> None: ...

class HeadshotResult(_message.Message):
    __slots__ = ("request_id", "renditions", "verification", "quality", "candidates", "photos", "advice", "style_id", "style_version", "background", "warnings", "degraded", "timings", "intermediates", "profile")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RENDITIONS_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    PHOTOS_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    STYLE_ID_FIELD_NUMBER: _ClassVar[int]
    STYLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    INTERMEDIATES_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    renditions: _containers.RepeatedCompositeFieldContainer[_style_pb2.Rendition]
    verification: _quality_pb2.Verification
    quality: _quality_pb2.QualityReport
    candidates: _containers.RepeatedCompositeFieldContainer[CandidateReport]
    photos: _containers.RepeatedCompositeFieldContainer[_photo_pb2.PhotoVerdict]
    advice: _containers.RepeatedCompositeFieldContainer[_photo_pb2.SetAdvice]
    style_id: str
    style_version: str
    background: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    degraded: _containers.RepeatedScalarFieldContainer[str]
    timings: _timing_pb2.Timings
    intermediates: Intermediates
    profile: str
    def __init__(self, request_id: _Optional[str] = ..., renditions: _Optional[_Iterable[_Union[_style_pb2.Rendition, _Mapping]]] = ..., verification: _Optional[_Union[_quality_pb2.Verification, _Mapping]] = ..., quality: _Optional[_Union[_quality_pb2.QualityReport, _Mapping]] = ..., candidates: _Optional[_Iterable[_Union[CandidateReport, _Mapping]]] = ..., photos: _Optional[_Iterable[_Union[_photo_pb2.PhotoVerdict, _Mapping]]] = ..., advice: _Optional[_Iterable[_Union[_photo_pb2.SetAdvice, _Mapping]]] = ..., style_id: _Optional[str] = ..., style_version: _Optional[str] = ..., background: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ..., degraded: _Optional[_Iterable[str]] = ..., timings: _Optional[_Union[_timing_pb2.Timings, _Mapping]] = ..., intermediates: _Optional[_Union[Intermediates, _Mapping]] = ..., profile: _Optional[str] = ...) -> None: ...

class CreateHeadshotResponse(_message.Message):
    __slots__ = ("stage", "progress", "result")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    stage: StageEvent
    progress: DenoiseProgress
    result: HeadshotResult
    def __init__(self, stage: _Optional[_Union[StageEvent, _Mapping]] = ..., progress: _Optional[_Union[DenoiseProgress, _Mapping]] = ..., result: _Optional[_Union[HeadshotResult, _Mapping]] = ...) -> None: ...

class TeamSettings(_message.Message):
    __slots__ = ("options", "consent_reference")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CONSENT_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    options: HeadshotOptions
    consent_reference: str
    def __init__(self, options: _Optional[_Union[HeadshotOptions, _Mapping]] = ..., consent_reference: _Optional[str] = ...) -> None: ...

class TeamItem(_message.Message):
    __slots__ = ("item_id", "photos", "identity_template", "consent_reference")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    PHOTOS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    CONSENT_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    photos: _containers.RepeatedCompositeFieldContainer[_photo_pb2.Photo]
    identity_template: bytes
    consent_reference: str
    def __init__(self, item_id: _Optional[str] = ..., photos: _Optional[_Iterable[_Union[_photo_pb2.Photo, _Mapping]]] = ..., identity_template: _Optional[bytes] = ..., consent_reference: _Optional[str] = ...) -> None: ...

class CreateHeadshotsRequest(_message.Message):
    __slots__ = ("settings", "item")
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    settings: TeamSettings
    item: TeamItem
    def __init__(self, settings: _Optional[_Union[TeamSettings, _Mapping]] = ..., item: _Optional[_Union[TeamItem, _Mapping]] = ...) -> None: ...

class CreateHeadshotsResponse(_message.Message):
    __slots__ = ("item_id", "result", "error", "team")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TEAM_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    result: HeadshotResult
    error: _status_pb2.Status
    team: TeamReport
    def __init__(self, item_id: _Optional[str] = ..., result: _Optional[_Union[HeadshotResult, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., team: _Optional[_Union[TeamReport, _Mapping]] = ...) -> None: ...

class TeamOutlier(_message.Message):
    __slots__ = ("item_id", "differs")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    DIFFERS_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    differs: _containers.RepeatedScalarFieldContainer[TeamDifference]
    def __init__(self, item_id: _Optional[str] = ..., differs: _Optional[_Iterable[_Union[TeamDifference, str]]] = ...) -> None: ...

class TeamReport(_message.Message):
    __slots__ = ("members", "eye_line_spread", "head_size_spread", "background_spread", "temperature_spread_kelvin", "consistent", "outliers")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    EYE_LINE_SPREAD_FIELD_NUMBER: _ClassVar[int]
    HEAD_SIZE_SPREAD_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_SPREAD_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_SPREAD_KELVIN_FIELD_NUMBER: _ClassVar[int]
    CONSISTENT_FIELD_NUMBER: _ClassVar[int]
    OUTLIERS_FIELD_NUMBER: _ClassVar[int]
    members: int
    eye_line_spread: float
    head_size_spread: float
    background_spread: float
    temperature_spread_kelvin: float
    consistent: bool
    outliers: _containers.RepeatedCompositeFieldContainer[TeamOutlier]
    def __init__(self, members: _Optional[int] = ..., eye_line_spread: _Optional[float] = ..., head_size_spread: _Optional[float] = ..., background_spread: _Optional[float] = ..., temperature_spread_kelvin: _Optional[float] = ..., consistent: _Optional[bool] = ..., outliers: _Optional[_Iterable[_Union[TeamOutlier, _Mapping]]] = ...) -> None: ...

class ListStylesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListStylesResponse(_message.Message):
    __slots__ = ("styles", "default_style_id")
    STYLES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_STYLE_ID_FIELD_NUMBER: _ClassVar[int]
    styles: _containers.RepeatedCompositeFieldContainer[_style_pb2.StyleInfo]
    default_style_id: str
    def __init__(self, styles: _Optional[_Iterable[_Union[_style_pb2.StyleInfo, _Mapping]]] = ..., default_style_id: _Optional[str] = ...) -> None: ...

class GetServiceInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "parameters", "max_batch_size")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    parameters: _containers.ScalarMap[str, str]
    max_batch_size: int
    def __init__(self, name: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., max_batch_size: _Optional[int] = ...) -> None: ...

class GetServiceInfoResponse(_message.Message):
    __slots__ = ("version", "profile", "research_only", "recogniser", "match_threshold", "false_match_rate", "models", "max_photo_bytes", "max_photo_pixels", "max_rendition_side", "canvas", "rendition_presets")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    RESEARCH_ONLY_FIELD_NUMBER: _ClassVar[int]
    RECOGNISER_FIELD_NUMBER: _ClassVar[int]
    MATCH_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FALSE_MATCH_RATE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    MAX_PHOTO_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PHOTO_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_RENDITION_SIDE_FIELD_NUMBER: _ClassVar[int]
    CANVAS_FIELD_NUMBER: _ClassVar[int]
    RENDITION_PRESETS_FIELD_NUMBER: _ClassVar[int]
    version: str
    profile: str
    research_only: bool
    recogniser: str
    match_threshold: float
    false_match_rate: float
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    max_photo_bytes: int
    max_photo_pixels: int
    max_rendition_side: int
    canvas: int
    rendition_presets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[str] = ..., profile: _Optional[str] = ..., research_only: _Optional[bool] = ..., recogniser: _Optional[str] = ..., match_threshold: _Optional[float] = ..., false_match_rate: _Optional[float] = ..., models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ..., max_photo_bytes: _Optional[int] = ..., max_photo_pixels: _Optional[int] = ..., max_rendition_side: _Optional[int] = ..., canvas: _Optional[int] = ..., rendition_presets: _Optional[_Iterable[str]] = ...) -> None: ...
