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

UNPACKED_BY = {
    **dict.fromkeys(("gz", "tgz"), "gunzip -k"),
    **dict.fromkeys(("bz2", "tbz2", "tbz"), "bunzip2 -k"),
    **dict.fromkeys(("xz", "txz", "lzma"), "unxz -k"),
    **dict.fromkeys(("zst", "tzst"), "zstd -d"),
    **dict.fromkeys(("lz4",), "lz4 -d"),
    **dict.fromkeys(("z",), "uncompress -k"),
}
"""The command that unpacks a compressed file, by its extension, and leaves it where it is."""

TABLES = frozenset(("xlsx", "xls", "xlsm", "ods", "numbers", "json", "jsonl", "ndjson", "parquet", "feather", "arrow"))
"""The extensions of tables, and of what else may list images, that are not read."""

_NO_IMAGES = TABLES | CONTAINERS | {"txt", "csv", "tsv", "lst", "md", "xml", "yaml", "yml", "html", "pdf", "py", "log"}
"""The extensions of files that nobody takes for images."""

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
        packed = [kind for kind, _ in self.files.most_common() if kind in UNPACKED_BY]
        if packed:
            return f"{what}: unpack them first, by `{UNPACKED_BY[packed[0]]} *.{packed[0]}` where they lie"
        return f"{what}: check --image-path{self._taken()}"

    def _taken(self) -> str:
        """How the most frequent of the files would be taken, if they may be images."""
        common = [kind for kind, _ in self.files.most_common() if kind not in _NO_IMAGES]
        if "" in common:
            return ", or give --image-extension . to take files without extension"
        if not common:
            return ""
        if common[0] in EXTENSIONS:
            return f", or convert them: .{common[0]} is not read here"
        return f", or, if they are images, give --image-extension {shown(common[0])}"

    def folders_line(self) -> str:
        """Which folders were passed over; nothing if none were."""
        if not self.folders:
            return ""
        names = ", ".join(f"{count} {shown(name)}" for name, count in sorted(self.folders.items()))
        return f"passed over, as folders of systems: {names}"


def nested(containers: Iterable[str], unpack: bool = False) -> str:
    """Which of these files to give as the data set, the folder for several .tar; nothing if there are none.

    As the end of a sentence about what they lie in, which is to be unpacked first if it is an archive.
    """
    every = sorted(containers, key=lambda path: (("rec", "tar", "zip", "bin").index(extension(path)), path))
    shards = Counter(path.rpartition("/")[0] for path in every if extension(path) == "tar")
    found: dict[str, int] = {}
    for path in every:
        folder = path.rpartition("/")[0]
        together = extension(path) == "tar" and folder and shards[folder] > 1
        found[folder if together else path] = shards[folder] if together else 1
    if not found:
        return ""
    names = [f"{shown(path)}{f' ({count} .tar)' if count > 1 else ''}" for path, count in found.items()]
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    several = f"{len(names)} data sets, " if len(names) > 1 else ""
    which = "one of them" if several else "that"
    what = f"unpack it, and give {which}" if unpack else f"give {which} as --image-path"
    return f"it holds {several}{', '.join(names[:_LISTED])}{rest}: {what}"


def kinds_of(files: Counter[str]) -> str:
    """Files by extension, the most frequent first: '12 .heic, 3 .txt, 2 without extension'."""
    common = sorted(files.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count} {'.' + shown(kind) if kind else 'without extension'}" for kind, count in common[:_LISTED]]
    rest = sum(count for _, count in common[_LISTED:])
    return ", ".join([*named, *([f"{rest} others"] if rest else [])])
