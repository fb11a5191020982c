"""Public checkpoints to a studio model repository.

    headshot models pull --profile studio --folder checkpoints
    python -m export_scripts.studio.export --checkpoints checkpoints --out studio_repository

Without --checkpoints the same repository is written with seeded random weights, at full size or,
with --narrow, at a width for tests.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import torch
from headshot.models.licences import LicenceMode, check_content
from headshot.models.manifest import load_manifest
from tqdm import tqdm

from export_scripts.studio.models import CONTROLS
from export_scripts.studio.onnx_export import graph_bytes
from export_scripts.studio.repository import write_model
from export_scripts.studio.sizes import FULL, NARROW
from export_scripts.studio.spec import Precision, StudioModel
from export_scripts.studio.stack import (
    OPTIONAL_MODELS,
    PUBLIC_MODELS,
    Choice,
    Folder,
    public_model,
    random_stack,
)


def precision_for(
    model: StudioModel, wanted: Precision, *, float16_latents: bool = False
) -> Precision:
    """Return the wanted precision, or the model's own where it does not hold that one.

    Args:
        model: what is exported.
        wanted: the precision asked for.
        float16_latents: float16 for models that prefer bfloat16, too.
    """
    if wanted is Precision.FLOAT16 and model.precisions[0] is not wanted and not float16_latents:
        return model.precisions[0]
    return wanted if wanted in model.precisions else model.precisions[0]


def main(arguments: list[str] | None = None) -> int:
    """Export; prints one line for each model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoints", type=Path, help="folder of `headshot models pull`")
    parser.add_argument("--out", type=Path, required=True, help="the model repository to write")
    parser.add_argument(
        "--model", action="append", choices=PUBLIC_MODELS + OPTIONAL_MODELS,
        help="only these; verifier is a second recogniser (SFace), built when named or with "
        "--verifier",
    )  # fmt: skip
    parser.add_argument("--verifier", action="store_true", help="SFace beside the recogniser")
    parser.add_argument("--precision", type=Precision, default=Precision.FLOAT16,
                        choices=list(Precision))  # fmt: skip
    parser.add_argument(
        "--float16-latents", action="store_true",
        help="latent encoder and decoder in float16, too, for GPUs without bfloat16",
    )  # fmt: skip
    parser.add_argument("--canvas", type=int, default=512)
    parser.add_argument("--control", choices=CONTROLS, default="", help="ControlNet in the graph")
    parser.add_argument("--control-file", type=Path, help="its checkpoint (segmentation)")
    parser.add_argument("--recogniser", choices=("auraface", "sface"), default="auraface")
    parser.add_argument("--match-threshold", type=float, default=0.45)
    parser.add_argument(
        "--insightface", default="", metavar="PACK",
        help="detector and recogniser of an InsightFace pack (buffalo_l, or a folder), through the "
        "insightface package; needs --research",
    )  # fmt: skip
    parser.add_argument("--research", action="store_true", help="my use is non-commercial research")
    parser.add_argument("--fast-matte", action="store_true", help="MODNet instead of BiRefNet")
    parser.add_argument("--quality-upscaler", action="store_true", help="RealESRGAN_x4plus")
    parser.add_argument(
        "--styles", type=Path, metavar="DIR",
        help="your own style guides, the folder that the service's setting `styles` names: each "
        "style gets its prompt's row in style_prompts",
    )  # fmt: skip
    parser.add_argument(
        "--model-version", type=int, default=1, metavar="N",
        help="write the graphs to <model>/N beside earlier ones, whose configuration they share",
    )  # fmt: skip
    parser.add_argument("--narrow", action="store_true", help="random weights: test width")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    if options.insightface and not options.research:
        parser.error("InsightFace's packs are for non-commercial research: add --research")
    if options.verifier and options.recogniser == "sface":
        parser.error("--verifier is SFace: the recogniser that decides must be another")
    torch.set_num_threads(options.threads)
    names = options.model or PUBLIC_MODELS + (OPTIONAL_MODELS if options.verifier else ())
    folder = Folder(options.checkpoints) if options.checkpoints else None
    choice = Choice(
        options.canvas, options.control, options.control_file, options.fast_matte,
        options.quality_upscaler, options.recogniser, options.match_threshold, options.insightface,
        options.styles,
    )  # fmt: skip
    width = NARROW if options.narrow else FULL
    mode = LicenceMode.RESEARCH if options.research else LicenceMode.COMMERCIAL
    for name in tqdm(names, unit="model", disable=None):
        started = time.perf_counter()
        if folder is None:
            made = random_stack(
                width, options.canvas, names=(name,), variants=False, styles=options.styles
            )
            model = made[0]
        else:
            model = public_model(name, folder, choice)
        precision = precision_for(model, options.precision, float16_latents=options.float16_latents)
        hashes = folder.hashes(model.sources) if folder else ""
        for sha256 in filter(None, hashes.split(",")):
            check_content(sha256, mode, load_manifest())
        path = write_model(model, options.out, precision, hashes, version=options.model_version)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        tqdm.write(
            f"{name:<20} {precision:<9} {graph_bytes(path) / 1e6:8.1f} MB "
            f"{time.perf_counter() - started:6.1f} s  peak {peak:.1f} GiB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
