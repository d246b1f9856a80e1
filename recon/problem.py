r"""The problem every solver here works on.

.. math:: \min_x\; F(x) = \tfrac12 \|A x - y\|^2 + \sum_i \lambda_i R_i(x) .
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Self

import torch
from deepinv.optim import Prior as AnyPrior
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..operators import Linearised, Operator, squared_norm
from ..operators.norm import TINY, norms
from ..operators.norm import per_image as per_image
from ..operators.real_parts import real_parts
from ..priors import Analysis


class Problem:
    """Data, operator and priors, with what depends on them alone computed once.

    :param y: data ``(B, ...)``.
    :param physics: any deepinv or resolvent linear operator; never changed. Samplers take differentiable ones that are
        not linear too, if they have an ``A_adjoint`` from which to know the shape of images.
    :param priors: any deepinv or resolvent priors; never changed.
    """

    def __init__(self, y: Tensor, physics: LinearPhysics, priors: Sequence[AnyPrior] = ()):
        self.y, self.physics, self.priors = y, physics, tuple(priors)

    @cached_property
    def back_projection(self) -> Tensor:
        """``A^H y``, an image ``(B, C, *spatial)``."""
        return self.physics.A_adjoint(self.y)

    @cached_property
    def lipschitz(self) -> float:
        """``||A||^2`` to one percent, of the data term's gradient the Lipschitz constant; 1 for A = 0."""
        return squared_norm(self.physics, self.back_projection, rtol=1e-2) or 1.0

    @property
    def noise_std(self) -> Tensor | None:
        """The noise level that the operator's noise model states, ``(1,)`` or of each image; shot noise has none."""
        model = getattr(self.physics, "noise_model", None)
        sigma = None if hasattr(model, "gain") else getattr(model, "sigma", None)
        return None if sigma is None or not bool((levels := torch.as_tensor(sigma).flatten()).any()) else levels

    @cached_property
    def samples(self) -> Tensor:
        """How many data are measured, per image ``(B,)``: those that are not zero for every image."""
        return (measured(self.physics, self.back_projection) != 0).flatten(1).sum(1)

    @cached_property
    def estimated_noise(self) -> Tensor | None:
        """The noise level ``(B,)`` that the operator finds in the data, if it can."""
        return self.physics.estimate_noise(self.y) if isinstance(self.physics, Operator) else None

    def noise_level(self, given: float | None = None) -> Tensor:
        """``given``, or else the operator's own :attr:`noise_std`, or else :attr:`estimated_noise`; ``(B,)`` float64.

        An image that has none, 0, takes the root mean square of all.

        :raises ValueError: if there is none of any image, or as many as there are neither images nor one.
        """
        if given is not None:
            return torch.full((len(self.y),), given, dtype=torch.float64)
        for sigma in (self.noise_std, self.estimated_noise):
            if sigma is not None and bool((sigma > 0).any()):
                if len(sigma) not in (1, len(self.y)):
                    found = f"noise_std: found {len(sigma)} levels for {len(self.y)} images"
                    raise ValueError(f"{found}, expected one, or one for each")
                each = sigma.detach().to("cpu", torch.float64).expand(len(self.y))
                return torch.where(each > 0, each, each.square().mean().sqrt())
        raise ValueError(
            "noise_std: found none stated and none above 0 in the data, expected one; `import --noise_std` or "
            "`save_measurement(noise_std=…)` state it"
        )

    @cached_property
    def transform_norms(self) -> tuple[float, ...]:
        """``||K_i||^2`` of the priors on a transform, to one percent; 1 of those on the image itself."""
        return tuple(
            squared_norm(p.transform, self.back_projection, rtol=1e-2) if isinstance(p, Analysis) else 1.0
            for p in self.priors
        )

    def linearised(self, x: Tensor) -> Self:
        """The problem with the operator's tangent at ``x`` in its place, and data to match; a linear one is its own."""
        if isinstance(self.physics, LinearPhysics):
            return self
        tangent = Linearised(self.physics, x)
        return type(self)(self.y - tangent.value + tangent.A(x), tangent, self.priors)

    def gradient(self, x: Tensor) -> Tensor:
        """``A^H (A x - y)``."""
        return self.physics.A_adjoint_A(x) - self.back_projection

    def residual(self, x: Tensor) -> Tensor:
        """``||A x - y||`` per image, shape ``(B,)``."""
        return norms(self.physics.A(x) - self.y)

    def relative_residual(self, x: Tensor) -> Tensor:
        """``||A x - y|| / ||y||`` per image, shape ``(B,)``."""
        return self.residual(x) / norms(self.y).clamp_min(TINY)

    def objective(self, x: Tensor) -> Tensor:
        """F(x) per image, shape ``(B,)``.

        :raises NotImplementedError: where a prior, such as a denoiser, has no value.
        """
        value = self.residual(x).square() / 2
        for prior in self.priors:
            if not prior.explicit_prior:
                raise NotImplementedError(f"{type(prior).__name__} has no value, so this problem has no objective")
            value = value + prior.fn(x).reshape(-1)
        return value


@torch.no_grad()
def measured(physics: LinearPhysics, like: Tensor) -> Tensor:
    """1 where the operator measures anything, 0 where its data are zero for every image; ``(B, *data_shape)``, real.

    :param like: images ``(B, C, *spatial)``; their values are not used.
    """
    generator = torch.Generator().manual_seed(0)
    data = physics.A(torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device))
    return (data != 0).to(data.real.dtype)


def one_or_each(values: Tensor, x: Tensor) -> float | Tensor:
    """Numbers ``(B,)`` to multiply ``x``: one, where it is that of all; else ``(B, 1, ...)`` as precise as ``x``."""
    if values.ndim and not values.requires_grad and bool((values == values[0]).all()):
        return float(values[0])
    return per_image(values.to(x.real), x) if values.ndim else values


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Real part of the inner product per image, shape ``(B,)``."""
    a, b = real_parts(a), real_parts(b)
    order = (0, *sorted(range(1, a.ndim), key=a.stride, reverse=True))  # as a lies in memory, so that nothing is copied
    return torch.linalg.vecdot(a.permute(order).flatten(1), b.permute(order).flatten(1))


def plus(a: Tensor, factor: float | Tensor, b: Tensor) -> Tensor:
    """``a + factor b``: one pass for a number, with its derivative for a tensor."""
    return a + factor * b if isinstance(factor, Tensor) else torch.add(a, b, alpha=factor)
