"""The compact networks: one module each, with the graph that is served."""
