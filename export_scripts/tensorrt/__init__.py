"""TensorRT engines and runtime variants for every model of a repository, compact and studio."""
