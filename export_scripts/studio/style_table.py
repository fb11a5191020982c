"""Style prompts, encoded once at export: no text model runs in production.

Takes the prompts from the style guides, reads CLIP's vocabulary file, so that nothing is fetched,
and writes the encoder's outputs as the table of the `style_prompts` model.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import torch
from headshot.pipeline.guide_files import GuideHead, load_guides
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

TOKENS = 77
# Row 0, which the gateway takes for a style without a row. No guide can have this id.
NEUTRAL = "*"
_NEUTRAL_PROMPT = (
    "professional headshot of a person, plain neutral grey studio background, soft key light, "
    "sharp focus on the eyes, natural skin texture, 85mm portrait lens"
)


def read_prompts(extra_dir: Path | None = None) -> dict[str, str]:
    """Read style id to prompt from the guides, in the order of the table's rows.

    The neutral row is the first; then the newest version of each style, sorted by id.

    Args:
        extra_dir: folder of an organisation's own guides beside the built-in ones, or None.

    Raises:
        headshot.errors.StyleError: a guide is malformed, or one id and version occurs twice.
    """
    # From old to new, so that the newest version's prompt stays.
    own = {guide.id: guide.studio.prompt for guide in load_guides(GuideHead, extra_dir)}
    prompts = {NEUTRAL: _NEUTRAL_PROMPT} | own
    return {style: " ".join(prompt.split()) for style, prompt in prompts.items()}


def byte_symbols() -> list[str]:
    """Return CLIP's 256 printable stand-ins for bytes, in vocabulary order.

    Printable latin-1 bytes stand for themselves; the others take code points from 256 up, and
    the printable ones come first (Radford et al. 2019, byte-level BPE).
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(rest))]


def tokenizer(vocabulary: Path) -> CLIPTokenizer:
    """Build CLIP's tokenizer from `bpe_simple_vocab_16e6.txt.gz`.

    The file lists merges in rank order; the vocabulary is the bytes, the bytes with an end-of-word
    mark, the first 48,894 merges joined, and two marks for start and end.
    """
    lines = gzip.decompress(vocabulary.read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    symbols = byte_symbols()
    words = symbols + [symbol + "</w>" for symbol in symbols]
    words += ["".join(pair) for pair in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)},
        merges=merges,
        # SD-1.5 pads with the end mark.
        pad_token="<|endoftext|>",  # noqa: S106 - a text token, not a secret
        model_max_length=TOKENS,
    )


def encode_styles(prompts: dict[str, str], words: CLIPTokenizer, text: CLIPTextModel) -> Tensor:
    """Encode prompts to [styles, 77, 768], float32: the last hidden state after the final norm."""
    batch = words(
        list(prompts.values()),
        padding="max_length",
        truncation=True,
        max_length=TOKENS,
        return_tensors="pt",
    )
    with torch.no_grad():
        return text.eval()(batch.input_ids).last_hidden_state.float()
