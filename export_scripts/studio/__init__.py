"""Studio profile: public checkpoints to ONNX under the Triton contract of the compact models."""
