"""The public gRPC surface: thin servicers, interceptors, proto <-> domain."""
