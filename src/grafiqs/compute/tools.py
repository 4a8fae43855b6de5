"""What options ask for before anything is read: the device, and what finds the faces."""

from __future__ import annotations

import torch

from grafiqs.backbones.weights import check_file
from grafiqs.compute import devices
from grafiqs.faces.face import Faces
from grafiqs.faces.opencv import need_opencv
from grafiqs.options.compute import ComputeOptions


def tools(options: ComputeOptions) -> tuple[torch.device, Faces | None]:
    """The device, and what finds the faces if pictures are to be aligned.

    Raises RequestError when one is not available, or the checkpoint cannot be read.
    """
    device = devices.resolve(options.device, options.gpu)
    devices.check_precision(options.precision, device)
    if options.weights is not None or not options.is_factory:
        check_file(options.weights)
    return device, _faces(options)


def _faces(options: ComputeOptions) -> Faces | None:
    """What finds the faces, if pictures are to be aligned."""
    if options.align is None:
        return None
    need_opencv("--align")
    from grafiqs.faces.detector import Detector  # loads OpenCV

    return Detector(options.align)
