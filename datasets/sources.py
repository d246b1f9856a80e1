"""Clean images to learn from, one piece at a time: folders of pictures, volumes, truths of measurements, made scenes.

Which piece an index and a generator give is all the same whenever and wherever it is asked for, so that a training
run that is killed and started again sees what it would have seen.
"""

from __future__ import annotations

import abc
import hashlib
import math
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from .errors import InputError
from .formats import read_arrays
from .hdf5 import sha256
from .measurement import load_measurement
from .scenes import blobs

#: Luminance of red, green and blue (ITU-R BT.601).
LUMINANCE = (0.299, 0.587, 0.114)


class Source(abc.ABC):
    """So many images, and a random piece of each; all of them real, float32, peak about 1."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """How many images there are."""

    @abc.abstractmethod
    def sample(self, index: int, generator: Generator) -> Tensor:
        """A piece ``(C, *spatial)`` of image ``index``; all pieces have one shape."""

    @abc.abstractmethod
    def origin(self) -> list[dict[str, Any]]:
        """What the images are: plain values that differ where the images do."""

    def scene(self, index: int) -> Any:
        """What image ``index`` is of: images of one scene are all learnt from or all held out."""
        return index


class Pieces(Source):
    """Random crops of images held in memory as they are stored.

    :param size: sides of a crop, 1 at least; one number is all of them.
    """

    def __init__(self, size: int | Sequence[int]):
        if not min([size] if isinstance(size, int) else size, default=0) >= 1:
            raise ValueError(f"size: found {size}, expected at least 1")
        self.images: list[Tensor] = []
        self.whites: list[float] = []
        self.names: list[str] = []
        self.digests: list[str] = []
        self.size = size

    def add(self, name: str, image: Tensor, digest: str, white: float = 1.0) -> None:
        """Hold one more image ``(C, *spatial)``, of which ``white`` becomes 1.

        :raises InputError: if it is smaller than a crop, or has no finite real numbers.
        """
        sides = self._sides(image)
        if len(sides) != image.ndim - 1 or any(n < side for n, side in zip(image.shape[1:], sides, strict=True)):
            raise InputError(
                f"{name}: found an image of {_by(image.shape[1:])}, expected at least {_by(sides)}, the size of a crop"
            )
        if image.is_complex() or not bool(image.isfinite().all()):
            raise InputError(f"{name}: found complex or infinite values, expected finite real ones")
        self.images.append(image)
        self.whites.append(white)
        self.names.append(name)
        self.digests.append(digest)

    def __len__(self) -> int:
        return len(self.images)

    def sample(self, index: int, generator: Generator) -> Tensor:
        image = self.images[index]
        sides = self._sides(image)
        corner = [int(torch.randint(n - m + 1, (), generator=generator))
                  for n, m in zip(image.shape[1:], sides, strict=True)]  # fmt: skip
        window = tuple(slice(c, c + m) for c, m in zip(corner, sides, strict=True))
        flipped = [i + 1 for i in range(len(sides)) if torch.rand((), generator=generator) < 0.5]
        return (image[:, *window].float() / self.whites[index]).flip(flipped)

    def origin(self) -> list[dict[str, Any]]:
        return [{"name": Path(n).name, "sha256": d} for n, d in zip(self.names, self.digests, strict=True)]

    def _sides(self, image: Tensor) -> list[int]:
        return [self.size] * (image.ndim - 1) if isinstance(self.size, int) else list(self.size)


class ImageFolder(Pieces):
    """The pictures (PNG, JPEG, WebP, BMP, TIFF) of a folder, of any and different sizes, or arrays of two axes (npy).

    Integers of pictures become [0, 1], arrays keep their values.

    :param path: the folder; other folders and hidden files in it are passed over.
    :param size: side of the square crops, pixels.
    :param channels: 1 for gray, 3 for colour.
    :raises InputError: if a picture is damaged or smaller than a crop, or there is none.
    """

    def __init__(self, path: str | os.PathLike[str], size: int = 64, channels: int = 1):
        super().__init__(size)
        if channels not in (1, 3):
            raise ValueError(f"channels: found {channels}, expected 1 or 3")
        for file in _files(path):
            found = read_arrays(file)
            image = found.arrays.get("image", next(iter(found.arrays.values())) if len(found.arrays) == 1 else None)
            if image is None or ("image" not in found.arrays and image.ndim != 2):
                raise InputError(f"{file}: found no picture, expected PNG, JPEG, WebP, BMP, TIFF or an array (H, W)")
            image = image if "image" in found.arrays or image.is_complex() else image.float()
            if image.ndim == 3 and "channel_axis" not in found.facts:
                raise InputError(f"{file}: found a stack of {len(image)} pages, expected one picture in a file")
            white = found.facts.get("white", 1)
            self.add(str(file), _with_channels(str(file), image, channels), sha256(file), white)


class Volumes(Pieces):
    """Every array of three axes in the files of a folder, or in one file: NIfTI, npz, MATLAB and others.

    Of complex volumes the magnitude is taken; real values keep their sign.

    :param size: sides of the crops, voxels.
    :param peak: what becomes 1, in the units of the files; the peak magnitude of each volume if None.
    :raises InputError: if a file is damaged, has no volume, or is smaller than a crop.
    """

    def __init__(self, path: str | os.PathLike[str], size: int | Sequence[int] = 32, peak: float | None = None):
        super().__init__(size)
        if peak is not None and not 0 < peak < math.inf:
            raise ValueError(f"peak: found {peak}, expected a finite number above 0")
        for file in _files(path):
            volumes = {n: v for n, v in read_arrays(file).arrays.items() if v.ndim == 3}
            if not volumes:
                raise InputError(f"{file}: found no array of three axes, expected volumes")
            for name, volume in volumes.items():
                self.add(f"{file}:{name}", _at_peak(volume, peak)[None], sha256(file))


class Slices(Pieces):
    """Planes of the volumes of a folder, or of one file; the second of their axes is down, as scanners show them.

    Volumes are read and scaled as by :class:`Volumes`.

    :param size: sides of the crops, pixels.
    :param axis: of the volume, 0 to 2, across which it is cut.
    :param between: shares of that axis between which the planes lie.
    :param coarser: so many voxels along either side of a plane become one pixel, their mean.
    :param peak: as of :class:`Volumes`.
    :raises InputError: as :class:`Volumes`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: int | Sequence[int] = 64,
        axis: int = 2,
        between: tuple[float, float] = (0.0, 1.0),
        coarser: int = 1,
        peak: float | None = None,
    ):
        super().__init__(size)
        if axis not in (0, 1, 2) or not 0 <= between[0] < between[1] <= 1 or coarser < 1:
            found = f"{axis}, {tuple(between)}, {coarser}"
            raise ValueError(
                f"axis, between, coarser: found {found}, expected 0 to 2, 0 <= begin < end <= 1, 1 or more"
            )
        self.axis, self.between, self.coarser = axis, tuple(between), coarser
        whole = Volumes(path, 1, peak)
        for name, volume, digest in zip(whole.names, whole.images, whole.digests, strict=True):
            length = volume.shape[1 + axis]
            for k in range(*(round(share * length) for share in between)):
                plane = functional.avg_pool2d(volume.select(1 + axis, k).mT, coarser)
                self.add(f"{name}:{k}", plane, digest)

    def scene(self, index: int) -> str:
        """The volume."""
        return self.names[index].rpartition(":")[0]

    def origin(self) -> list[dict[str, Any]]:
        which = {"name": "slices", "axis": self.axis, "between": list(self.between), "coarser": self.coarser}
        files = dict(zip((Path(n.rpartition(":")[0]).name for n in self.names), self.digests, strict=True))
        return [which, *({"name": n, "sha256": d} for n, d in files.items())]


class WithPhase(Source):
    r"""Complex images :math:`g\,|x|\,e^{j \varphi}` of another source's, as two channels, real and imaginary part.

    phi is a constant, any, and a field of normal numbers on a coarse grid over the piece, bicubic between them. Where
    receivers, shims and flow turn the phase of a magnetic resonance image, it is as smooth.

    :param source: of flat images of one channel.
    :param strength: standard deviation of the field, radians.
    :param grid: its numbers along either side.
    :param gain: g is drawn uniformly from the first to the second.
    """

    def __init__(self, source: Source, strength: float = 0.7, grid: int = 4, gain: tuple[float, float] = (0.5, 1.0)):
        if not strength >= 0 or grid < 1 or not 0 < gain[0] <= gain[1] < math.inf:
            found = f"{strength}, {grid}, {tuple(gain)}"
            raise ValueError(f"strength, grid, gain: found {found}, expected 0 or more, 1 or more, 0 < low <= high")
        self.source, self.strength, self.grid, self.gain = source, strength, grid, tuple(gain)

    def __len__(self) -> int:
        return len(self.source)

    def sample(self, index: int, generator: Generator) -> Tensor:
        magnitude = self.source.sample(index, generator).abs()
        low, high = self.gain
        gain = low + (high - low) * torch.rand((), generator=generator)
        image = torch.polar(gain * magnitude, self._phase(magnitude.shape[-2:], generator))
        return torch.cat([image.real, image.imag])

    def _phase(self, shape: Sequence[int], generator: Generator) -> Tensor:
        field = self.strength * torch.randn(1, 1, self.grid, self.grid, generator=generator)
        smooth = functional.interpolate(field, tuple(shape), mode="bicubic", align_corners=True)[0]
        return smooth + 2 * math.pi * torch.rand((), generator=generator)

    def scene(self, index: int) -> Any:
        return self.source.scene(index)

    def origin(self) -> list[dict[str, Any]]:
        about = {"name": "with phase", "strength": self.strength, "grid": self.grid, "gain": list(self.gain)}
        return [about, *self.source.origin()]


class Truths(Pieces):
    """The true images kept in measurement files, at peak magnitude 1; of complex ones the magnitudes.

    :param files: measurement files, or one folder of them.
    :param size: sides of the crops.
    :raises InputError: if a file has no truth.
    """

    def __init__(self, files: Sequence[str] | str, size: int | Sequence[int] = 32):
        super().__init__(size)
        for file in [f for item in ([files] if isinstance(files, str) else files) for f in _files(item)]:
            truth = load_measurement(file).truth
            if truth is None:
                raise InputError(f"{file}: found no truth, expected measurement files that have one")
            for i, image in enumerate(truth):
                self.add(f"{file}:{i}", _at_peak(image), sha256(file))


class Blobs(Source):
    """Magnitudes of the synthetic scenes of :func:`~resolvent.datasets.blobs`.

    :param shape: of a volume, voxels.
    :param count: how many different scenes.
    :param first_seed: seed of the first; the others' follow.
    """

    def __init__(self, shape: Sequence[int] = (25, 25, 49), count: int = 800, first_seed: int = 1_000_000):
        if len(shape) != 3 or min(shape) < 3:
            raise ValueError(f"shape: found {list(shape)}, expected three sides of at least 3 voxels")
        self.shape, self.count, self.first_seed = tuple(shape), count, first_seed

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int, generator: Generator) -> Tensor:
        return _scene(self.shape, self.first_seed + index)

    def origin(self) -> list[dict[str, Any]]:
        return [{"name": "blobs", "shape": list(self.shape), "seeds": [self.first_seed, self.first_seed + self.count]}]


class Part(Source):
    """Every ``of``-th image of another source: denoisers of different parts have seen no image in common.

    :param index: the first image, from 0 to below ``of``.
    """

    def __init__(self, source: Source, index: int = 0, of: int = 2):
        if not 0 <= index < of <= len(source):
            raise ValueError(f"index, of: found {index}, {of}, expected 0 <= index < of <= {len(source)} images")
        self.source, self.index, self.of = source, index, of

    def __len__(self) -> int:
        return len(range(self.index, len(self.source), self.of))

    def sample(self, index: int, generator: Generator) -> Tensor:
        return self.source.sample(self.index + self.of * index, generator)

    def scene(self, index: int) -> Any:
        return self.source.scene(self.index + self.of * index)

    def origin(self) -> list[dict[str, Any]]:
        return [{"name": "part", "index": self.index, "of": self.of}, *self.source.origin()]


@lru_cache(maxsize=2000)
def _scene(shape: tuple[int, int, int], seed: int) -> Tensor:
    return blobs(shape, seed, "constant").abs()[0]


def draw(source: Source, indices: Sequence[int], seed: int, step: int | str, place: int) -> tuple[Tensor, Generator]:
    """The image at one place of the batch of one step, and the generator of what else is random about it.

    :param indices: the images of the source that may be drawn.
    """
    generator = counted(seed, step, place)
    index = indices[int(torch.randint(len(indices), (), generator=generator))]
    return source.sample(index, generator), generator


def counted(*counters: int | str) -> Generator:
    """A generator whose numbers depend on the counters alone."""
    word = hashlib.sha256(repr(counters).encode()).digest()[:8]
    return Generator().manual_seed(int.from_bytes(word, "little", signed=True))


def split(source: Source, every: int = 10) -> tuple[list[int], list[int]]:
    """Indices to learn from, and those held out: every tenth scene, at least one; of one scene every tenth image.

    :raises InputError: if there are not two images.
    """
    if len(source) < 2:
        expected = "expected at least 2, one of which is held out, or --validation"
        raise InputError(f"data: found {len(source)} image, {expected}")
    scenes = [source.scene(i) for i in range(len(source))]
    number = {scene: i for i, scene in enumerate(dict.fromkeys(scenes))}
    place = [number[scene] for scene in scenes] if len(number) > 1 else list(range(len(source)))
    return [i for i, k in enumerate(place) if k % every], [i for i, k in enumerate(place) if k % every == 0]


def _files(path: str | os.PathLike[str]) -> list[Path]:
    """A file, or the files of a folder by name."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: found nothing there, expected a folder or a file")
    found = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    if not found:
        raise InputError(f"{path}: found no file in this folder, expected at least one")
    return found


def _with_channels(name: str, image: Tensor, channels: int) -> Tensor:
    """Gray ``(H, W)`` or colour ``(3, H, W)`` as ``(channels, H, W)``; white stays where it is."""
    if image.ndim == 2:
        return image[None].expand(channels, *image.shape)
    if image.ndim != 3 or len(image) != 3:
        raise InputError(f"{name}: found an image of {_by(image.shape)}, expected a gray or colour picture")
    if channels == 3:
        return image
    return torch.einsum("c,chw->hw", torch.tensor(LUMINANCE), image.float())[None]


def _at_peak(image: Tensor, peak: float | None = None) -> Tensor:
    """Real values, or magnitudes of complex ones, of which ``peak``, or the largest magnitude, becomes 1."""
    values = image.abs().float() if image.is_complex() else image.float()
    if peak is None:
        peak = float(values.abs().max()) if values.numel() else 0.0
    return values / peak if math.isfinite(peak) and peak > 0 else values


def _by(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))
