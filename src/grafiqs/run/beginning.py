"""Who begins a run that several processes may begin in the same moment: one of them writes the manifest."""

from __future__ import annotations

from collections.abc import Callable

from grafiqs.disk.output import Output
from grafiqs.run.claims import Claim, rest
from grafiqs.run.shard_journals import ShardJournals

_WORK = "beginning"


class Beginning:
    """The beginning of a run in the folder of `output`, whose `journals` hold the claims."""

    def __init__(self, output: Output, journals: ShardJournals) -> None:
        self._output = output
        self._journals = journals
        self._claim: Claim | None = None

    def is_ours(self) -> bool:
        """Whether this process is to write the manifest; otherwise it is written when this returns."""
        claims = self._journals.claims
        while True:
            if self._output.is_used():
                return False
            self._journals.make()  # anew, too: whoever could not begin has removed the folder
            self._claim = claims.take(_WORK)
            if self._claim is None:
                rest(claims.beat)
            elif not self._output.is_used():
                return True
            else:  # the run was begun, and may even be finished
                claims.withdraw(self._claim)
                return False

    def write(self, manifest: Callable[[], None], undo: Callable[[], None]) -> None:
        """Write the manifest; if that cannot be, `undo` what was written, and nothing stays."""
        if self._claim is None:
            raise ValueError("another process writes the manifest, or has written it")
        try:
            manifest()
        except BaseException:
            if not self._output.is_used():
                undo()
                self._journals.claims.withdraw(self._claim)
            raise
        self._journals.claims.finish(self._claim)
