"""InsightFace's packs through its own package, with random graphs of their shapes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the export environment has torch")

import onnx  # noqa: E402

from export_scripts.studio import export as export_command  # noqa: E402
from export_scripts.studio import insightface_pack  # noqa: E402
from export_scripts.studio.networks import detectors, recognisers  # noqa: E402
from export_scripts.studio.wrap import as_published  # noqa: E402
from export_scripts.tensorrt.configs import read_config  # noqa: E402


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked pack: SCRFD-shaped, ArcFace-shaped, and a file that is neither."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("pack") / "buffalo_x"
    folder.mkdir()
    trunk = recognisers.IResNet((1, 1, 1, 1), 8).eval()
    heads = tuple(f"head{i}" for i in range(9))
    graphs = {
        "det_x": as_published(detectors.ScrfdShaped(), (3, 640, 640), heads),
        "w_x": as_published(trunk, (3, 112, 112), ("embedding",)),
    }
    for name, published in graphs.items():
        onnx.save(published.graph, folder / f"{name}.onnx")
    return folder


def test_the_package_tells_detector_and_recogniser_apart(pack: Path) -> None:
    pytest.importorskip("insightface", reason="requirements/research.txt is not installed")
    found = insightface_pack.find_pack(str(pack))
    assert (found.detector.name, found.recogniser.name) == ("det_x.onnx", "w_x.onnx")


def test_a_pack_without_a_recogniser_is_refused(pack: Path, tmp_path: Path) -> None:
    pytest.importorskip("insightface", reason="requirements/research.txt is not installed")
    (tmp_path / "det.onnx").write_bytes((pack / "det_x.onnx").read_bytes())
    with pytest.raises(insightface_pack.PackError, match="recognition"):
        insightface_pack.find_pack(str(tmp_path))


def test_without_the_package_the_message_says_how_to_get_it(
    pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "insightface", None)
    with pytest.raises(insightface_pack.PackError, match=r"research\.txt"):
        insightface_pack.find_pack(str(pack))


def test_a_pack_is_exported_in_research_mode_only_and_says_so_in_its_configuration(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--checkpoints", str(tmp_path), "--out", str(tmp_path / "repository"),
        "--model", "face_detector", "--model", "identity_encoder", "--insightface", str(pack),
    ]  # fmt: skip
    with pytest.raises(SystemExit):
        export_command.main(arguments)
    assert "--research" in capsys.readouterr().err
    pytest.importorskip("insightface", reason="requirements/research.txt is not installed")
    assert export_command.main([*arguments, "--research"]) == 0
    for model in ("face_detector", "identity_encoder"):
        config = read_config(tmp_path / "repository" / model / "config.pbtxt")
        assert config.parameters["licence_mode"].string_value == "research"
        assert len(config.parameters["source_sha256"].string_value) == 64
