"""Who carries out the jobs of a study: processes here, SLURM through submitit, a Ray cluster.

Each executor starts a job by its key and says later how it ended; the list of jobs, and what is
done, are the study's folder, which all of them share. So a study may be begun by one executor and
finished by another.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol


class Running(Protocol):
    """A job on its way."""

    def ended(self) -> bool:
        """Whether it has ended, well or not."""
        ...

    def failure(self) -> str | None:
        """Why it failed, in a line; None where it did not."""
        ...

    def stop(self) -> None:
        """End it now."""
        ...


class Executor(Protocol):
    """Starts jobs; ``workers`` of them at a time."""

    workers: int

    def start(self, study: Path, key: str) -> Running:
        """Start the job of this key."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class _Process:
    def __init__(self, study: Path, key: str):
        self.log = study / "jobs" / f"{key}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "assay.rules.scaling.work", str(study), key]
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | one
            )

    def ended(self) -> bool:
        return self.process.poll() is not None

    def failure(self) -> str | None:
        code = self.process.returncode
        if code == 0:
            return None
        if code < 0:
            return f"ended by signal {-code}"
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else f"exit code {code}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Local:
    """Processes on this machine, one thread each."""

    def __init__(self, workers: int | None = None):
        self.workers = workers or len(os.sched_getaffinity(0))

    def start(self, study: Path, key: str) -> Running:
        return _Process(study, key)

    def close(self) -> None:
        pass


def _work(study: str, key: str) -> None:
    """A job, in whatever process; importable by its name, for executors that pickle calls."""
    from assay.rules.scaling import work
    from assay.rules.scaling.config import ScaleConfig
    from assay.runs import Run

    config = ScaleConfig.model_validate(Run.read(study).config)
    work.carry_out(Path(study), config, work.find(config, key))


def _reason(error: BaseException) -> str:
    """The last line of a remote error: its type and what it says."""
    lines = str(error).strip().splitlines()
    return (lines[-1] if lines else type(error).__name__)[:500]


class _Submitted:
    def __init__(self, job: Any):
        self.job = job

    def ended(self) -> bool:
        return self.job.done()

    def failure(self) -> str | None:
        try:
            error = self.job.exception()
        except Exception as caught:  # the job left no result behind: submitit's own errors
            error = caught
        return None if error is None else _reason(error)

    def stop(self) -> None:
        self.job.cancel()


class Slurm:
    """Jobs of a SLURM cluster (or of submitit's local executor), by submitit.

    options: as of ``submitit.AutoExecutor.update_parameters``: timeout_min, slurm_partition, ...
    cluster: "slurm", "local" or None for whichever there is. The folder must be shared.
    """

    def __init__(self, folder: Path, workers: int, cluster: str | None = None, **options: Any):
        try:
            import submitit
        except ImportError:
            raise ValueError("--executor slurm needs pip install 'assay[slurm]'") from None
        self.workers = workers
        self.executor = submitit.AutoExecutor(folder=str(folder), cluster=cluster)
        try:
            self.executor.update_parameters(**options)
        except (NameError, TypeError, ValueError) as error:
            raise ValueError(f"--option: {_reason(error)}") from None

    def start(self, study: Path, key: str) -> Running:
        return _Submitted(self.executor.submit(_work, str(study.resolve()), key))

    def close(self) -> None:
        pass


class _Remote:
    def __init__(self, ray: Any, reference: Any):
        self.ray, self.reference = ray, reference

    def ended(self) -> bool:
        return bool(self.ray.wait([self.reference], timeout=0)[0])

    def failure(self) -> str | None:
        try:
            self.ray.get(self.reference)
        except Exception as error:  # ray raises the job's own error, wrapped, or its own
            return _reason(error)
        return None

    def stop(self) -> None:
        self.ray.cancel(self.reference, force=True)


class Ray:
    """Tasks of a Ray cluster: the one at ``address``, or one made here of this machine.

    The folder must be one that every node sees.
    """

    def __init__(self, workers: int, address: str | None = None, **options: Any):
        try:
            import ray
        except ImportError:
            raise ValueError("--executor ray needs pip install 'assay[ray]'") from None
        self.ray, self.workers = ray, workers
        self.own = not ray.is_initialized()
        if self.own:
            ray.init(address=address, include_dashboard=False, log_to_driver=False)
        self.remote = ray.remote(**{"num_cpus": 1, "max_retries": 0, **options})(_work)

    def start(self, study: Path, key: str) -> Running:
        return _Remote(self.ray, self.remote.remote(str(study.resolve()), key))

    def close(self) -> None:
        if self.own:
            self.ray.shutdown()
