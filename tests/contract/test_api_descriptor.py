"""The public contract: what is served is what is committed, and it is documented."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from headshot.pipeline.capture_advice import PhotoCode
from headshot.v1 import headshot_service_pb2, photo_pb2, quality_pb2, style_pb2, timing_pb2

DESCRIPTOR = Path(__file__).parent / "api.binpb"
OWN = "headshot/v1/"


@pytest.fixture(scope="module")
def files() -> dict[str, descriptor_pb2.FileDescriptorProto]:
    found = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR.read_bytes())
    return {file.name: file for file in found.file if file.name.startswith(OWN)}


@pytest.mark.parametrize(
    "module", [headshot_service_pb2, photo_pb2, quality_pb2, style_pb2, timing_pb2]
)
def test_the_generated_modules_are_those_of_the_committed_descriptor(files, module):
    served = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(served)
    committed = files[module.DESCRIPTOR.name]
    committed.ClearField("source_code_info")
    committed.ClearField("syntax")
    served.ClearField("syntax")
    for file in (served, committed):
        for message in file.message_type:
            _without_json_names(message)
    assert served == committed


def _without_json_names(message: descriptor_pb2.DescriptorProto) -> None:
    """Runtime descriptors may leave out names that the compiler spells out."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        _without_json_names(nested)


def test_every_field_message_enum_value_and_call_has_a_comment():
    found = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR.read_bytes())
    bare = []
    for file in found.file:
        if not file.name.startswith(OWN):
            continue
        commented = {
            tuple(place.path)
            for place in file.source_code_info.location
            if place.leading_comments.strip()
        }
        for index, message in enumerate(file.message_type):
            bare += _bare(f"{file.name}:{message.name}", message, (4, index), commented)
        for index, enum in enumerate(file.enum_type):
            paths = [(5, index), *((5, index, 2, k) for k in range(len(enum.value)))]
            bare += [f"{file.name}:{enum.name}{path}" for path in paths if path not in commented]
        for index, service in enumerate(file.service):
            paths = [(6, index), *((6, index, 2, k) for k in range(len(service.method)))]
            bare += [f"{file.name}:{service.name}{p}" for p in paths if p not in commented]
    assert bare == []


def _bare(name, message, path, commented) -> list[str]:
    missing = [] if path in commented else [name]
    for index, field in enumerate(message.field):
        if (*path, 2, index) not in commented:
            missing.append(f"{name}.{field.name}")
    for index, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            missing += _bare(f"{name}.{nested.name}", nested, (*path, 3, index), commented)
    return missing


def test_every_verdict_of_the_pipeline_has_a_value_in_the_api():
    values = set(photo_pb2.PhotoCode.keys())
    assert {f"PHOTO_CODE_{code}" for code in PhotoCode} | {"PHOTO_CODE_UNSPECIFIED"} == values
