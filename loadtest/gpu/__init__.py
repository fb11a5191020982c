"""The denoiser on a GPU: captured steps, a Triton model of them, and what starts its server."""
