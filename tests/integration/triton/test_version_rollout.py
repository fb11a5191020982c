"""A new model version rolled out and back by version policy, as docs/production.md says."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import skimage.data
from headshot.deadline import Deadline
from headshot.triton.client import InferenceClient
from headshot.triton.server import EmbeddedTriton, EmbeddedTritonConfig
from numpy.typing import NDArray
from onnx import numpy_helper
from tritonclient.grpc import service_pb2

from export_scripts.tensorrt.configs import read_config
from export_scripts.tensorrt.versions import VersionError, available, main, pin, served

# A face: of noise the two runtimes differ by two levels where one computes in bfloat16.
PICTURE = np.ascontiguousarray(skimage.data.astronaut()[None, 80:144, 190:254])


@pytest.fixture
def repository(tmp_path: Path, model_repository: Path) -> Path:
    """The upscaler alone, its new version darker: every weight a tenth smaller."""
    shutil.copytree(model_repository / "upscaler", tmp_path / "upscaler")
    graph = onnx.load(tmp_path / "upscaler" / "1" / "model.onnx")
    for tensor in graph.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            smaller = (numpy_helper.to_array(tensor) * 0.9).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(smaller, tensor.name))
    (tmp_path / "upscaler" / "2").mkdir()
    onnx.save(graph, tmp_path / "upscaler" / "2" / "model.onnx")
    return tmp_path


async def answer(repository: Path, variant: str = "") -> tuple[NDArray[np.generic], list[str]]:
    """Start a server and return what an unversioned request gets, and the versions ready."""
    config = EmbeddedTritonConfig(repository, config_name=variant or None)
    async with EmbeddedTriton(config) as triton, InferenceClient([triton.grpc_url]) as client:
        result = await client.infer("upscaler", {"image": PICTURE}, deadline=Deadline.after(60))
        index = await client.endpoints[0].stub.RepositoryIndex(
            service_pb2.RepositoryIndexRequest(ready=True), timeout=10
        )
        return result.outputs["upscaled"], sorted(entry.version for entry in index.models)


async def test_a_version_is_added_rolled_out_and_rolled_back(repository: Path) -> None:
    model = repository / "upscaler"
    pin(model, [1])
    old, versions = await answer(repository)
    assert versions == ["1"]
    # Without the pin, a server that happens to restart would have taken the new one.
    pin(model, [2])
    new, versions = await answer(repository, "onnxruntime-cpu")
    assert versions == ["2"]
    assert not np.array_equal(new, old)
    pin(model, [1, 2])
    both, versions = await answer(repository)
    assert versions == ["1", "2"]
    assert np.abs(both.astype(int) - new.astype(int)).max() <= 1
    pin(model, [1])
    again, versions = await answer(repository)
    assert versions == ["1"]
    assert np.array_equal(again, old)


def test_pins_reach_every_variant_and_keep_the_comments(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = repository / "upscaler"
    comments = [line for line in (model / "config.pbtxt").read_text().splitlines() if "#" in line]
    assert served(model) == [2]  # Triton's default: the newest
    assert main(["--repository", str(repository), "--model", "upscaler", "--serve", "1"]) == 0
    assert "there [1, 2]  served [1]" in capsys.readouterr().out
    for path in (model / "config.pbtxt", *model.glob("configs/*.pbtxt")):
        assert list(read_config(path).version_policy.specific.versions) == [1]
    text = (model / "config.pbtxt").read_text()
    assert [line for line in text.splitlines() if "#" in line] == comments
    pin(model, [2, 1])
    assert text.count("version_policy") == 1
    assert served(model) == available(model) == [1, 2]


def test_a_version_that_is_not_there_and_a_foreign_policy_are_refused(repository: Path) -> None:
    model = repository / "upscaler"
    with pytest.raises(VersionError, match=r"not \[3\]"):
        pin(model, [3])
    path = model / "config.pbtxt"
    path.write_text(path.read_text() + "version_policy {\n  latest { num_versions: 2 }\n}\n")
    assert served(model) == [1, 2]
    with pytest.raises(VersionError, match="of its own"):
        pin(model, [1])
