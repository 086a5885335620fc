"""The paper's image experiment on real digits: projected trajectories and measured quality by w.

Every digit is guided towards its class by a learned denoiser, guided = (1 + w) cond - w uncond,
from the same noise at every w, by two samplers in the coordinate x = x0 + sigma noise:

    ddpm  the ancestral sampler of DDPM (posterior variance) through ``ddpm_steps`` noise levels
          of its linear betas, sigma 157 ... 0.01 (`core.noise.ddpm`; Ho et al. 2020, section 4);
          in the variance-preserving coordinate x / sqrt(1 + sigma^2) it is DDPM as published
    heun  the probability flow by Heun's method over ``heun_steps`` steps of Karras et al.'s grid,
          sigma 80 ... 0.01

Both start at sigma_max * noise and clip nothing. Their last step, from sigma 0.01 to 0, is the
final denoise: measures without it are of the samples before that step.
Rows: kind "quality", one for each sampler, digit, w and seed (`image_quality`, and the trajectory
by `image_paths`); where a block is whole, kind "real", what real images score, and what
`image_claim` makes of it. A group of rows, one sampler, block, w and seed, is drawn in one go
and depends on nothing but the configuration.

Setting: Chidambaram, Gatmiry, Chen, Lee, Lu 2024, arXiv 2409.13074, section on image experiments.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from assay.core import noise as noises
from assay.core import solver
from assay.core.guidance import Guided
from assay.guidance.config import weights
from assay.guidance.images import data as image_data
from assay.guidance.images import models as image_models
from assay.guidance.images import paths as image_paths
from assay.guidance.images import quality as image_quality
from assay.guidance.images.group import Group
from assay.models.config import Config

W = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
SAMPLERS = ("ddpm", "heun")
_ALL = tuple(range(image_data.N_LABELS))


class Block(Config):
    """Digits that are drawn together: n samples of each from every seed."""

    digits: tuple[int, ...] = _ALL
    n: int = Field(default=32, ge=8)  # more than image_quality.K
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    @field_validator("digits")
    @classmethod
    def _known(cls, digits: tuple[int, ...]) -> tuple[int, ...]:
        if not digits or not set(digits) <= set(_ALL) or len(set(digits)) < len(digits):
            raise ValueError(f"digits {list(digits)} must be different ones of 0 to 9")
        return digits


class StudyConfig(Config):
    """Model x sampler x block x w x seed."""

    kind: Literal["guidance.digits-study"] = "guidance.digits-study"
    data: Literal["digits8", "digits28"] = "digits8"
    model: str = ""  # the digest of the weights' file
    samplers: tuple[Literal["ddpm", "heun"], ...] = SAMPLERS
    w: tuple[float, ...] = W
    blocks: tuple[Block, ...] = (Block(),)
    ddpm_steps: int = Field(default=400, ge=2)
    heun_steps: int = Field(default=32, ge=2)
    command: str = ""

    @field_validator("blocks")
    @classmethod
    def _apart(cls, blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        if not blocks or len({block.n for block in blocks}) < len(blocks):
            raise ValueError("blocks must be one or more, each with its own n")
        return blocks

    @field_validator("w", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> tuple[float, ...]:
        return weights(value if isinstance(value, (list, tuple)) else [value])


def command(data: str, asked: Mapping[str, Any]) -> str:
    """The command line that makes a study; asked: what it says beside the data."""
    flags = {"seeds": "seed", "digits": "digit", "samplers": "sampler"}
    words = ["assay", "guidance", "digits", "--data", data]
    for name, value in asked.items():
        said = ",".join(str(v) for v in value) if isinstance(value, (list, tuple)) else str(value)
        words += [f"--{flags.get(name, name)}", said]
    return shlex.join(words) + " --out DIR"


def study8() -> StudyConfig:
    """8x8: all digits, 16 samples, 5 seeds."""
    return _bound(StudyConfig(blocks=(Block(n=16),), command=command("8x8", {})))


def study28() -> StudyConfig:
    """28x28: all digits with 32 samples and one seed; 3, 5 and 8 with 64 samples and 3 seeds."""
    blocks = (Block(seeds=(0,)), Block(digits=(3, 5, 8), n=64, seeds=(1, 2, 3)))
    said = command("28x28", {})
    return _bound(StudyConfig(data="digits28", blocks=blocks, command=said))


def demo() -> StudyConfig:
    """A small piece of it, within some seconds: three 8x8 digits, fewer steps, one seed."""
    block = Block(digits=(1, 3, 8), n=24, seeds=(0,))
    said = "assay demo --out DIR"
    return _bound(StudyConfig(blocks=(block,), ddpm_steps=100, heun_steps=20, command=said))


def _bound(config: StudyConfig) -> StudyConfig:
    """The configuration with the digest of the shipped weights, which a Run belongs to."""
    digest = image_models.about(config.data)["sha256"]
    return config.model_copy(update={"model": digest})


def groups(config: StudyConfig) -> list[Group]:
    """All groups, in the order in which they are drawn: whole grids of w before the next seed."""
    return [
        Group(sampler, block, w, seed)
        for block in config.blocks
        for seed in block.seeds
        for sampler in config.samplers
        for w in config.w
    ]


def method(config: StudyConfig, sampler: str) -> tuple[solver.Step, np.ndarray]:
    """Step and falling sigmas of a sampler, without its last step to 0."""
    if sampler == "ddpm":
        return solver.sde, noises.ddpm(config.ddpm_steps)[:-1]
    return solver.heun, noises.karras(config.heun_steps, 0.01, 80.0)[:-1]


@dataclass(frozen=True, eq=False)
class Drawn:
    """x and denoised (n_digits, n, d); q (n_digits, T, n) at the sigmas (T,); calls a sample."""

    x: np.ndarray
    denoised: np.ndarray
    q: np.ndarray
    sigmas: np.ndarray
    nfe: int


def draw(model: Any, config: StudyConfig, group: Group) -> Drawn:
    """The guided samples of a group and their projected trajectories.

    model: an `image_models.ImageModel`, or whatever has cond(digits), uncond() and shape.
    """
    import torch

    digits = np.repeat(group.block.digits, group.block.n)
    guided = Guided(model.cond(digits), model.uncond(), group.w)
    step, sigmas = method(config, group.sampler)
    rng = torch.Generator().manual_seed(group.seed)
    start = torch.randn(len(digits), int(np.prod(model.shape)), generator=rng) * float(sigmas[0])
    train = image_data.load(config.data).train
    axes = [image_paths.axis(train, digit) for digit in group.block.digits]
    wanted, q, state = set(image_paths.levels(sigmas).tolist()), [], None
    states = solver.solve(guided, start, sigmas, step, rng)
    for number, state in enumerate(states):
        if number in wanted:
            parts = _parts(state.x, len(axes))
            seen = zip(parts, axes, strict=True)
            q.append([image_paths.project(part, state.sigma, along) for part, along in seen])
    assert state is not None
    final = guided(state.x, state.sigma)
    calls = (solver.nfe(step, sigmas) + 1) * guided.calls_per_evaluation
    return Drawn(
        _parts(state.x, len(axes)),
        _parts(final, len(axes)),
        np.transpose(np.array(q), (1, 0, 2)),
        np.asarray(sigmas)[sorted(wanted)],
        calls,
    )


def _parts(x: Any, n_digits: int) -> np.ndarray:
    """(n_digits, n, d) float64 of a tensor (n_digits * n, d)."""
    return x.detach().double().numpy().reshape(n_digits, -1, x.shape[-1])


def group_rows(
    model: Any, config: StudyConfig, group: Group
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The rows of a group, and its arrays: samples, q and sigmas."""
    drawn = draw(model, config, group)
    rows = []
    for i, digit in enumerate(group.block.digits):
        ref = image_quality.reference(config.data, digit)
        rows.append({
            "key": group.row_key(digit), "kind": "quality", "data": config.data,
            "sampler": group.sampler, "digit": digit, "w": group.w,
            "guidance_scale": 1 + group.w, "seed": group.seed, "nfe": drawn.nfe,
            **image_paths.monotone(drawn.q[i], group.seed),
            "q_final": float(drawn.q[i, -1].mean()),
            **image_quality.quality(drawn.x[i], drawn.denoised[i], ref, group.seed),
        })  # fmt: skip
    arrays = {
        "samples": np.stack([drawn.x, drawn.denoised]).astype(np.float32),
        "q": drawn.q.astype(np.float32),
        "sigmas": drawn.sigmas,
    }
    return rows, arrays


def fill(run: Any, config: StudyConfig, model: Any = None) -> Iterator[Group]:
    """Compute what the Run lacks, yielding each group when it is there; claims end a block.

    model: the shipped one unless given. ValueError where the Run is of other weights.
    """
    model = model or image_models.load(config.data)
    if config.model and config.model != model.about["sha256"]:
        raise ValueError("the model is not the one that the Run was begun with; choose another")
    for block in config.blocks:
        for group in (g for g in groups(config) if g.block == block):
            run.fill(group.key, lambda g=group: group_rows(model, config, g))
            yield group
        _conclude(run, config, block)


def _conclude(run: Any, config: StudyConfig, block: Block) -> None:
    """Rows of real images and the claims of a block whose groups are all there."""
    from assay.guidance.images import claim as image_claim

    n = block.n * len(block.seeds)
    for digit in block.digits:
        run.compute(f"real-d{digit}-n{n}", lambda d=digit: (_real(config.data, d, n), {}))
    number = config.blocks.index(block)
    for sampler in config.samplers:
        run.fill(
            f"claim-{sampler}-{number}",
            lambda s=sampler: (image_claim.rows(run, config, s, block), {}),
        )


def _real(name: str, digit: int, n: int) -> dict[str, Any]:
    said = {"kind": "real", "data": name, "digit": digit, "seed": None, "nfe": 0}
    return {**said, **image_quality.real_row(name, digit, n)}
