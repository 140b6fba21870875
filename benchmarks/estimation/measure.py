"""What a piece of work cost this process: CPU seconds, wall seconds, and the process's peak memory. Linux only."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter


def cpu_seconds() -> float:
    """User and system seconds of all threads of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_megabytes() -> float:
    """The most memory that this process has held so far, interpreter and libraries included."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


class Costs:
    """Costs by name of the step; printed as one line of JSON, which is what the benchmark reads."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}
        self.start_megabytes = peak_megabytes()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count what happens inside as the step's; imports and set-up stay outside."""
        cpu, wall = cpu_seconds(), perf_counter()
        yield
        self.steps[name] = {"cpu": cpu_seconds() - cpu, "wall": perf_counter() - wall}

    def report(self, **more: float | str) -> None:
        """Print the costs."""
        print(
            json.dumps(
                {
                    "cpu": sum(step["cpu"] for step in self.steps.values()),
                    "wall": sum(step["wall"] for step in self.steps.values()),
                    "megabytes": peak_megabytes(),
                    "start_megabytes": self.start_megabytes,
                    "steps": self.steps,
                    **more,
                }
            )
        )
