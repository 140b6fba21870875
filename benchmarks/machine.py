"""The machine that a benchmark ran on, in the words of its page."""

import os
import platform
from pathlib import Path


def machine() -> str:
    """Cores and processor, memory, system and Python."""
    described = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in described if "model name" in line), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {cpu}, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
