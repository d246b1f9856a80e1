"""How near the methods that the command line chooses come to the best weight of their prior, at any noise.

Simulated files of each modality; each is reconstructed by its default method, whose prior's weight is multiplied by
powers of two. Beside the default's PSNR stand the best of all and the multiple that has it. The scenes are none that
the defaults were chosen by: scikit-image's cat, the radar's and the scanner's own phantoms with another seed.

    python benchmarks/default_strengths.py [--out FILE.md]
"""

import io
import os
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from _timing import main, table
from skimage.color import rgb2gray
from skimage.data import chelsea

from resolvent.apps import cli
from resolvent.apps.defaults import modality, preset_of
from resolvent.datasets import load_result

HEADER = ("file", "noise", "default, dB", "best, dB", "at weight times")
MULTIPLES = tuple(2.0**k for k in range(-4, 5))
NOISES, RATIOS = ("0.003", "0.01", "0.03", "0.1", "0.3"), ("50", "40", "30", "20", "10")
#: What simulates a file but for its noise, that option, and its values.
FILES = {
    "photograph, motion blur": (["blur", "--image", "cat.npy"], "--noise_std", NOISES),
    "photograph, Gaussian blur": (["blur", "--image", "cat.npy", "--kernel", "gaussian"], "--noise_std", NOISES),
    "photograph, periodic blur": (["blur", "--image", "cat.npy", "--border", "circular"], "--noise_std", NOISES),
    "photograph of half the size": (
        ["blur", "--image", "cat.npy", "--kernel", "bicubic", "--factor", "2", "--border", "circular"],
        "--noise_std", NOISES),
    "noisy photograph": (["blur", "--image", "cat.npy", "--kernel", "none"], "--noise_std", NOISES),
    "photograph, 3 of 10 pixels missing": (
        ["blur", "--image", "cat.npy", "--kernel", "none", "--missing", "0.3"], "--noise_std", NOISES),
    "MRI, 4 coils, lines, R = 3": (
        ["mri", "--size", "128", "--coils", "4", "--acceleration", "3", "--seed", "7"], "--snr", RATIOS),
    "radar, 5 frequencies": (["near-field", "--n_frequencies", "5", "--seed", "7"], "--snr", RATIOS),
}  # fmt: skip


def psnr(path: Path, weight: Sequence[str]) -> float:
    """Of the file's default method with its prior's weight."""
    out = path.with_name("image.h5")
    run("reconstruct", str(path), "--out", str(out), "--report", "false", "--overwrite", *weight)
    return float(load_result(out).record["metrics"]["psnr"][0])


def run(*argv: str) -> None:
    with redirect_stdout(io.StringIO()):
        assert cli.main(list(argv)) == 0


def weight_of(path: Path) -> tuple[str, float]:
    """The option that names the weight of the default prior, the innermost, and its value."""
    key, prior = "--prior", preset_of(modality(path))["prior"]
    while "prior" in prior.get("init_args", {}):
        key, prior = f"{key}.prior", prior["init_args"]["prior"]
    return f"{key}.weight", float(prior.get("init_args", {}).get("weight", 1.0))


def rows(name: str, folder: Path) -> list[list[str]]:
    """One row for each noise level."""
    simulation, option, levels = FILES[name]
    found = []
    for level in levels:
        path = folder / "file.h5"
        run("simulate", *simulation, option, level, "--out", str(path))
        key, own = weight_of(path)
        reached = {k: psnr(path, [key, repr(own * k)]) for k in MULTIPLES}
        best = max(reached, key=reached.__getitem__)
        unit = " dB" if option == "--snr" else ""
        found.append([name, f"{level}{unit}", f"{reached[1.0]:.2f}", f"{reached[best]:.2f}", f"{best:g}"])
    return found


def report() -> str:
    """The table."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            np.save("cat.npy", rgb2gray(chelsea())[:192, 100:292].astype(np.float32))
            found = [row for file in FILES for row in rows(file, Path(name))]
        finally:
            os.chdir(here)
    return table(HEADER, found)


if __name__ == "__main__":
    main(report, threads=1)
