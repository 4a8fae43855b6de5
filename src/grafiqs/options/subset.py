"""The options that say which subset of the data set."""

from __future__ import annotations

from dataclasses import dataclass

from grafiqs.options.dataset import DataSetOptions
from grafiqs.options.field import SEED, option


@dataclass(frozen=True, kw_only=True)
class SubsetOptions(DataSetOptions):
    """The subset to choose. Raises RequestError when the values do not fit together."""

    # fmt: off
    num_identities: int | None = option(
        "subset", "take at most N identities: the first N by name, or N drawn (default: all)",
        default=None, metavar="N", minimum=1)
    samples_per_identity: int | None = option(
        "subset", "draw M samples of each identity (default: all); identities with fewer are left out and listed",
        default=None, metavar="M", minimum=1)
    random_seed: int = option(
        "subset", "seed of the sample draw and of the random, NumPy and PyTorch generators",
        default=42, **SEED)
    identity_selection_seed: int | None = option(
        "subset", "seed of the identity draw (default: the value of --random-seed)",
        default=None, **SEED)
    random_identity_selection: bool = option(
        "subset", "draw the N identities at random instead of taking the first N", default=False)
    skip_identities: int = option(
        "subset", "pass over the first K identities, in the order in which they are taken or drawn: a subset that "
        "takes N and one that passes over N share none",
        default=0, metavar="K", minimum=0, later=True)
    allow_insufficient_samples: bool = option(
        "subset", "keep identities with fewer than M samples, with what they have", default=False)
    strict: bool = option(
        "subset", "choose only among identities with at least M samples, and stop unless there are exactly N x M",
        default=False, requires=("num_identities", "samples_per_identity"), which="the numbers it holds you to",
        excludes={"allow_insufficient_samples": None})
    # fmt: on

    @property
    def identity_seed(self) -> int:
        """The seed of the identity draw: its own if one is given, otherwise the random seed."""
        return self.random_seed if self.identity_selection_seed is None else self.identity_selection_seed
