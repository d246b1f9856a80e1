r"""Latent flow models: what a transformer knows of the latents of images, at the word of a prompt.

.. math:: v = v_\varnothing + w\, (v_c - v_\varnothing), \qquad
          z = (\mathcal{E}(2x - 1) - b)\, c, \qquad D(z) = \tfrac12 \big(\mathcal{D}(z / c + b) + 1\big),

classifier-free guidance (Ho and Salimans, 2022) on the straight path of Stable Diffusion 3 (Esser et al., ICML 2024),
whose velocity points to noise as ours does; images x from 0 to 1, b and c the shift and scale of the autoencoder.
``VelocityDiffusion(PromptedVelocity(transformer, prompt))`` is a prior on z, and
:class:`~resolvent.operators.Decoded` takes the data there. With the classes of the library diffusers; models are read
from safetensors in local folders, and nothing in a folder is run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..operators.extras import require
from ..operators.files import first_line

#: What may lie beside the transformer: the class and the library of each folder.
TEXT_PARTS = {
    "tokenizer": "CLIPTokenizer", "text_encoder": "CLIPTextModelWithProjection",
    "tokenizer_2": "CLIPTokenizer", "text_encoder_2": "CLIPTextModelWithProjection",
    "tokenizer_3": "T5TokenizerFast", "text_encoder_3": "T5EncoderModel",
}  # fmt: skip


class Prompt(NamedTuple):
    """What text encoders made of a text.

    :param tokens: ``(1, L, D)``, or one for each image.
    :param pooled: ``(1, P)``, likewise.
    """

    tokens: Tensor
    pooled: Tensor


class PromptedVelocity(nn.Module):
    """The velocity of latents ``(B, C, h, w)`` at times from 0 to 1, of a transformer that hears a prompt.

    :param transformer: an ``SD3Transformer2DModel`` or one called alike.
    :param prompt: what the image shows.
    :param negative: what it does not, the empty text's say; needed where the guidance is not 1.
    :param guidance: w; 1 is the prompt's velocity itself, one network call of B latents in place of 2 B.
    """

    def __init__(self, transformer: nn.Module, prompt: Prompt, negative: Prompt | None = None, guidance: float = 1.0):
        super().__init__()
        if negative is None and guidance != 1:
            raise ValueError(f"negative: found none, expected a prompt for the guidance {guidance}")
        self.transformer, self.guidance = transformer, guidance
        self.prompts = [prompt] if guidance == 1 else [negative, prompt]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        _check_real("x", x)
        n, dtype = len(self.prompts), next(self.transformer.parameters()).dtype
        tokens, pooled = (
            torch.cat([part.expand(len(x), *part.shape[1:]) for part in parts]).to(x.device, dtype)
            for parts in zip(*self.prompts, strict=True)
        )
        v = self.transformer(
            hidden_states=x.to(dtype).repeat(n, 1, 1, 1),
            timestep=1000 * t.expand(len(x)).repeat(n),
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            return_dict=False,
        )[0].to(x.dtype)
        first, *rest = v.chunk(n)
        return first + self.guidance * (rest[0] - first) if rest else first


class Autoencoder(nn.Module):
    """Images ``(B, C, H, W)`` in [0, 1] to latents ``(B, c, h, w)`` of variance about 1, and back.

    :param vae: an ``AutoencoderKL`` or ``AutoencoderTiny``.
    """

    def __init__(self, vae: nn.Module):
        super().__init__()
        self.vae = vae
        self.scale, self.shift = vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0

    def encode(self, x: Tensor) -> Tensor:
        """The latents of images; the mean, where the model has a distribution of them."""
        _check_real("x", x)
        found = self.vae.encode(self._in(2 * x - 1))
        latents = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
        return (latents.to(x.dtype) - self.shift) * self.scale

    def decode(self, z: Tensor) -> Tensor:
        """The images of latents; differentiable, not clipped."""
        return (self.vae.decode(self._in(z / self.scale + self.shift)).sample.to(z.dtype) + 1) / 2

    def _in(self, x: Tensor) -> Tensor:
        return x.to(next(self.vae.parameters()).dtype)


def load_latent_flow(
    folder: str | os.PathLike[str], dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, Autoencoder]:
    """The transformer and the autoencoder of a local Stable Diffusion 3 folder, frozen.

    :param dtype: of the transformer; the autoencoder, through which the data are fitted, has float32.
    :raises ValueError: if one is not there, or not in safetensors.
    :raises MissingExtra: without diffusers.
    """
    library = require("diffusers", "latent")
    transformer = _load(library.SD3Transformer2DModel, Path(folder), "transformer", dtype)
    return transformer, Autoencoder(_load(library.AutoencoderKL, Path(folder), "vae", torch.float32))


@torch.no_grad()
def encode_prompt(folder: str | os.PathLike[str], transformer: nn.Module, text: str) -> Prompt:
    """A text, by the encoders in the transformer's local folder; the third, T5, may be absent.

    :raises ValueError: if an encoder is not there, or not in safetensors.
    :raises MissingExtra: without diffusers or transformers.
    """
    pipeline, library = require("diffusers", "latent"), require("transformers", "latent")
    parts = {
        name: _load(getattr(library, kind), Path(folder), name, transformer.dtype)
        if not name.endswith("_3") or (Path(folder) / name).is_dir()
        else None
        for name, kind in TEXT_PARTS.items()
    }
    listener = pipeline.StableDiffusion3Pipeline(transformer=transformer, vae=None, scheduler=None, **parts)
    tokens, _, pooled, _ = listener.encode_prompt(text, None, None, do_classifier_free_guidance=False)
    return Prompt(tokens, pooled)


def _load(kind: Any, folder: Path, name: str, dtype: torch.dtype) -> Any:
    """One part of a model; a network frozen, in evaluation mode."""
    path = folder / name
    if not path.is_dir():
        raise ValueError(f"{path}: found no such folder, expected a {kind.__name__}")
    if not issubclass(kind, nn.Module):
        return kind.from_pretrained(path, local_files_only=True)
    try:
        network = kind.from_pretrained(path, use_safetensors=True, local_files_only=True)
    except OSError as error:
        reason = first_line(error)
        raise ValueError(f"{path}: found no {kind.__name__} ({reason}), expected it in safetensors") from error
    return network.to(dtype).eval().requires_grad_(False)


def _check_real(name: str, x: Tensor) -> None:
    if x.is_complex():
        raise ValueError(f"{name}: found {x.dtype}, expected real images, which alone the model knows")
