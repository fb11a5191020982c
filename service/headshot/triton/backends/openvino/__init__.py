"""The `openvino` backend."""
