r"""An image at the scale at which it fits the data best.

.. math:: c\, x, \qquad c = \arg\min_c \|c A x - y\|^2 = \frac{\operatorname{Re}\langle A x, y\rangle}{\|A x\|^2} .
"""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from .norm import above_zero, per_image


def matched(physics: LinearPhysics, image: Tensor, y: Tensor) -> Tensor:
    """Images ``(B, C, *spatial)``, each scaled to its data ``(B, ...)``; 0 where ``A x`` is."""
    data = physics.A(image).flatten(1)
    scale = torch.linalg.vecdot(data, y.flatten(1)).real / above_zero(data.abs().square().sum(1))
    return per_image(scale, image) * image
