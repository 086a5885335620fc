"""A pipeline from a folder or from the local cache of the Hugging Face Hub; nothing is downloaded.

Weights are read from safetensors only, and no code that lies beside them is run.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_INDEX, _MODULAR = "model_index.json", "modular_model_index.json"
DTYPES = ("float32", "float16", "bfloat16")


def load(name: str, device: str | None = None, dtype: str | None = None) -> Any:
    """The diffusers pipeline of a folder, or of an id that was downloaded before.

    device: "cpu", "cuda", ... [default: cuda where there is one]; dtype: one of :data:`DTYPES`
    [default: float16 on cuda, else float32]. ValueError where there is no such pipeline, where it
    would have to be downloaded, or where diffusers cannot build it.
    """
    diffusers, torch = _libraries()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = dtype or ("float16" if device.startswith("cuda") else "float32")
    if kind not in DTYPES:
        raise ValueError(f"dtype {kind!r} is unknown; choose from {', '.join(DTYPES)}")
    folder = Path(name)
    if folder.is_dir():
        modular = _is_modular(folder)
    elif folder.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ValueError(f"{name}: is neither a folder nor an id such as owner/name")
    else:
        modular = _cached(name)
    made = _build(diffusers, name, modular, getattr(torch, kind))
    try:
        return made.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r}: {_line(error)}") from None


def _libraries() -> tuple[Any, Any]:
    try:
        import diffusers
        import torch
    except ImportError as error:
        raise ValueError(
            f"auditing a pipeline needs diffusers ({error}): pip install 'assay[hf]'"
        ) from None
    return diffusers, torch


def _is_modular(folder: Path) -> bool:
    """Whether a folder is a modular pipeline; ValueError where it is none at all."""
    if (folder / _MODULAR).is_file():
        return True
    if not (folder / _INDEX).is_file():
        raise ValueError(
            f"{folder}: is no diffusers pipeline (it holds neither {_INDEX} nor {_MODULAR}); "
            "name the folder that save_pretrained wrote"
        )
    return False


def _cached(name: str) -> bool:
    """Whether a downloaded id is modular; ValueError where it was not downloaded."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = {i: try_to_load_from_cache(name, i) for i in (_INDEX, _MODULAR)}
    except HFValidationError:
        raise ValueError(f"{name}: is neither a folder nor an id such as owner/name") from None
    if isinstance(found[_INDEX], str):
        return False
    if isinstance(found[_MODULAR], str):
        return True
    raise ValueError(
        f"{name}: is not in the local cache, and an audit downloads nothing; "
        f"run 'hf download {name}' first, or give a folder"
    )


def _build(diffusers: Any, name: str, modular: bool, dtype: Any) -> Any:
    offline = {"local_files_only": True}
    with _quiet(diffusers), _one_line(name):
        if modular:
            made = diffusers.ModularPipeline.from_pretrained(name, **offline)
            made.load_components(torch_dtype=dtype, use_safetensors=True, **offline)
            return made
        return diffusers.DiffusionPipeline.from_pretrained(
            name, torch_dtype=dtype, use_safetensors=True, **offline
        )


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Whatever goes wrong inside as one ValueError that names the pipeline."""
    try:
        yield
    except Exception as error:  # libraries raise all kinds for a folder that is not whole
        raise ValueError(f"{name}: diffusers cannot load this pipeline: {_line(error)}") from None


@contextmanager
def _quiet(diffusers: Any) -> Iterator[None]:
    """Loading without bars, advice and notes on names that will change."""
    import transformers

    loggers = [library.utils.logging for library in (diffusers, transformers)]
    before = [logger.get_verbosity() for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.set_verbosity_error()
            logger.disable_progress_bar()
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.set_verbosity(level)


def _line(error: BaseException) -> str:
    """The first line of an error's words, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def fingerprint(denoiser: Any) -> str:
    """16 hexadecimal digits from the first entries of every weight of a network."""
    found = hashlib.sha256()
    for name, values in denoiser.state_dict().items():
        found.update(f"{name}{tuple(values.shape)}".encode())
        found.update(values.detach().flatten()[:8].float().cpu().numpy().tobytes())
    return found.hexdigest()[:16]
