"""Learned denoisers of real digits: recipes, training, and the models that are shipped.

    model = image_models.load("digits8")        # or "digits28", or a .safetensors file
    cond, uncond = model.cond(3), model.uncond()
    denoised = cond(x, sigma)

x is (n, *shape), numpy or torch, in the coordinate x = x0 + sigma noise with images in [-1, 1];
the answer has x's backend, dtype and shape. Any shape with the right number of pixels will do,
(n, 64) as well as (n, 1, 8, 8). sigma > 0 is a number or (n,); a label is a digit 0 to 9 or (n,)
of them. So both go into `core.solver`, `core.guidance.Guided` and `guidance.measure` as they are.
Arithmetic is float32: guidance multiplies whatever bfloat16 would round by w.

One network is both: in training 20 % of the labels are dropped, and a dropped label is the
unconditional model. The network is a residual MLP (`models.resmlp`) behind EDM's preconditioning
(Karras et al. 2022, arXiv 2206.00364); the weights are the average over training (EMA). It trains
on the part ``train`` of `image_data`; the number of steps was chosen by the loss on ``judge``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from assay import runs
from assay.core import special
from assay.families.config import EdmConfig
from assay.guidance.images import data as image_data
from assay.models.config import Config, ResMlpConfig
from assay.training.config import FitConfig, OptimConfig, Schedule

KIND = "assay image model"
FOLDER = Path(__file__).parent / "shipped"


class ImageRecipe(Config):
    """A denoiser of digits, whole: data, network, family, loop. shift: images are moved by up to
    so many pixels in training; seed: of the first weights."""

    kind: Literal["guidance.digits-model"] = "guidance.digits-model"
    data: Literal["digits8", "digits28"]
    network: ResMlpConfig
    options: EdmConfig
    fit: FitConfig
    shift: int = 0
    seed: int = 0


def digits8() -> ImageRecipe:
    """8x8: 0.6 million weights, half a minute on one core."""
    return ImageRecipe(
        data="digits8",
        network=ResMlpConfig(size=8, n_labels=10),
        options=EdmConfig(sigma_data=0.75, p_mean=-0.4, p_std=1.4, label_drop=0.2),
        fit=_fit(800),
    )


def digits28() -> ImageRecipe:
    """28x28: 1.2 million weights, five minutes on one core; images moved by up to a pixel."""
    return ImageRecipe(
        data="digits28",
        network=ResMlpConfig(size=28, width=256, mlp=1.5, n_labels=10),
        options=EdmConfig(sigma_data=0.62, p_mean=-0.4, p_std=1.4, label_drop=0.2),
        fit=_fit(6000),
        shift=1,
    )


def _fit(n_steps: int) -> FitConfig:
    schedule = Schedule(warmup=100, hold=0.5)
    optim = OptimConfig(lr=2e-3, weight_decay=0.05, schedule=schedule)
    return FitConfig(n_steps=n_steps, batch=256, bf16=True, ema=0.999, optim=optim)


RECIPES: dict[str, Callable[[], ImageRecipe]] = {"digits8": digits8, "digits28": digits28}


@dataclass(frozen=True, eq=False)
class Denoise:
    """(x, sigma) -> denoised of a family with a label bound; see the module's text."""

    family: Any
    label: Any  # 0 for none, digit + 1, or a tensor of these

    @property
    def dim(self) -> int:
        """Pixels of an image."""
        return int(np.prod(self.family.shape))

    def __call__(self, x: Any, sigma: Any) -> Any:
        import torch

        given = x if isinstance(x, torch.Tensor) else torch.from_numpy(np.asarray(x))
        image = given.reshape(-1, *self.family.shape).float()
        level = torch.as_tensor(sigma).to(image).reshape(-1).expand(len(image))
        with torch.inference_mode():
            denoised = self.family.denoiser(self.label)(image, level)
        out = denoised.to(given.dtype).reshape(given.shape)
        return out if isinstance(x, torch.Tensor) else out.numpy()


@dataclass(frozen=True, eq=False)
class ImageModel:
    """A trained denoiser. about: its recipe, weights' digest, losses; shape of an image."""

    name: str
    family: Any
    about: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        return self.family.shape[1:]

    @property
    def recipe(self) -> ImageRecipe:
        """What it was trained by."""
        return ImageRecipe.model_validate(self.about["recipe"])

    def cond(self, digit: Any) -> Denoise:
        """The denoiser of a digit, 0 to 9, or of one for each sample (n,); ValueError else."""
        import torch

        digits = np.asarray(digit)
        if not np.isin(digits, np.arange(image_data.N_LABELS)).all():
            raise ValueError(f"digit {digit!r} must be 0 to 9")
        if digits.ndim == 0:
            return Denoise(self.family, int(digits) + 1)
        return Denoise(self.family, torch.from_numpy(digits.astype(np.int64) + 1))

    def uncond(self) -> Denoise:
        """The denoiser of all digits together."""
        return Denoise(self.family, None)


def build(recipe: ImageRecipe) -> Any:
    """The family of a recipe, untrained."""
    from assay.families.edm import Edm
    from assay.models.resmlp import ResMlp

    return Edm(ResMlp(recipe.network, recipe.seed), recipe.options)


def batches(recipe: ImageRecipe) -> Callable[[int], dict[str, Any]]:
    """step -> images (batch, 1, size, size) of the part train, moved, and labels digit + 1."""
    import torch

    part = image_data.load(recipe.data).train
    x, y = torch.from_numpy(part.x).float(), torch.from_numpy(part.y).long() + 1
    size, far, n = x.shape[-1], recipe.shift, recipe.fit.batch
    padded = torch.nn.functional.pad(x, (far,) * 4, value=-1.0)

    def batch(step: int) -> dict[str, Any]:
        rng = torch.Generator().manual_seed(1_000_003 * recipe.fit.seed + step)
        chosen = torch.randint(len(x), (n,), generator=rng)
        corner = torch.randint(2 * far + 1, (n, 2, 1), generator=rng)
        at = corner + torch.arange(size)
        lines = (chosen[:, None, None], at[:, 0, :, None], at[:, 1, None, :])
        return {"x": padded[lines][:, None], "label": y[chosen]}

    return batch


def train(family: Any, recipe: ImageRecipe) -> Iterator[Any]:
    """Every step of training a family from `build`, which ends with the averaged weights."""
    from assay.training import fit

    state = fit.begin(family, recipe.fit)
    for step in fit.fit(family, batches(recipe), recipe.fit, state):
        if step.number == recipe.fit.n_steps:
            assert state.average is not None
            for name, p in family.named_parameters():
                p.data.copy_(state.average.tensors[name])
            family.eval()
        yield step


def names() -> list[str]:
    """The shipped models, sorted."""
    return sorted(p.stem for p in FOLDER.glob("*.json") if p.with_suffix(".safetensors").exists())


def about(name: str) -> dict[str, Any]:
    """What the .json of a shipped model says; ValueError for another name. Needs no torch."""
    if name not in names():
        there = ", ".join(names()) or "none"
        raise ValueError(f"model {name!r} is unknown; choose from {there}")
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@lru_cache(maxsize=4)
def load(source: str | os.PathLike[str]) -> ImageModel:
    """The shipped model of this name, or of a .safetensors file with its .json; in float32.

    ValueError for another name, or a file that is not what its .json says.
    """
    path = Path(source)
    if path.suffix != ".safetensors":
        about(str(source))  # refuses an unknown name
        path = FOLDER / f"{source}.safetensors"
    return _read(path)


def _read(path: Path) -> ImageModel:
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    try:
        said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        data = path.read_bytes()
        fits = said.get("kind") == KIND and said["sha256"] == hashlib.sha256(data).hexdigest()
        tensors = load_tensors(data)
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read with its .json ({error})") from None
    if not fits:
        raise ValueError(f"{path}: is not the file that its .json describes; save it again")
    family = build(ImageRecipe.model_validate(said["recipe"]))
    family.load_state_dict({name: value.float() for name, value in tensors.items()})
    for p in family.parameters():
        p.requires_grad_(False)
    return ImageModel(path.stem, family.eval(), said)


def save(
    path: str | os.PathLike[str], family: Any, recipe: ImageRecipe, rows: list[dict[str, Any]]
) -> Path:
    """Write the weights in bfloat16 and the .json that says what they are; returns the file."""
    import torch
    from safetensors.torch import save as save_tensors

    file = Path(path)
    tensors = {k: v.detach().to(torch.bfloat16) for k, v in family.state_dict().items()}
    data = save_tensors(tensors)
    said = {
        "kind": KIND,
        "averaged": True,
        "parameters": sum(p.numel() for p in family.parameters()),
        "samples_seen": recipe.fit.n_steps * recipe.fit.batch,
        "sha256": hashlib.sha256(data).hexdigest(),
        "env": runs.environment(),
        "recipe": recipe.model_dump(mode="json"),
        "rows": rows,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    runs.write_aside(file, data)
    runs.write_aside(file.with_suffix(".json"), runs.dumps(said, indent=1).encode() + b"\n")
    return file


SIGMAS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def losses(model: ImageModel, part: str = "judge", seed: int = 0) -> list[dict[str, Any]]:
    """Mean squared errors a pixel of both denoisers at SIGMAS, on a part of the data, as rows.

    linear: the best affine denoiser of the part train (its mean and covariance), of the class
    and of all digits, the baseline; 95 % intervals of the means over images.
    """
    images = image_data.load(model.recipe.data)
    real: image_data.Part = getattr(images, part)
    x0 = real.x.reshape(len(real.x), -1)
    noise = np.random.default_rng(seed).standard_normal(x0.shape)
    rows = []
    for sigma in SIGMAS:
        x = x0 + sigma * noise
        row: dict[str, Any] = {"part": part, "sigma": sigma, "n": len(x), "seed": seed}
        answers = {
            "cond": model.cond(real.y)(x, sigma),
            "uncond": model.uncond()(x, sigma),
            "linear_cond": _affine(images.train, x, sigma, real.y),
            "linear_uncond": _affine(images.train, x, sigma, None),
        }
        for name, denoised in answers.items():
            each = np.mean((special.as_float64(denoised) - x0) ** 2, axis=1)
            half = 1.96 * each.std(ddof=1) / np.sqrt(len(each))
            row |= {name: each.mean(), f"{name}_low": each.mean() - half,
                    f"{name}_high": each.mean() + half}  # fmt: skip
        rows.append(row)
    return rows


def _affine(
    train: image_data.Part, x: np.ndarray, sigma: float, y: np.ndarray | None
) -> np.ndarray:
    """E[x0 | x] under one Gaussian, or one a class, with the sample's mean and covariance."""
    out = np.empty_like(x)
    for digit in range(image_data.N_LABELS) if y is not None else (None,):
        own = train.x if digit is None else train.of(digit)
        lines = slice(None) if y is None else y == digit
        flat = own.reshape(len(own), -1)
        mean, cov = flat.mean(axis=0), np.cov(flat.T)
        gain = np.linalg.solve(cov + sigma**2 * np.eye(len(cov)), cov)
        out[lines] = mean + (x[lines] - mean) @ gain
    return out
