r"""Images to start from.

.. math:: x_0 = c\, A^H y, \quad c = \langle A A^H y, y\rangle / \|A A^H y\|^2 \qquad\text{(fitted)}, \qquad
          (x_0)_v = (A^H y)_v / (A^H A 1)_v \qquad\text{(filled)} .
"""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ..operators import matched
from .problem import Problem


def fitted(problem: Problem) -> Tensor:
    """``A^H y``, scaled for each image so that it fits the data best."""
    return matched(problem.physics, problem.back_projection, problem.y)


@torch.no_grad()
def filled(physics: LinearPhysics, y: Tensor) -> Tensor:
    """Measured pixels from the data, the others from the nearest measured one; for inpainting.

    Without it an algorithm whose first steps trust the data little denoises holes as if they were dark.

    :param physics: an operator of nonnegative weights, such as :class:`deepinv.physics.Inpainting`, whose
        column sums of ``A^H A`` say how well each pixel is measured.
    :param y: data ``(B, ...)``.
    :return: image ``(B, C, *spatial)``.
    :raises ValueError: if an image has no measured pixel at all.
    """
    image = physics.A_adjoint(y)
    coverage = physics.A_adjoint_A(torch.ones_like(image)).real
    seen = coverage > 1e-6 * coverage.amax()
    if not seen.flatten(2).any(2).all():
        raise ValueError("physics: found an image without a measured pixel, expected at least one to fill from")
    known = image / torch.where(seen, coverage, 1)
    pixels = torch.stack([_fill(*pair) for pair in zip(known.flatten(0, 1), seen.flatten(0, 1), strict=True)])
    return pixels.reshape(image.shape)


def _fill(x: Tensor, seen: Tensor) -> Tensor:
    """One spatial array with every pixel taken from the nearest seen one."""
    nearest = distance_transform_edt(~seen.cpu().numpy(), return_distances=False, return_indices=True)
    return x[tuple(torch.as_tensor(nearest, device=x.device).long())]
