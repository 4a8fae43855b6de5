"""What a data set holds beside its samples: counted, so that nothing is left out without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from grafiqs.disk.names import EXTENSIONS, extension, shown

_SMALL = frozenset(("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r"))
"""Files that systems and viewers put into any folder, in lower case."""

_WANTED = (EXTENSIONS - {"npy"}) | {"jph", "jxr", "svg", "psd", "exr", "hdr", "tar", "zip", "rec"}
"""The extensions whose files somebody may well have meant: pictures of all kinds, and what holds pictures."""

CONTAINERS = frozenset(("rec", "bin", "tar", "zip"))
"""The extensions of files that are data sets of their own."""

_LISTED = 8
"""Kinds that are named; the rest are counted."""


@dataclass
class LeftOut:
    """Files that are no samples, by extension, and folders of systems, by name. Hidden ones do not count."""

    files: Counter[str] = field(default_factory=Counter)
    folders: Counter[str] = field(default_factory=Counter)

    def add(self, names: Iterable[str]) -> None:
        """Count files by their names, or paths."""
        for name in names:
            last = name.rpartition("/")[2]
            if last[0] != "." and last.lower() not in _SMALL:
                self.files[extension(last)] += 1

    @property
    def is_wanted(self) -> bool:
        """Whether there are pictures among the files, or what may hold some."""
        return not _WANTED.isdisjoint(self.files)

    def files_line(self) -> str:
        """How many files were left out, by extension; nothing if none were."""
        if not self.files:
            return ""
        return f"left out: {kinds_of(self.files)} (--image-extension takes what it names)"

    def instead(self) -> str:
        """What there is instead of images, as the end of a sentence, with what to do."""
        what = f", but {kinds_of(self.files)}" if self.files else ""
        more = ", or give --image-extension . to take files without extension" if "" in self.files else ""
        return f"{what}: check --image-path{more}"

    def folders_line(self) -> str:
        """Which folders were passed over; nothing if none were."""
        if not self.folders:
            return ""
        names = ", ".join(f"{count} {shown(name)}" for name, count in sorted(self.folders.items()))
        return f"passed over, as folders of systems: {names}"


def nested(containers: Iterable[str]) -> str:
    """Which of these files to give as the data set, or the folder of several .tar; nothing if there are none."""
    every = sorted(containers, key=lambda path: (("rec", "tar", "zip", "bin").index(extension(path)), path))
    if not every:
        return ""
    first = every[0]
    folder, slash, _ = first.rpartition("/")
    if extension(first) == "tar" and slash and sum(path.rpartition("/")[0] == folder for path in every) > 1:
        first = folder
    rest = f" (or another of the {len(every)} data sets in it)" if len(every) > 1 and first != folder else ""
    return f"{shown(first)}{rest}"


def kinds_of(files: Counter[str]) -> str:
    """Files by extension, the most frequent first: '12 .heic, 3 .txt, 2 without extension'."""
    common = sorted(files.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count} {'.' + shown(kind) if kind else 'without extension'}" for kind, count in common[:_LISTED]]
    rest = sum(count for _, count in common[_LISTED:])
    return ", ".join([*named, *([f"{rest} others"] if rest else [])])
