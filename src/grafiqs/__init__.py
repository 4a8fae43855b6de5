"""Face image quality by gradient magnitudes (GraFIQs), for seeded subsets of whole data sets.

Importing the package loads neither torch nor NumPy and changes no global state.
"""

from __future__ import annotations

TYPE_CHECKING = False  # that of `typing`, which takes as long to load as all that a command needs to begin
if TYPE_CHECKING:
    from typing import Any

    from grafiqs.align import align_faces as align_faces
    from grafiqs.backbones.checkpoint import load_checkpoint
    from grafiqs.dataset import create_dataset_with_subset
    from grafiqs.demo.backbone import demo_backbone
    from grafiqs.demo.draw import draw_faces as draw_faces
    from grafiqs.errors import RequestError, StoppedError
    from grafiqs.extract import extract_gradients
    from grafiqs.gradients import gradient_scores, image_gradients
    from grafiqs.inspect import inspect_dataset
    from grafiqs.options.align import AlignOptions
    from grafiqs.options.draw import DrawOptions
    from grafiqs.options.extract import Options
    from grafiqs.results import open_run
    from grafiqs.select import open_dataset, select_subset
    from grafiqs.verify import verify_run

__version__ = "0.1.0"

__all__ = [
    "AlignOptions",
    "DrawOptions",
    "Options",
    "RequestError",
    "StoppedError",
    "create_dataset_with_subset",
    "demo_backbone",
    "extract_gradients",
    "gradient_scores",
    "image_gradients",
    "inspect_dataset",
    "load_checkpoint",
    "open_dataset",
    "open_run",
    "select_subset",
    "verify_run",
]

_MODULES = (
    *("errors", "options.extract", "options.align", "options.draw", "select", "results", "demo.backbone", "inspect"),
    *("gradients", "dataset", "backbones.checkpoint", "verify", "extract"),
)
"""Where the public names live, lightest first: those that need torch come last."""

_WITH_OPENCV = {"draw_faces": "grafiqs.demo.draw", "align_faces": "grafiqs.align"}
"""Where those live that need OpenCV; they are not in __all__, so that the rest can be had without it."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _WITH_OPENCV:
        try:
            return getattr(import_module(_WITH_OPENCV[name]), name)
        except ImportError as error:
            raise ImportError(f"{name} needs OpenCV ({error}): pip install opencv-python-headless") from error
    if name in __all__:
        for module in _MODULES:
            loaded = import_module(f"grafiqs.{module}")
            if hasattr(loaded, name):
                return getattr(loaded, name)
    raise AttributeError(f"module 'grafiqs' has no attribute {name!r}")
