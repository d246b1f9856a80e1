r"""Linear forward operators on native complex images.

.. math:: y = A x, \qquad \langle A x, y\rangle = \langle x, A^H y\rangle, \qquad
          \partial\,(A x) = A\,\partial x .

An operator states its two maps once; shapes, autograd (the derivative of a linear map is the map
itself, its vector-Jacobian product the adjoint), the deepinv interface and the life of what is computed
from the geometry follow from them here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Self, TypeVar

import torch
from deepinv.physics import GaussianNoise, LinearPhysics, Physics, ZeroNoise
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from .substitute import substitute

Map = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    """In place of deepinv's lambdas, which cannot be pickled."""
    return x


class _LinearMap(torch.autograd.Function):
    """Differentiate ``apply`` by ``adjoint``: exact, to any order, forward and backward."""

    @staticmethod
    def forward(x: Tensor, apply: Map, adjoint: Map) -> Tensor:
        return apply(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Map, Map], output: Tensor) -> None:
        # not ctx.apply: the engine calls a node's backward pass by that name
        x, ctx.forward_map, ctx.adjoint_map = inputs
        ctx.real = not x.is_complex()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        gradient = _LinearMap.apply(grads[0], ctx.adjoint_map, ctx.forward_map)
        return gradient.real if ctx.real else gradient, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return _LinearMap.apply(tangents[0], ctx.forward_map, ctx.adjoint_map)


def _has_derivative(x: Tensor) -> bool:
    """Whether a derivative goes through ``x``, backward or forward; without one torch's wrapper is 0.2 ms lost."""
    return (x.requires_grad and torch.is_grad_enabled()) or unpack_dual(x).tangent is not None


def linear(x: Tensor, apply: Map, adjoint: Map) -> Tensor:
    """``apply(x)`` of a linear map, with the derivative that follows from its adjoint."""
    return _LinearMap.apply(x, apply, adjoint) if _has_derivative(x) else apply(x)


class Operator(LinearPhysics, ABC):
    """Base class of resolvent's operators; a :class:`deepinv.physics.LinearPhysics`.

    A subclass gives :meth:`_forward_map`, :meth:`_adjoint_map` and :meth:`geometry`. Its buffers are the
    geometry: they move between devices but keep their precision, whatever dtype is asked for; a calculation
    takes the precision of its image. What follows from them goes through :meth:`_derived`.

    :param image_shape: shape ``(C, *spatial)`` of one image, without the batch axis.
    :param data_shape: shape of one image's data, without the batch axis.
    """

    units: ClassVar[Mapping[str, str]] = {}
    #: Whether the scale of an image means nothing, so that two are compared each at its own peak.
    relative_scale: bool = False
    #: What of the geometry A has no derivative in, and cannot be learned.
    without_derivative: ClassVar[frozenset[str]] = frozenset()
    #: Whether data are complex, so that real ones have lost a part.
    complex_data: bool = False

    def __init__(self, image_shape: tuple[int, ...], data_shape: tuple[int, ...], **kwargs: Any):
        self._tables: dict[str, tuple[Hashable, list[_Version], Any]] = {}
        noise_model = kwargs.pop("noise_model", None) or ZeroNoise(identity)
        super().__init__(noise_model=noise_model, **({"A": identity, "sensor_model": identity} | kwargs))
        self.img_size = self.image_shape = tuple(int(n) for n in image_shape)
        self.data_shape = tuple(int(n) for n in data_shape)

    @abstractmethod
    def _forward_map(self, x: Tensor) -> Tensor:
        """``A x`` for ``x`` of shape ``(B, *image_shape)``."""

    @abstractmethod
    def _adjoint_map(self, y: Tensor) -> Tensor:
        """``A^H y`` for ``y`` of shape ``(B, *data_shape)``."""

    def _normal_map(self, x: Tensor) -> Tensor:
        """``A^H A x``; overridden where it costs less than one after the other."""
        return self._adjoint_map(self._forward_map(x))

    @abstractmethod
    def geometry(self) -> dict[str, Any]:
        """The constructor's arguments, from which a file rebuilds this operator."""

    def one_per_image(self) -> tuple[str, ...]:
        """Names of what of the geometry has one entry for each image of a batch; those are of its length."""
        return ()

    def of_images(self, which: Tensor, batch: int) -> Self:
        """The operator of the images ``which`` of a ``batch``, numbers ``(n,)``; itself if all images share one.

        :raises ValueError: if what is one per image is that of another batch.
        """
        twin = with_levels_of(self, which, batch)
        if twin is not self:
            twin._tables = dict(self._tables)
        for name in self.one_per_image():
            own = getattr(self, name)
            if len(own) != batch:
                raise ValueError(f"{name}: found {len(own)} for {batch} images, expected one for each")
            twin = substitute(twin, name, own[which.to(own.device)])
        return twin

    @property
    def innermost(self) -> Operator:
        """The operator whose grid and default method this one shares: itself, unless it wraps another."""
        return self

    @property
    def window(self) -> tuple[slice, ...]:
        """The part of each spatial axis that was measured from within; all, unless images reach beyond the data."""
        return tuple(slice(0, n) for n in self.image_shape[1:])

    def frame(self, x: Tensor) -> Tensor:
        """The part of images ``(B, *image_shape)`` inside the :attr:`window`."""
        self._check("image", x, self.image_shape)
        return x[(..., *self.window)]

    def groups(self) -> dict[str, Tensor]:
        """What can be measured by itself: by name, the group of each datum, integers ``data_shape``, below 0 for none.

        The first is the one that a scan would choose.
        """
        return {"data": torch.arange(math.prod(self.data_shape)).reshape(self.data_shape)}

    def A(self, x: Tensor, **parameters: Any) -> Tensor:
        """Apply ``A`` to images ``(B, *image_shape)``; data ``(B, *data_shape)``.

        :param parameters: tensors of the geometry, by name, to have from now on, as deepinv's operators take them.
        """
        self.update_parameters(**parameters)
        self._check("image", x, self.image_shape)
        return self._differentiable(x, self._forward_map, self._adjoint_map)

    def A_adjoint(self, y: Tensor, **parameters: Any) -> Tensor:
        """Apply ``A^H`` to data ``(B, *data_shape)``; images ``(B, *image_shape)``; ``parameters`` as of :meth:`A`."""
        self.update_parameters(**parameters)
        self._check("data", y, self.data_shape)
        return self._differentiable(y, self._adjoint_map, self._forward_map)

    def A_adjoint_A(self, x: Tensor, **parameters: Any) -> Tensor:
        """Apply ``A^H A`` to images ``(B, *image_shape)``; ``parameters`` as of :meth:`A`."""
        self.update_parameters(**parameters)
        self._check("image", x, self.image_shape)
        return self._differentiable(x, self._normal_map, self._normal_map)

    def _differentiable(self, x: Tensor, apply: Map, adjoint: Map) -> Tensor:
        """``apply(x)``; where the geometry itself is to be learned, step by step as torch records it."""
        return apply(x) if self._learned() else linear(x, apply, adjoint)

    def prox_l2_with_data(self, z: Tensor, y: Tensor, gamma: float | Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`prox_l2` and its data ``A x``; overridden where the step knows them."""
        x = self.prox_l2(z, y, gamma)
        return x, self.A(x)

    @property
    def x_update(self) -> str:
        """How ``(kappa I + A^H A)^-1`` is applied, in words."""
        return "exact" if has_exact_prox(self) else "warm-started CG"

    def squared_norm(self) -> float | None:
        """``||A||^2``, if the operator knows it."""
        return None

    def column_norms(self, weights: Tensor | None = None) -> Tensor | None:
        """Euclidean norm of each column of A, of data times ``weights``, if the operator knows them.

        Real ``(*image_shape)``, or ``(B, *image_shape)`` of an operator that differs from image to image.

        :param weights: real, broadcasts against ``(*data_shape)``; 1 if None.
        """
        return None

    def _squares(self, weights: Tensor | None) -> Tensor:
        """Those of the weights of :meth:`column_norms`, ``(*data_shape)`` float64."""
        device = next((b.device for b in self.buffers()), None)
        weights = torch.ones(()) if weights is None else weights
        return weights.to(device, torch.float64).square().expand(self.data_shape)

    def estimate_noise(self, y: Tensor) -> Tensor | None:
        """Standard deviation of the noise in data that state none, per image ``(B,)``, if the operator can tell.

        Data that are not known are NaN.
        """
        return None

    def back_project(self, y: Tensor) -> Tensor:
        """The image that the data show at once: ``A^H y``, or that with what evens out how data lie."""
        return self.A_adjoint(y)

    def precondition(self, x: Tensor, gamma: float | Tensor) -> Tensor:
        """About ``(I + gamma A^H A)^-1 x``, Hermitian positive definite; ``x`` itself where nothing better is known.

        :param gamma: a number, or one per image ``(B, 1, ...)``.
        """
        return x

    def _derived(self, name: str, key: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make`` computes from the geometry for ``key``: the latest of each name is kept.

        Computed anew where a tensor of the geometry is another one, was changed in place (not through its ``data``
        or in inference mode, where torch keeps no count), or is learned; never copied or pickled.
        """
        if self._learned():
            return make()
        tensors = (t for m in self.modules() for t in _values(m))
        made_from = [_Version(t) for t in tensors if isinstance(t, Tensor)]
        if name not in self._tables or self._tables[name][:2] != (key, made_from):
            with torch.inference_mode(False), torch.no_grad():  # what is kept may serve a derivative later
                self._tables[name] = key, made_from, make()
        return self._tables[name][2]

    def _learned(self) -> bool:
        """Whether a derivative is to go through the geometry: through any tensor of an operator.

        :raises ValueError: if there is none.
        """
        if not torch.is_grad_enabled():
            return False
        own = [m for m in self.modules() if isinstance(m, Operator)]
        if not any(_is_learned(t) for m in own for t in _values(m)):
            return False
        for m in own:
            for name in m.without_derivative:
                if _is_learned(getattr(m, name, None)):
                    kind = type(m).__name__
                    raise ValueError(f"{name}: found to be learned, expected fixed: {kind} has no derivative in it")
        return True

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        before = list(self.buffers())
        geometry = {name: b for name, b in self._buffers.items() if b is not None}
        super()._apply(lambda t: _moved_like(fn, t) if t.is_complex() else fn(t), recurse)
        self._buffers.update({name: _moved_like(fn, b) for name, b in geometry.items()})
        if not before or any(new is not old for new, old in zip(self.buffers(), before, strict=True)):
            self._tables.clear()
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        """What was computed from another number is forgotten."""
        before = self.__dict__.get(name)
        super().__setattr__(name, value)
        number = isinstance(value, int | float | complex) and name != "training"
        if number and (type(before) is not type(value) or before != value):
            self.__dict__.get("_tables", {}).clear()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tables": {}}

    def update_parameters(self, **parameters: Any) -> None:
        """Have other tensors of the geometry, by name, from now on; others are left out, as deepinv does.

        :raises ValueError: for one of another shape.
        """
        for name, value in parameters.items():
            own = getattr(self, name, None)
            if isinstance(own, Tensor) and isinstance(value, Tensor) and own.shape != value.shape:
                raise ValueError(f"{name}: found shape {tuple(value.shape)}, expected {tuple(own.shape)}")
        super().update_parameters(**parameters)

    def _check(self, what: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        if not isinstance(tensor, Tensor):
            found = f"{type(self).__name__}: {what} is of type {type(tensor).__name__}"
            raise TypeError(f"{found}, expected a tensor; torch.as_tensor makes one of arrays")
        if tensor.shape[1:] != shape:
            found, expected = tuple(tensor.shape), f"(batch, {', '.join(map(str, shape))})"
            raise ValueError(f"{type(self).__name__}: {what} has shape {found}, expected {expected}")


def _values(module: torch.nn.Module) -> tuple[Any, ...]:
    """Its parameters, buffers and plain attributes."""
    return (*module._parameters.values(), *module._buffers.values(), *module.__dict__.values())


P = TypeVar("P", bound=Physics)


def of_images(physics: P, which: Tensor, batch: int) -> P:
    """:meth:`Operator.of_images` of any physics; of others than ours only noise levels may be one per image."""
    return physics.of_images(which, batch) if isinstance(physics, Operator) else with_levels_of(physics, which, batch)


def with_levels_of(physics: P, which: Tensor, batch: int) -> P:
    """The physics with the noise levels of the images ``which``; itself if all images share one.

    :raises ValueError: for levels of another batch.
    """
    model = getattr(physics, "noise_model", None)
    levels = model.sigma.flatten() if isinstance(model, GaussianNoise) else torch.zeros(1)
    if len(levels) == 1:
        return physics
    if len(levels) != batch:
        raise ValueError(f"noise_std: found {len(levels)} levels for {batch} images, expected one, or one for each")
    return substitute(physics, "noise_model", GaussianNoise(levels[which.to(levels.device)]))


def has_exact_prox(physics: LinearPhysics) -> bool:
    """Whether ``physics.prox_l2`` is in closed form, of any operator: as it states, or where it has one of its own."""
    stated = getattr(physics, "has_exact_prox", None)
    return type(physics).prox_l2 is not LinearPhysics.prox_l2 if stated is None else bool(stated)


def _is_learned(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


class _Version:
    """A tensor as it is now: equal to another one only of the same tensor, unchanged since as far as torch counts."""

    def __init__(self, tensor: Tensor):
        self.tensor, self.count = tensor, 0 if tensor.is_inference() else tensor._version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Version) and self.tensor is other.tensor and self.count == other.count


def along(shape: tuple[int, ...], axis: int, labels: Tensor | None = None) -> Tensor:
    """Groups of data of a ``shape`` by their place along one axis, or by the ``labels`` of these places."""
    places = torch.arange(shape[axis]) if labels is None else labels.cpu()
    return places.reshape(-1, *[1] * (len(shape) - 1 - axis % len(shape))).expand(shape)


def _moved_like(fn: Any, tensor: Tensor) -> Tensor:
    """``tensor`` on the device to which ``fn`` moves, in its own precision."""
    return tensor.to(fn(torch.empty(0, device=tensor.device)).device)
