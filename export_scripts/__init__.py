"""Network definitions, training, evaluation and ONNX export of the served models."""
