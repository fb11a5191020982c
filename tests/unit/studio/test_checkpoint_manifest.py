"""The shipped manifest and the `headshot models` commands."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from headshot.models.cli import models_app
from headshot.models.manifest import Manifest, load_manifest
from pydantic import ValidationError
from typer.testing import CliRunner


def toy_manifest(tmp_path: Path, content: bytes, **changes: object) -> Path:
    file = {
        "name": "toy",
        "stage": "upscaler",
        "path": "upscaler/toy.pth",
        "url": "https://example.org/toy.pth",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "licence": "MIT",
        "commercial": True,
        "profile": "studio",
        "required": True,
    } | changes
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "files": [file], "research_only": []}))
    return path


def test_every_studio_file_may_be_used_commercially_and_is_pinned() -> None:
    manifest = load_manifest()
    studio = manifest.select("studio", optional=True)
    assert len(studio) >= 12
    assert all(file.commercial and file.size and file.url.startswith("https://") for file in studio)


def test_every_file_of_the_shipped_manifest_states_its_size() -> None:
    assert [file.name for file in load_manifest().files if file.size is None] == []


def test_the_required_studio_files_feed_every_stage() -> None:
    stages = {file.stage for file in load_manifest().select("studio")}
    assert stages == {
        "face_detector",
        "identity_encoder",
        "denoiser",
        "identity_projection",
        "style_prompts",
        "matting",
        "upscaler",
    }


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="nothing-like-this"):
        load_manifest().select("studio", names=("nothing-like-this",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "../escape"}, "stay inside"),
        ({"path": "/etc/passwd"}, "stay inside"),
        ({"sha256": "ABC"}, "pattern"),
        ({"size": 0}, "greater than 0"),
        ({"commercial": False}, "commercial licences only"),
        ({"profile": "research"}, "non-commercial files"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_a_bad_manifest_entry_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        load_manifest(toy_manifest(tmp_path, b"x", **change))


def test_a_research_file_must_be_in_the_refusal_list() -> None:
    document = load_manifest().model_dump()
    document["research_only"] = []
    with pytest.raises(ValidationError, match="disagree"):
        Manifest.model_validate(document)


def test_list_names_licence_and_state_of_every_checkpoint(tmp_path: Path) -> None:
    result = CliRunner().invoke(models_app, ["list", "--json", "--folder", str(tmp_path)])
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["sd15"]["licence"] == "CreativeML-OpenRAIL-M"
    assert rows["buffalo-l"]["commercial"] is False
    assert {row["state"] for row in rows.values()} == {"missing"}


def test_list_tells_a_file_of_the_wrong_content_only_when_it_reads_it(tmp_path: Path) -> None:
    manifest = toy_manifest(tmp_path, b"right")
    target = tmp_path / "models" / "upscaler" / "toy.pth"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"wrong")
    arguments = ["list", "--json", "--folder", str(tmp_path / "models"), "--manifest"]
    quick = CliRunner().invoke(models_app, [*arguments, str(manifest)])
    full = CliRunner().invoke(models_app, [*arguments, str(manifest), "--verify"])
    assert json.loads(quick.stdout)[0]["state"] == "present"
    assert json.loads(full.stdout)[0]["state"] == "wrong"


def test_pull_takes_an_offline_folder(tmp_path: Path) -> None:
    manifest = toy_manifest(tmp_path, b"weights")
    (tmp_path / "toy.pth").write_bytes(b"weights")
    arguments = ["pull", "--manifest", str(manifest), "--offline", str(tmp_path)]
    result = CliRunner().invoke(models_app, [*arguments, "--folder", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "upscaler" / "toy.pth").read_bytes() == b"weights"


def test_pull_of_the_research_profile_without_the_flag_fails_with_the_licence(
    tmp_path: Path,
) -> None:
    result = CliRunner().invoke(
        models_app, ["pull", "--profile", "research", "--folder", str(tmp_path)]
    )
    assert result.exit_code == 1
    assert "not for commercial use" in " ".join(result.output.split())


def test_pull_of_an_unknown_profile_says_which_there_are(tmp_path: Path) -> None:
    result = CliRunner().invoke(models_app, ["pull", "--profile", "compact"])
    assert result.exit_code == 2
    assert "studio or research" in result.output


def test_check_tells_unknown_files_from_known_ones(tmp_path: Path) -> None:
    manifest = toy_manifest(tmp_path, b"weights")
    (tmp_path / "renamed.bin").write_bytes(b"weights")
    (tmp_path / "other.bin").write_bytes(b"other")
    paths = [str(tmp_path / "renamed.bin"), str(tmp_path / "other.bin")]
    result = CliRunner().invoke(models_app, ["check", *paths, "--manifest", str(manifest)])
    assert result.exit_code == 0
    assert "ok       renamed.bin: toy, MIT" in result.output
    assert "unknown  other.bin" in result.output
