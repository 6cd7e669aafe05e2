"""What was measured, as Markdown: medians, spread, versions, machine.

A section begins with its title, and below that says when, where and of what it was made: each can
be measured anew without the others.
"""

import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.pixels import Contest
from benchmarks.race import REFERENCE, Contender
from tests.parts.archives.real_archives import ROOT

PACKAGES = ("nightlabel", "ray", "torch", "transformers", "pyarrow", "pillow", "simplejpeg")
TITLE = "# Benchmarks"
#: Of these a CPU is told by the first that it has: they decide how fast a network is on it.
INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512f", "avx2")


def stamped(section: str) -> str:
    """The section with its circumstances under its title."""
    title, body = section.split("\n", 1)
    return f"{title}\n\n{_circumstances()}\n{body}"


def with_section(document: str, section: str) -> str:
    """The document with this section in the place of the one of that title, else at its end."""
    title = section.partition("\n")[0]
    sections = re.split(r"\n+(?=## )", document.strip() or TITLE)
    there = [index for index, one in enumerate(sections) if one.partition("\n")[0] == title]
    if there:
        sections[there[0]] = section
    else:
        sections.append(section)
    return "\n\n".join(one.strip() for one in sections) + "\n"


def _circumstances() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"*{datetime.now(UTC):%Y-%m-%d}, {_commit()}; {processor()}, {os.cpu_count()} cores, "
        f"{platform.system()}; Python {platform.python_version()}, {versions}.*"
    )


def _commit() -> str:
    """Which code was measured. A document that was written meanwhile is no change of it."""
    name = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!*.md")
    return f"commit {name}{' and changes' if changed else ''}" if name else "no commit"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=ROOT)
    return done.stdout.strip()


def processor() -> str:
    """The name of this machine's CPU, and what a cloud's name for it hides."""
    lines = Path("/proc/cpuinfo").read_text()
    facts = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", lines, re.MULTILINE))
    if "model name" not in facts:
        return platform.machine()
    flags = facts["flags"].split()
    widest = next((one for one in INSTRUCTIONS if one in flags), "no AVX2")
    return f"{facts['model name']} (family {facts['cpu family']} model {facts['model']}, {widest})"


def contest_table(contests: Iterable[Contest]) -> str:
    """Milliseconds an image, and how many times as fast ours is."""
    rows = []
    for found in contests:
        for way in found.rounds:
            ours = f"{found.ratio('nightlabel', way):.2f}×"
            fast = f"{found.ratio('nightlabel --decode fast', way):.2f}×"
            spread = f"{min(found.rounds[way]):.2f} to {max(found.rounds[way]):.2f}"
            rows.append([found.title, way, f"{found.median(way):.2f}", spread, ours, fast])
    head = ["images", "way", "ms an image, one core", "rounds", "ours is", "`fast` is"]
    return table(head, rows, left=2)


def race_table(contenders: Sequence[Contender], images: int, *, reference: str = REFERENCE) -> str:
    """The first contender is ours. Agreement has a column where answers were compared."""
    compared = any(one.agreement for one in contenders)
    rows = [_race_row(one, contenders[0], images, compared) for one in contenders]
    head = ["", "seconds", "rounds", "img/s", "ours is"]
    head += [f"answers as in the {reference}"] if compared else []
    return table(head, rows, left=1)


def _race_row(one: Contender, ours: Contender, images: int, compared: bool) -> list[str]:
    row = [
        one.name,
        f"{one.median:.1f}",
        f"{min(one.seconds):.1f} to {max(one.seconds):.1f}",
        f"{images / one.median:.1f}",
        f"{ours.ratio(one):.2f}×",
    ]
    return [*row, f"{statistics.median(one.agreement):.2%}"] if compared else row


def account_table(spent: Mapping[str, Mapping[str, float]]) -> str:
    """Contender → kind of process → milliseconds of a core; kinds of the first one first."""
    kinds = dict.fromkeys(kind for account in spent.values() for kind in account)
    rows = [[kind, *(f"{one.get(kind, 0.0):.2f}" for one in spent.values())] for kind in kinds]
    whole = ["**all**", *(f"{sum(one.values()):.2f}" for one in spent.values())]
    return table(["ms of a core an image", *spent], [*rows, whole], left=1)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    lines = ["|".join(head), "|".join(["---"] * left + ["--:"] * (len(head) - left))]
    return "\n".join(f"|{line}|" for line in [*lines, *("|".join(row) for row in rows)])
