"""What stands in the place of a file that was never fetched: pointers of storages, and web pages."""

from __future__ import annotations

_POINTERS = (
    (("version https://git-lfs.github.com/spec/", "version https://hawser."), ("Git LFS", "git lfs pull")),
    (("outs:", "md5:"), ("DVC", "dvc pull")),
)
"""What the pointers of storages begin with, whose they are, and what fetches the file."""

_ANNEX = "/annex/objects/"
"""What the pointers of git-annex, which are paths, lead through."""

_PAGES = ("<!doctype html", "<html", "<head", "<?xml", "<!--")
"""What pages begin with."""

_SIZE = 4096
"""In bytes: pointers are shorter."""


def is_page(data: bytes) -> bool:
    """Whether the bytes of a file begin as a web page, or another text in tags.

    >>> is_page(b"<!DOCTYPE html><title>404</title>")
    True
    """
    return _start(data).startswith(_PAGES)


def pointer(data: bytes) -> str | None:
    """What the bytes of a file are if they are a pointer to it, with what to do; None if they are not.

    >>> pointer(b"version https://git-lfs.github.com/spec/v1")
    'a pointer to a file that Git LFS has not fetched: fetch the file itself (git lfs pull)'
    """
    start = _start(data)
    if len(data) >= _SIZE:
        return None
    if _ANNEX in start.replace("\\", "/"):
        return _pointer("git-annex", "git annex get")
    return next((_pointer(*whose) for beginnings, whose in _POINTERS if start.startswith(beginnings)), None)


def _start(data: bytes) -> str:
    return data[:_SIZE].decode("latin-1").removeprefix("\xef\xbb\xbf").lstrip(" \t\r\n").lower()


def _pointer(whose: str, command: str) -> str:
    return f"a pointer to a file that {whose} has not fetched: fetch the file itself ({command})"
