"""What the embedded server is told on its command line."""

from __future__ import annotations

from pathlib import Path

from headshot.triton.launch import EmbeddedTritonConfig, Ports, server_arguments


def test_the_process_of_one_model_may_take_as_long_to_load_as_the_whole_server(
    tmp_path: Path,
) -> None:
    config = EmbeddedTritonConfig(tmp_path, ready_timeout_s=240.5)
    arguments = server_arguments(config, Ports(1, 2, 3), tmp_path, "headshot-1-a-")
    assert "--backend-config=python,stub-timeout-seconds=241" in arguments
