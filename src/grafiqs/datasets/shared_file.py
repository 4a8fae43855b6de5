"""A file that several threads and forked processes read at once."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path


class SharedFile(io.RawIOBase):
    """A regular file opened for reading, whose read position is private to each process.

    Every read goes through `pread`, and the position is kept beside the descriptor, so that a forked process has
    its own. No read takes more memory than the file has bytes. It can be pickled: that opens it again.
    """

    _descriptor = -1

    def __init__(self, path: Path) -> None:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for somebody to write
            raise OSError(errno.EINVAL, "not a regular file")
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._descriptor).st_size
        self._place = 0

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on; fewer if the file ends."""
        pieces: list[bytes] = []
        end = min(offset + size, self.size)
        while offset < end:
            piece = os.pread(self._descriptor, end - offset, offset)
            if not piece:  # the file has become shorter
                break
            pieces.append(piece)
            offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes from the read position on; all there are, when it is negative."""
        data = self.read_at(self._place, self.size if size < 0 else size)
        self._place += len(data)
        return data

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the read position of this process. Raises OSError for one before the file, as files do."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise io.UnsupportedOperation(f"there is no byte {start + offset}")
        self._place = start + offset
        return self._place

    def close(self) -> None:
        """Close the file; more than once is not an error."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()

    def __reduce__(self) -> tuple[type[SharedFile], tuple[Path]]:
        return SharedFile, (self._path,)
