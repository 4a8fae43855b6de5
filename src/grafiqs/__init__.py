"""Face image quality by gradient magnitudes (GraFIQs), for seeded subsets of whole data sets.

Importing the package loads neither torch nor NumPy and changes no global state.
"""

from __future__ import annotations

TYPE_CHECKING = False  # that of `typing`, which takes as long to load as all that a command needs to begin
if TYPE_CHECKING:
    from typing import Any

    from grafiqs.align import align_faces as align_faces
    from grafiqs.backbones.checkpoint import load_checkpoint as load_checkpoint
    from grafiqs.demo.draw import draw_faces as draw_faces
    from grafiqs.demo.embedded import demo_backbone as demo_backbone
    from grafiqs.errors import RequestError as RequestError
    from grafiqs.errors import StoppedError as StoppedError
    from grafiqs.errors import UnreadableSampleError as UnreadableSampleError
    from grafiqs.extract import extract_gradients as extract_gradients
    from grafiqs.gradients import gradient_scores as gradient_scores
    from grafiqs.gradients import image_gradients as image_gradients
    from grafiqs.gradients import image_losses as image_losses
    from grafiqs.guide import create_dataset_with_subset as create_dataset_with_subset
    from grafiqs.inspect import inspect_dataset as inspect_dataset
    from grafiqs.model.in_hand import Model as Model
    from grafiqs.model.in_hand import load as load
    from grafiqs.model.result import Result as Result
    from grafiqs.options.align import AlignOptions as AlignOptions
    from grafiqs.options.draw import DrawOptions as DrawOptions
    from grafiqs.options.extract import Options as Options
    from grafiqs.options.sweep import SweepOptions as SweepOptions
    from grafiqs.run.results import open_run as open_run
    from grafiqs.select import open_dataset as open_dataset
    from grafiqs.select import select_subset as select_subset
    from grafiqs.sweep import extract_subsets as extract_subsets
    from grafiqs.verify import verify_run as verify_run

__version__ = "0.1.0"

_HOMES = {
    "AlignOptions": "options.align",
    "DrawOptions": "options.draw",
    "Model": "model.in_hand",
    "Options": "options.extract",
    "RequestError": "errors",
    "Result": "model.result",
    "StoppedError": "errors",
    "SweepOptions": "options.sweep",
    "UnreadableSampleError": "errors",
    "align_faces": "align",
    "create_dataset_with_subset": "guide",
    "demo_backbone": "demo.embedded",
    "draw_faces": "demo.draw",
    "extract_gradients": "extract",
    "extract_subsets": "sweep",
    "gradient_scores": "gradients",
    "image_gradients": "gradients",
    "image_losses": "gradients",
    "inspect_dataset": "inspect",
    "load": "model.in_hand",
    "load_checkpoint": "backbones.checkpoint",
    "open_dataset": "select",
    "open_run": "run.results",
    "select_subset": "select",
    "verify_run": "verify",
}
"""The public names, and the module of each, which is imported when it is asked for."""

_NEED_OPENCV = ("align_faces", "draw_faces")
"""Those that are not in __all__, so that the rest is available without OpenCV."""

__all__ = [name for name in _HOMES if name not in _NEED_OPENCV]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'grafiqs' has no attribute {name!r}")
    try:
        return getattr(import_module(f"grafiqs.{_HOMES[name]}"), name)
    except ImportError as error:
        if name not in _NEED_OPENCV:
            raise
        raise ImportError(f"{name} needs OpenCV ({error}): pip install opencv-python-headless") from error
