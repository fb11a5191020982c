"""Training of the compact networks: one resumable command each."""
