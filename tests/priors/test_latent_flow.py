"""Latent flows: guidance, sign, time and scale of the real classes, small and untrained; what is read and refused."""

import json

import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import Decoded, Dense
from resolvent.operators.extras import MissingExtra
from resolvent.priors import Autoencoder, Prompt, PromptedVelocity, VelocityDiffusion, encode_prompt, load_latent_flow
from resolvent.recon import FLAIR
from resolvent.recon.sampler import Level, reverse_step

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
LATENT, IMAGE = (4, 4, 4), (3, 8, 8)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(0)
    network = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=16, pooled_projection_dim=24,
        pos_embed_max_size=16,
    )  # fmt: skip
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(1)
    network = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), latent_channels=4,
        norm_num_groups=4, sample_size=8, scaling_factor=1.5305, shift_factor=0.0609,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    return network.eval().requires_grad_(False)


def prompt(seed, images=1):
    return Prompt(normal(images, 5, 16, seed=seed), normal(images, 24, seed=seed + 1))


def called(transformer, x, t, words):
    """The library's own call, a time per image from 0 to 1000."""
    return transformer(x, words.tokens.expand(len(x), -1, -1), words.pooled.expand(len(x), -1), 1000 * t).sample


# -- velocity -----------------------------------------------------------------------------------------
def test_guidance_one_is_the_prompt(transformer):
    x, t = normal(2, *LATENT), torch.tensor([0.3, 0.8])
    found = PromptedVelocity(transformer, prompt(1), prompt(3))(x, t)
    assert_close(found, called(transformer, x, t, prompt(1)))
    assert_close(PromptedVelocity(transformer, prompt(1))(x, torch.tensor(0.3))[:1], found[:1])


@pytest.mark.parametrize("guidance", [0.0, 0.5, 2.0])
def test_guidance_leads_from_the_negative_to_the_prompt_and_beyond(transformer, guidance):
    x, t = normal(2, *LATENT), torch.tensor([0.3, 0.8])
    with_, without = (called(transformer, x, t, words) for words in (prompt(1), prompt(3)))
    found = PromptedVelocity(transformer, prompt(1), prompt(3), guidance)(x, t)
    assert_close(found, without + guidance * (with_ - without), rtol=1e-4, atol=1e-5)
    assert float((with_ - without).abs().max()) > 1e-3


def test_a_prompt_for_each_image(transformer):
    x, t, each = normal(2, *LATENT), torch.tensor([0.3, 0.8]), prompt(1, images=2)
    found = PromptedVelocity(transformer, each, prompt(3), 2.0)(x, t)
    for i in range(2):
        words = Prompt(each.tokens[i : i + 1], each.pooled[i : i + 1])
        alone = PromptedVelocity(transformer, words, prompt(3), 2.0)(x[i : i + 1], t[i])
        assert_close(found[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_the_librarys_sampler_goes_where_ours_does(transformer):
    """Its Euler step from one noise level to a lower one is ours along the estimate: same sign, same time."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(8)
    flow, x = VelocityDiffusion(PromptedVelocity(transformer, prompt(1))), normal(1, *LATENT)
    for k in (1, 4, 7):
        time = scheduler.timesteps[k]
        scheduler._step_index = None
        theirs = scheduler.step(transformer(x, *prompt(1), time.expand(1)).sample, time, x).prev_sample
        now, then = (float(s) for s in scheduler.sigmas[k : k + 2])
        estimate = flow.estimate(x, now)
        ours = reverse_step(x, estimate, Level(now, 1 - now, now), Level(then, 1 - then, then), 0.0, x)
        assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_all_that_follows_from_the_velocity(transformer):
    network = PromptedVelocity(transformer, prompt(1), prompt(3), 2.0)
    flow, x, t = VelocityDiffusion(network), normal(2, *LATENT), 0.4
    v = network(x, torch.tensor(t))
    assert_close(flow.velocity(x, t), v, rtol=1e-4, atol=1e-5)
    assert_close(flow.estimate(x, t), x - t * v, rtol=1e-4, atol=1e-5)
    assert_close(flow.noise(x, t), x + (1 - t) * v, rtol=1e-4, atol=1e-5)
    assert_close(flow.denoise(x / (1 - t), t / (1 - t)), x - t * v, rtol=1e-4, atol=1e-5)


def test_latents_keep_their_precision(transformer, vae):
    half = PromptedVelocity(transformer.to(torch.bfloat16), prompt(1))
    x = normal(1, *LATENT)
    low = half(x, torch.tensor(0.4))
    transformer.to(torch.float32)
    assert low.dtype == torch.float32
    assert_close(low, half(x, torch.tensor(0.4)), rtol=0.1, atol=0.1)
    assert Autoencoder(vae).decode(x.double()).dtype == torch.float64


# -- autoencoder --------------------------------------------------------------------------------------
class Halves(torch.nn.Module):
    """An autoencoder without loss: rows of two pixels and channels of one, as diffusers' are called."""

    def __init__(self):
        super().__init__()
        self.unit = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
        self.config = diffusers.configuration_utils.FrozenDict({"scaling_factor": 1.5, "shift_factor": 0.25})

    def encode(self, x):
        self.seen = x
        return diffusers.models.autoencoders.autoencoder_tiny.AutoencoderTinyOutput(
            latents=torch.nn.functional.pixel_unshuffle(x, 2)
        )

    def decode(self, z):
        return diffusers.models.autoencoders.vae.DecoderOutput(sample=torch.nn.functional.pixel_shuffle(z, 2))


def test_there_and_back():
    """Range, shift and scale undone: the identity."""
    model = Halves()
    autoencoder, x = Autoencoder(model), torch.rand(2, 1, 4, 4, dtype=torch.float64)
    z = autoencoder.encode(x)
    assert_close(model.seen, 2 * x - 1)
    assert_close(z, (torch.nn.functional.pixel_unshuffle(2 * x - 1, 2) - 0.25) * 1.5)
    assert_close(autoencoder.decode(z), x)


def test_scale_and_shift_of_the_real_class(vae):
    autoencoder, x = Autoencoder(vae), torch.rand(2, *IMAGE)
    z = autoencoder.encode(x)
    assert z.shape == (2, *LATENT)
    assert_close(z, (vae.encode(2 * x - 1).latent_dist.mean - 0.0609) * 1.5305)
    assert_close(autoencoder.decode(z), (vae.decode(z / 1.5305 + 0.0609).sample + 1) / 2)


def test_tiny_autoencoder():
    torch.manual_seed(2)
    tiny = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), latent_channels=4,
    ).eval()  # fmt: skip
    autoencoder, x = Autoencoder(tiny), torch.rand(2, *IMAGE)
    z = autoencoder.encode(x)
    assert z.shape == (2, *LATENT) and autoencoder.decode(z).shape == x.shape
    assert_close(z, tiny.encode(2 * x - 1).latents)


# -- reconstruction -----------------------------------------------------------------------------------
def test_flair_in_latents(transformer, vae):
    """The latents that are found decode to an image that has the data, where these are fewer than the latents."""
    autoencoder = Autoencoder(vae)
    flow = VelocityDiffusion(PromptedVelocity(transformer, prompt(1), prompt(3), 2.0))
    physics = Dense(normal(24, 192, seed=4) / 14, IMAGE)
    truth = autoencoder.decode(normal(1, *LATENT, seed=5))
    y = physics.A(truth)
    latents = autoencoder.encode(truth.clamp(0, 1))
    sampler = FLAIR(flow, lambda t: t / 2, steps=6, noise_std=1e-3)
    solution = sampler.solve(y, Decoded(physics, autoencoder.decode, LATENT, products=12), x0=latents)
    image = autoencoder.decode(solution.image)
    assert solution.image.shape == latents.shape and solution.status == ("completed",)
    assert float((physics.A(image) - y).norm() / y.norm()) < 0.002
    assert float(solution.certificate) == pytest.approx(float((physics.A(image) - y).norm() / y.norm()), rel=1e-3)


# -- folders ------------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path, transformer, vae):
    transformer.save_pretrained(tmp_path / "transformer")
    vae.save_pretrained(tmp_path / "vae")
    return tmp_path


@pytest.mark.filterwarnings("ignore")
def test_folder(folder, transformer, vae):
    network, autoencoder = load_latent_flow(folder)
    x, t = normal(1, *LATENT), torch.tensor([0.3])
    assert_close(called(network, x, t, prompt(1)), called(transformer, x, t, prompt(1)))
    assert_close(autoencoder.decode(x), Autoencoder(vae).decode(x))
    assert not any(p.requires_grad for m in (network, autoencoder) for p in m.parameters()) and not network.training
    low, exact = load_latent_flow(folder, torch.bfloat16)
    assert low.dtype == torch.bfloat16 and exact.vae.dtype == torch.float32


def test_folder_without_safetensors(folder):
    for path in (folder / "transformer").glob("*.safetensors"):
        path.unlink()
    torch.save({}, folder / "transformer" / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"transformer: found no SD3Transformer2DModel \(.*\), expected it in safe"):
        load_latent_flow(folder)


@pytest.mark.filterwarnings("ignore")
def test_damaged_folder(folder):
    path = next((folder / "vae").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"vae: found no AutoencoderKL \(.*\), expected it in safetensors"):
        load_latent_flow(folder)


def test_no_folder_is_no_download(tmp_path, transformer):
    with pytest.raises(ValueError, match="found no such folder, expected a SD3Transformer2DModel"):
        load_latent_flow("someone/some-model")
    with pytest.raises(ValueError, match="tokenizer: found no such folder, expected a CLIPTokenizer"):
        encode_prompt(tmp_path, transformer, "a photo")


@pytest.mark.filterwarnings("ignore")
def test_text(tmp_path, transformer):
    """Two small CLIP encoders and no T5: tokens of both side by side, padded to the transformer's width."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    words = [*"abcdefghijklmnopqrstuvwxyz", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    for suffix, width in (("", 6), ("_2", 8)):
        place = tmp_path / f"tokenizer{suffix}"
        place.mkdir()
        (place / "vocab.json").write_text(json.dumps(vocabulary))
        (place / "merges.txt").write_text("#version: 0.2\n")
        (place / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77}))
        config = transformers.CLIPTextConfig(
            vocab_size=len(vocabulary), hidden_size=width, intermediate_size=16, num_hidden_layers=2,
            num_attention_heads=2, projection_dim=width, eos_token_id=53, bos_token_id=52,
        )  # fmt: skip
        transformers.CLIPTextModelWithProjection(config).save_pretrained(tmp_path / f"text_encoder{suffix}")
    one, again, other = (encode_prompt(tmp_path, transformer, text) for text in ("a cat", "a cat", "a dog"))
    assert one.tokens.shape == (1, 77 + 256, 16) and one.pooled.shape == (1, 14)
    assert torch.equal(one.tokens, again.tokens) and not torch.allclose(one.pooled, other.pooled)
    assert not one.tokens.requires_grad and not one.tokens[..., 14:].any() and one.tokens[:, :77, :14].all()


def test_refusals(transformer, vae, monkeypatch):
    x = normal(1, *LATENT).to(torch.complex64)
    with pytest.raises(ValueError, match=r"x: found torch.complex64, expected real images"):
        VelocityDiffusion(PromptedVelocity(transformer, prompt(1))).velocity(x, 0.5)
    with pytest.raises(ValueError, match=r"x: found torch.complex64, expected real images"):
        Autoencoder(vae).encode(x)
    with pytest.raises(ValueError, match=r"negative: found none, expected a prompt for the guidance 2.0"):
        PromptedVelocity(transformer, prompt(1), guidance=2.0)
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(MissingExtra, match=r"diffusers: found no such library, .* 'resolvent\[latent\]'"):
        load_latent_flow("anywhere")
