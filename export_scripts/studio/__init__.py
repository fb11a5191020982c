"""Studio profile: public checkpoints to ONNX, with the same Triton contract as the compact models."""
