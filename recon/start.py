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

#: Share of the best measured pixel's coverage from which a pixel counts as measured; below lies what rounding makes.
SEEN = 1e-5


def first_image(problem: Problem) -> Tensor:
    """Where a method that only refines should begin, its denoiser finding no dark pixel that the data never saw.

    :func:`filled` behind an operator that takes means, as blur and inpainting do: real, and of a constant image
    it makes data, and of these again an image, that are nowhere negative. :func:`fitted` behind any other.
    """
    fit = problem.back_projection
    if fit.is_complex() or not isinstance(problem.physics, LinearPhysics):
        return fitted(problem)
    seen = problem.physics.A(torch.ones_like(fit))
    takes_means = (
        bool(seen.numel())
        and not seen.is_complex()
        and all(float(t.min()) >= -SEEN * float(t.max()) for t in (seen, problem.physics.A_adjoint(seen)))
    )
    return filled(problem.physics, problem.y) if takes_means else fitted(problem)


def fitted(problem: Problem) -> Tensor:
    """``A^H y``, scaled for each image so that it fits the data best."""
    return matched(problem.physics, problem.back_projection, problem.y)


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
    seen = coverage > SEEN * coverage.amax()
    if not seen.flatten(2).any(2).all():
        raise ValueError("physics: found an image without a measured pixel, expected at least one to fill from")
    known = image / torch.where(seen, coverage, 1)
    pixels = torch.stack([_fill(*pair) for pair in zip(known.flatten(0, 1), seen.flatten(0, 1), strict=True)])
    return pixels.reshape(image.shape)


def _fill(x: Tensor, seen: Tensor) -> Tensor:
    """One spatial array with every pixel taken from the nearest seen one."""
    nearest = distance_transform_edt(~seen.cpu().numpy(), return_distances=False, return_indices=True)
    return x[tuple(torch.as_tensor(nearest, device=x.device).long())]
