"""Which versions of a model Triton serves: `version_policy` in config.pbtxt and every variant.

    python -m export_scripts.tensorrt.versions --repository R
    python -m export_scripts.tensorrt.versions --repository R --model denoiser --serve 2

The first form shows what is there and what is served; the second pins. A server takes it up when it
starts: model control mode is `none`.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from export_scripts.tensorrt.configs import read_config, write_variants
from export_scripts.tensorrt.files import write_atomically

# As `pin` writes it, and as protobuf prints the same.
_LINE = re.compile(
    r"^version_policy \{\s*specific \{\s*(versions: \[[0-9, ]+\]|(versions: \d+\s*)+)\s*\}\s*\}\n",
    re.MULTILINE,
)


class VersionError(ValueError):
    """Versions that are not there, or a policy that somebody wrote in another way."""


def available(model: Path) -> list[int]:
    """Return the versions of a model folder that hold a graph or a plan, ascending."""
    return sorted(
        int(path.name)
        for path in model.iterdir()
        if path.name.isdigit()
        and any((path / f"model.{kind}").is_file() for kind in ("onnx", "plan"))
    )


def served(model: Path) -> list[int]:
    """Return the versions that a server started now would load, ascending."""
    policy = read_config(model / "config.pbtxt").version_policy
    there = available(model)
    if policy.HasField("specific"):
        return sorted(set(policy.specific.versions) & set(there))
    if policy.HasField("all"):
        return there
    newest = policy.latest.num_versions if policy.HasField("latest") else 1
    return there[-max(newest, 1) :]


def pin(model: Path, versions: list[int]) -> None:
    """Pin the versions that are served, in config.pbtxt (its comments stay) and the variants.

    A request that names no version, as the gateway's do, goes to the highest one served.

    Raises:
        VersionError: a version is not there, or the file has a policy that is not ours to change.
    """
    missing = sorted(set(versions) - set(available(model)))
    if missing or not versions:
        raise VersionError(f"{model.name} has the versions {available(model)}, not {missing}")
    path = model / "config.pbtxt"
    text = _LINE.sub("", path.read_text("utf-8"))
    if re.search(r"^\s*version_policy", text, re.MULTILINE):
        raise VersionError(f"{path} has a version_policy of its own: change it there")
    wanted = ", ".join(str(version) for version in sorted(versions))
    line = f"version_policy {{ specific {{ versions: [{wanted}] }} }}\n"
    write_atomically(path, (text.rstrip("\n") + "\n" + line).encode())
    write_variants(model)


def main(arguments: list[str] | None = None) -> int:
    """Show or pin; 1 when something cannot be pinned."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], help="only these; repeatable")
    parser.add_argument("--serve", type=int, nargs="+", metavar="VERSION", help="pin these")
    options = parser.parse_args(arguments)
    failed = False
    for model in sorted(path.parent for path in options.repository.glob("*/config.pbtxt")):
        if options.model and model.name not in options.model:
            continue
        try:
            if options.serve:
                pin(model, options.serve)
        except VersionError as error:
            failed = True
            print(error, file=sys.stderr)
        print(f"{model.name:<20} there {available(model)}  served {served(model)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
