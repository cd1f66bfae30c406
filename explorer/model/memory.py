"""How much memory may be taken, asked before anything large is allocated."""

import re
from contextlib import suppress
from pathlib import Path

import psutil

from explorer.model.preflight import ModelRejected

SHARE = 0.8  # of the free memory that one piece of work may take
CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def check_memory(need_bytes: int, have_bytes: int | None = None) -> None:
    """Refuse what would take more than 80 % of the free memory, before anything is allocated."""
    have = free_bytes() if have_bytes is None else have_bytes
    if need_bytes > SHARE * have:
        need, free, share = f"{need_bytes / 1e9:.1f} GB", f"{have / 1e9:.1f} GB", f"{SHARE:.0%}"
        raise ModelRejected("memory", f"This needs {need} of memory, but only {share} of the free {free} may be used.")


def free_bytes() -> int:
    """Memory that can be taken: what the system has available, or less where a container sets a limit."""
    free = int(psutil.virtual_memory().available)
    lines = OWN_CGROUP.read_text().splitlines() if OWN_CGROUP.is_file() else []
    own = CGROUPS / next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), "")
    for group in (own, *own.parents):
        with suppress(OSError, ValueError):  # no such group here, or its limit is the word "max"
            limit, used = (int((group / f"memory.{part}").read_text()) for part in ("max", "current"))
            # Cached files count as used but give way; a fresh download would look like full memory.
            cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
            free = min(free, limit - used + (int(cached[1]) if cached else 0))
    return max(free, 0)
