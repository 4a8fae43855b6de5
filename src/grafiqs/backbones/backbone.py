"""What every backbone is, whatever its architecture."""

from __future__ import annotations

from torch import nn


class Backbone(nn.Module):
    """A face recognition network that says which of its modules give block1 to block4.

    It maps preprocessed images (B, 3, H, W) to embeddings (B, D).
    """

    blocks: tuple[str, ...]
    """The names of four modules, in the order in which they run; the output of each is a layer."""
