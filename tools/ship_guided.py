"""Ship guided models: python tools/ship_guided.py RUN NAME ...

RUN is one of `assay studies guided-rules`. Exports the final weights of each of its families NAME
to src/assay/studies/shipped/NAME.safetensors (bfloat16), runs the study on those very files in
RUN/shipped (it resumes), and puts the pooled rows of each into NAME.json.
"""

import sys
from pathlib import Path

from assay import progress
from assay.rules import modelfile, shipping
from assay.runs import Run
from assay.studies import guided_config, guided_models, guided_rules

KEPT = ("model", "pooled", "best")


def main(run: str, *names: str) -> None:
    for name in names:
        path = shipping.export(Path(run) / "models" / name, name, guided_models.FOLDER)
        print(f"{path}: {path.stat().st_size:,} bytes")
    config = guided_config.from_shipped(families=names)
    with (
        Run.open(Path(run) / "shipped", config) as kept,
        progress.bar("guided draws", guided_rules.work(config, kept)) as advance,
    ):
        guided_rules.fill(kept, config.model_dump(mode="json"), advance)
        for name in names:
            rows = [r for r in kept.rows if r["part"] in KEPT and r.get("family") == name]
            modelfile.add_rows(guided_models.FOLDER / f"{name}.json", rows)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
