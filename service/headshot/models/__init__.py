"""Public checkpoints of the studio profile: files, hashes, licences, and how to pull them."""
