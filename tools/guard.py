"""Fails after an installation that brought torchvision or CUDA wheels along.

CPU torch cannot import torchvision, whose mere presence breaks transformers and diffusers; the
nvidia wheels are several gigabytes that a CPU build of torch never loads.
"""

import importlib.metadata
import sys


def main() -> int:
    names = {(d.metadata["Name"] or "").lower() for d in importlib.metadata.distributions()}
    unwanted = sorted(n for n in names if n == "torchvision" or n.startswith("nvidia"))
    if unwanted:
        print(f"guard: must not be installed: {', '.join(unwanted)}", file=sys.stderr)
        print("guard: install the CPU build of torch with -c constraints-ci.txt", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
