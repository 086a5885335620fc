"""Models on the Hugging Face Hub, or in a folder of its form (extra ``hf``).

    HubModel(assay.load(RUN)).push_to_hub("user/name")
    model = HubModel.from_pretrained("user/name")       # or a folder
    model.sample(16)

A folder holds model.safetensors and model.json as `shipping` writes them, and a model card;
nothing in it is ever unpickled or executed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.rules import modelfile, shipping
from assay.rules.generator import Generator

try:
    from huggingface_hub import ModelHubMixin, hf_hub_download
except ImportError as error:
    raise ImportError("assay.rules.hub needs pip install 'assay[hf]'") from error

WEIGHTS = "model.safetensors"
_FILES = (WEIGHTS, "model.json")


class HubModel(
    Generator,
    ModelHubMixin,
    library_name="assay",
    license="apache-2.0",
    tags=["genraven", "abstract-reasoning", "raven"],
):
    """A generator with save_pretrained, from_pretrained and push_to_hub."""

    def __init__(self, generator: Generator):
        super().__init__(generator.family, generator.binding, generator.about)
        self.batch = generator.batch

    def _save_pretrained(self, save_directory: Path) -> None:
        modelfile.save(self, save_directory / WEIGHTS)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **options: Any,
    ) -> HubModel:
        """The model in a folder, or in a repository of the Hub by its id.

        options: averaged and device, as for `shipping.load`. ValueError where the folder holds
        none; huggingface_hub's own errors where the Hub does not have it.
        """
        folder = Path(model_id)
        if not folder.is_dir():
            paths = [
                hf_hub_download(
                    model_id,
                    name,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
                for name in _FILES
            ]
            folder = Path(paths[0]).parent
        return cls(shipping.load(folder / WEIGHTS, **options))
