"""Header readers: what a file claims to be, found without decoding a pixel.

Each `read_*` takes the whole file and returns a `Header`, or raises PhotoError. They allocate
nothing in proportion to what the file claims, and hand the decoder a cleaned copy where a
library would otherwise act on metadata (compressed text, private tags).
"""
