"""Ship a model: python tools/ship.py RUN NAME [N]

Exports the final weights of a training Run to src/assay/rules/shipped/NAME.safetensors, loads that
very file, evaluates it with N samples (10,000) at T = 0.5, 0.7 and 1, and puts the rows into
NAME.json. The evaluation is a Run of its own, RUN/shipped-NAME, and resumes.
"""

import hashlib
import sys
from pathlib import Path

from assay.rules import evaluate, modelfile, shipping
from assay.runs import Run


def main(run: str, name: str, n: str = "10000") -> None:
    path = shipping.export(run, name)
    model = shipping.load(path)
    config = evaluate.EvaluateConfig(n=int(n), n_any_panel=1000, temperatures=(0.5, 0.7, 1.0))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {**config.model_dump(mode="json"), "model": model.about, "file": digest}
    with Run.open(Path(run) / f"shipped-{name}", about) as kept:
        rows = evaluate.evaluate(model, config, kept)
    modelfile.add_rows(path, rows)
    print(f"{path}: {path.stat().st_size:,} bytes, {len(rows)} rows")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except TypeError:
        sys.exit(__doc__)
