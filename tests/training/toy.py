"""A small model that learns, for tests; as a program, one process of a run or a run to be killed.

python toy.py share FILE RANK WORLD    the losses of a training run shared by processes
python toy.py train FOLDER             a run with checkpoints, gone on with where it was
"""

import sys
import time
from pathlib import Path

import torch

from assay.families.streams import Streams
from assay.training import checkpoint
from assay.training.config import FitConfig, OptimConfig, Schedule
from assay.training.fit import begin, fit

CONFIG = FitConfig(
    n_steps=60,
    batch=8,
    seed=3,
    ema=0.9,
    optim=OptimConfig(kind="muon", lr=0.02, schedule=Schedule(warmup=5)),
)


class Toy(torch.nn.Module):
    """Learns y = x A from noisy x; the noise comes from the streams and from torch's own state."""

    def __init__(self, seed=0, noisy=True):
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.up = torch.nn.Parameter(torch.randn(6, 4, generator=rng))
        self.gain = torch.nn.Parameter(torch.ones(6))
        self.noisy = noisy

    @staticmethod
    def streams(seed):
        return Streams(seed)

    def loss(self, batch, rng):
        x = batch["x"] + 0.1 * rng.randn(len(batch["x"]), 4).float()
        if self.noisy:
            x = x + 0.01 * torch.randn(x.shape)
        return (x @ self.up.T * self.gain - batch["y"]).square().mean(1)


def batches(step):
    """Eight samples of step's own."""
    x = Streams(11).child(step).randn(8, 4).float()
    truth = torch.arange(24.0).view(6, 4).sin()
    return {"x": x, "y": x @ truth.T}


def share(file, rank, world):
    """Print the losses of a run shared by so many processes."""
    import torch.distributed as dist

    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    losses = [step.loss for step in fit(Toy(noisy=False), batches, CONFIG)]
    if rank == 0:
        print(" ".join(repr(value) for value in losses))
    if world > 1:
        dist.destroy_process_group()


def train(folder, pause=0.01):
    """Train to the end in a folder, a checkpoint after every third step."""
    path = Path(folder) / "checkpoint.safetensors"
    state = begin(Toy(), CONFIG)
    if path.exists():
        checkpoint.read(path, state)
    steps = fit(state.model, batches, CONFIG, state)
    for _ in checkpoint.kept(steps, path, 3, CONFIG.n_steps):
        time.sleep(pause)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "share":
        share(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        train(sys.argv[2])
