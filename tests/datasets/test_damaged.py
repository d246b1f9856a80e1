"""Damaged, absurd and hostile files of every format: sound values or one line, in bounded time and memory.

A flipped byte of the payload cannot be noticed where a format has no checksum: values may then differ, shape
and type may not. What a shortened file still yields must be what the whole one yields.
"""

import gzip
import io
import json
import signal
import struct
import subprocess
import sys
import zipfile
import zlib
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
import torch
from PIL import Image

from resolvent.apps.cli import INPUT, OK, main
from resolvent.datasets import (
    InputError,
    Result,
    load_measurement,
    load_result,
    read_arrays,
    save_measurement,
    save_result,
)
from resolvent.operators import Dense

LIMIT = 20  # seconds for one file


def complex_array(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def measurement(path, rng):
    physics = Dense(torch.from_numpy(complex_array(rng, 6, 12)), (1, 3, 4))
    x = torch.from_numpy(complex_array(rng, 2, 1, 3, 4))
    save_measurement(path, physics.A(x), physics, x, 0.1, {"scanner": "A"})


def result(path, rng):
    image = torch.from_numpy(complex_array(rng, 1, 1, 5, 6))
    save_result(path, Result(image, {"relative_change": torch.rand(4, 1)}, {"seed": 1}, image))


def hdf5(path, rng):
    with h5py.File(path, "w") as file:
        file["volume"] = complex_array(rng, 4, 5, 6)
        file.create_dataset("packed/mask", data=rng.random((20, 20)) > 0.5, chunks=(10, 10), compression="gzip")
        file["packed"].attrs["unit"] = "m"


XML = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><acquisitionSystemInformation>
<receiverChannels>2</receiverChannels><systemFieldStrength_T>3.0</systemFieldStrength_T></acquisitionSystemInformation>
<encoding><encodedSpace><matrixSize><x>8</x><y>6</y><z>1</z></matrixSize><fieldOfView_mm><x>240</x><y>180</y><z>5</z>
</fieldOfView_mm></encodedSpace><reconSpace><matrixSize><x>8</x><y>6</y><z>1</z></matrixSize><fieldOfView_mm><x>240</x>
<y>180</y><z>5</z></fieldOfView_mm></reconSpace><encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>5
</maximum><center>3</center></kspace_encoding_step_1></encodingLimits><trajectory>cartesian</trajectory></encoding>
</ismrmrdHeader>"""


def fastmri(path, rng):
    with h5py.File(path, "w") as file:
        file["kspace"] = complex_array(rng, 2, 3, 8, 6)
        file["reconstruction_rss"] = rng.random((2, 8, 8)).astype(np.float32)
        file["ismrmrd_header"] = XML
        file.attrs.update(acquisition="AXT2", max=1.5)


COUNTERS = ["kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", "contrast", "phase", "repetition",
            "set", "segment"]  # fmt: skip
HEAD = np.dtype([
    ("version", "<u2"), ("flags", "<u8"), ("number_of_samples", "<u2"), ("active_channels", "<u2"),
    ("discard_pre", "<u2"), ("discard_post", "<u2"), ("center_sample", "<u2"),
    ("encoding_space_ref", "<u2"), ("trajectory_dimensions", "<u2"), ("sample_time_us", "<f4"),
    ("idx", [(name, "<u2") for name in COUNTERS]),
])  # fmt: skip


def ismrmrd(path, rng, xml=XML, change=lambda rows: None):
    floats = h5py.vlen_dtype(np.dtype("<f4"))
    rows = np.zeros(6, np.dtype([("head", HEAD), ("traj", floats), ("data", floats)]))
    for step, row in enumerate(rows):
        row["head"]["number_of_samples"], row["head"]["active_channels"] = 8, 2
        row["head"]["idx"]["kspace_encode_step_1"] = step
        row["traj"], row["data"] = np.zeros(0, "<f4"), complex_array(rng, 2, 8).view("<f4").ravel()
    change(rows)
    with h5py.File(path, "w") as file:
        file["dataset/data"] = rows
        file["dataset"].create_dataset("xml", data=[xml], dtype=h5py.string_dtype())


def radial(path, rng):
    """Five spokes after a scan of noise."""

    def change(rows):
        rows["head"]["trajectory_dimensions"], rows["head"]["sample_time_us"] = 2, 2.5
        rows["head"]["flags"][0] = 1 << 18
        for row in rows[1:]:
            row["traj"] = (rng.random(16) - 0.5).astype("<f4")

    ismrmrd(path, rng, XML.replace("cartesian", "radial"), change)


def cells(rng, count):
    made = np.empty((1, count), dtype=object)
    made[0, :] = [rng.random((2, i + 1)) for i in range(count)]
    return made


def matlab5(path, rng):
    variables = {"c": cells(rng, 3), "z": complex_array(rng, 3, 4), "s": {"fs": 5e6, "unit": "us"}}
    scipy.io.savemat(path, variables, do_compression=False)


def matlab5_packed(path, rng):
    scipy.io.savemat(
        path, {"rf": np.arange(60, dtype=np.int16).reshape(3, 4, 5), "c": cells(rng, 2)}, do_compression=True
    )


def matlab73(path, rng):
    with h5py.File(path, "w", userblock_size=512) as file:
        pairs = np.zeros((5, 4), dtype=[("real", "<f8"), ("imag", "<f8")])
        pairs["real"], pairs["imag"] = rng.random((5, 4)), rng.random((5, 4))
        file["z"] = pairs
        file["#refs#/a"], file["#refs#/b"] = rng.random((3, 2)), rng.random((1, 4))
        file["c"] = np.array([[file["#refs#/a"].ref], [file["#refs#/b"].ref]], dtype=h5py.ref_dtype)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def npy(path, rng):
    np.save(path, complex_array(rng, 4, 6))


def npz(path, rng):
    np.savez_compressed(path, kspace=complex_array(rng, 4, 6), mask=rng.random((4, 6)) > 0.5)


def nifti(path, rng):
    nib = pytest.importorskip("nibabel")
    image = nib.Nifti1Image(rng.random((4, 5, 6)).astype(np.float32), np.diag([1, 2, 3, 1]))
    nib.save(image, path)


def png(path, rng):
    Image.fromarray(rng.integers(0, 255, (9, 11, 4), dtype=np.uint8)).save(path)


def png16(path, rng):
    Image.fromarray(rng.integers(0, 65535, (9, 11), dtype=np.uint16)).save(path)


def rgb(path, rng):
    Image.fromarray(rng.integers(0, 255, (16, 24, 3), dtype=np.uint8)).save(path)


def tiff(path, rng):
    tifffile.imwrite(path, rng.integers(0, 65535, (5, 7, 9), dtype=np.uint16), photometric="minisblack")


def tiff_packed(path, rng):
    tifffile.imwrite(path, rng.random((12, 10, 3)).astype(np.float32), photometric="rgb", compression="zlib")


def bart(path, rng):
    values = complex_array(rng, 4, 5, 1, 2)
    path.with_suffix(".hdr").write_text("# Dimensions\n4 5 1 2 1 1\n")
    values.ravel(order="F").tofile(path)


def bart_header(path, rng):
    bart(path.with_suffix(".cfl"), rng)


MAKERS = {
    "measurement.h5": measurement, "result.h5": result, "plain.h5": hdf5, "fastmri.h5": fastmri, "ismrmrd.h5": ismrmrd,
    "radial.h5": radial,
    "cells.mat": matlab5, "packed.mat": matlab5_packed, "v73.mat": matlab73, "a.npy": npy, "a.npz": npz,
    "a.nii": nifti, "a.nii.gz": nifti, "rgba.png": png, "gray16.png": png16, "a.jpg": rgb, "a.tif": tiff,
    "a.webp": rgb, "a.bmp": rgb, "packed.tif": tiff_packed, "a.cfl": bart, "b.hdr": bart_header,
}  # fmt: skip
#: Where the payload begins, in formats that keep it plain to the end.
PAYLOAD = {"a.npy": 128, "a.nii": 352, "a.cfl": 0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A valid file of each kind, and what it holds."""
    folder = tmp_path_factory.mktemp("whole")

    def make(name):
        path = folder / name
        if not path.exists():
            MAKERS[name](path, np.random.default_rng(0))
        return path

    return make


@contextmanager
def time_limit(seconds):
    def ring(*_):
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def contents(path):
    """Tensors of any file, by name."""
    if path.name == "measurement.h5":
        m = load_measurement(path)
        return {"y": m.y, "truth": m.truth}
    if path.name == "result.h5":
        r = load_result(path)
        return {"image": r.image, "truth": r.truth} | r.history
    return read_arrays(path).arrays


def told(path, capsys):
    """What `resolvent info` makes of a file: True if it can be read; else it said so in one line that names it."""
    with time_limit(LIMIT):
        code = main(["info", str(path)])
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    if code == OK:
        assert not lines and captured.out.replace("\n", "").isprintable()
        return True
    assert code == INPUT and len(lines) == 1 and lines[0].isprintable(), captured.err
    assert path.name in lines[0] and "internal error" not in lines[0]
    return False


def damaged_copy(whole, name, tmp_path, content):
    path = tmp_path / name
    if name == "a.cfl":
        path.with_suffix(".hdr").write_bytes(whole(name).with_suffix(".hdr").read_bytes())
    if name == "b.hdr":
        path.with_suffix(".cfl").write_bytes(whole(name).with_suffix(".cfl").read_bytes())
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", MAKERS)
def test_the_whole_file_is_read(name, whole, capsys):
    assert told(whole(name), capsys)
    values = contents(whole(name))
    assert values and all(bool(torch.isfinite(v).all()) for v in values.values())


@pytest.mark.parametrize("case", range(8))
@pytest.mark.parametrize("name", MAKERS)
def test_a_file_cut_short(name, case, whole, tmp_path, capsys):
    content = whole(name).read_bytes()
    at = int(np.random.default_rng(case).integers(0, len(content)))
    path = damaged_copy(whole, name, tmp_path, content[:at])
    if told(path, capsys):
        back = contents(path)
        assert all(torch.equal(back[k], v) for k, v in contents(whole(name)).items())


@pytest.mark.parametrize("case", range(12))
@pytest.mark.parametrize("name", MAKERS)
def test_flipped_bytes(name, case, whole, tmp_path, capsys):
    """Even cases anywhere, odd ones in the first 512 bytes, where headers are."""
    rng, content = np.random.default_rng(100 + case), bytearray(whole(name).read_bytes())
    end = len(content) if case % 2 == 0 else min(512, len(content))
    places = rng.integers(0, end, 1 + case // 4)
    for place in places:
        content[place] ^= int(rng.integers(1, 256))
    path = damaged_copy(whole, name, tmp_path, bytes(content))
    if not told(path, capsys):
        assert min(places) < PAYLOAD.get(name, len(content))
        return
    back = contents(path)
    if name == "measurement.h5":
        assert all(bool(torch.isfinite(v).all()) for v in back.values() if v is not None)
    if min(places) >= PAYLOAD.get(name, len(content)):
        before = contents(whole(name))
        assert {k: (v.shape, v.dtype) for k, v in back.items()} == {k: (v.shape, v.dtype) for k, v in before.items()}


def npy_header(shape, dtype="<c8"):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def zeros(count, block=2**20):
    for _ in range(count // block):
        yield bytes(block)


def packed_zeros(count, wbits):
    packer = zlib.compressobj(9, wbits=wbits)
    return b"".join(packer.compress(block) for block in zeros(count)) + packer.flush()


def npz_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w", force_zip64=True) as f:
        f.write(npy_header((3 * 2**27,), "|u1"))
        for block in zeros(3 * 2**27):
            f.write(block)


def npz_lying(path):
    """The directory says 8 GB, the member has 16 bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", npy_header((10**9,)) + bytes(16))
    content = bytearray(buffer.getvalue())
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(content)


def nifti_header(shape):
    return struct.pack("<i36x8h", 348, len(shape), *shape, *[1] * (7 - len(shape))) + struct.pack(
        "<14xhh2x8f f", 16, 32, *[1.0] * 8, 352.0
    )


def nifti_absurd(path):
    head = nifti_header((32767, 32767, 32767))
    path.write_bytes(head.ljust(344, b"\0") + b"n+1\0" + bytes(5000))


def nifti_gz_bomb(path):
    head = nifti_header((1024, 1024, 96)).ljust(344, b"\0") + b"n+1\0" + bytes(4)
    with gzip.open(path, "wb", 9) as file:
        file.write(head)
        for block in zeros(3 * 2**27):
            file.write(block)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, data):
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def jpeg_absurd(path):
    rgb(path, np.random.default_rng(0))
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)


def tiff_absurd(path):
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8))
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            file.pages[0].tags[name].overwrite(2**20)


def unwritten(name, shape=(10**6, 10**6), **options):
    def make(path):
        with h5py.File(path, "w") as file:
            file.create_dataset(name, shape, "c16", **options)

    return make


def hdf5_zeros(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("zeros", (384, 2**20), "u1", chunks=(1, 2**20), compression="gzip")[:] = 0


def replaced(maker, name, shape):
    def make(path):
        maker(path, np.random.default_rng(0))
        with h5py.File(path, "r+") as file:
            del file[name]
            file.create_dataset(name, shape, "c8", chunks=tuple(min(n, 64) for n in shape))

    return make


def with_xml(xml):
    def make(path):
        ismrmrd(path, np.random.default_rng(0))
        with h5py.File(path, "r+") as file:
            file["dataset/xml"][0] = xml

    return make


LAUGHS = '<!DOCTYPE z [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {b} "{("&" + a + ";") * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def mat_element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def mat_of(*elements):
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(elements)


def mat_variable(kind, shape, *rest):
    flags = mat_element(6, struct.pack("<II", kind, 0))
    dims = mat_element(5, struct.pack(f"<{len(shape)}i", *shape))
    return mat_element(14, flags + dims + mat_element(1, b"a") + b"".join(rest))


def mat_packed(content):
    return struct.pack("<II", 15, len(content)) + content


def matlab73_absurd(path):
    matlab73(path, np.random.default_rng(0))
    with h5py.File(path, "r+") as file:
        file.create_dataset("big", (10**6, 10**6), "f8", chunks=(64, 64))


def cyclic_cells(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        cell = file.create_dataset("c", (2, 1), dtype=h5py.ref_dtype)
        cell[0, 0] = cell[1, 0] = cell.ref
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")


def cyclic_groups(path):
    with h5py.File(path, "w") as file:
        inner = file.create_group("a").create_group("b")
        inner["up"], inner["root"], file["again"] = file["a"], file["/"], inner
        file["a/b/values"] = np.ones(3)


def bart_absurd(path):
    path.write_text("# Dimensions\n1000000 1000000 1 1\n")
    path.with_suffix(".cfl").write_bytes(bytes(64))


#: Files that declare, or unpack to, more than they can mean. All are refused.
BOMBS = {
    "absurd.npy": lambda p: p.write_bytes(npy_header((10**6, 10**6)) + bytes(64)),
    "endless.npy": lambda p: p.write_bytes(npy_header((10**30,)) + bytes(64)),
    "negative.npy": lambda p: p.write_bytes(npy_header((-1, -8)) + bytes(64)),
    "objects.npy": lambda p: np.save(p, np.array([{}, print], dtype=object), allow_pickle=True),
    "bomb.npz": npz_bomb, "lying.npz": npz_lying,
    "absurd.nii": nifti_absurd, "bomb.nii.gz": nifti_gz_bomb,
    "absurd.png": lambda p: p.write_bytes(png_of(60_000, 60_000, zlib.compress(bytes(100)))),
    "bomb.png": lambda p: p.write_bytes(png_of(13_000, 13_000, packed_zeros(162 * 2**20, zlib.MAX_WBITS))),
    "absurd.jpg": jpeg_absurd, "absurd.tif": tiff_absurd,
    "chunked.h5": unwritten("a", chunks=(64, 64)), "contiguous.h5": unwritten("a"),
    "chunk.h5": unwritten("a", (4, 4), chunks=(8192, 8192), maxshape=(None, None)),
    "zeros.h5": hdf5_zeros,
    "measurement.h5": replaced(measurement, "data", (10**9, 1, 6)),
    "matrix.h5": replaced(measurement, "physics/matrix", (10**6, 10**6)),
    "result.h5": replaced(result, "image", (10**5, 10**6)),
    "fastmri.h5": replaced(fastmri, "kspace", (10**4, 10**3, 10**3)),
    "ismrmrd.h5": with_xml(XML.replace("<x>8</x>", "<x>60000</x>").replace("<y>6</y>", "<y>60000</y>")),
    "laughs.h5": with_xml(XML.replace("<ismrmrdHeader", LAUGHS + "]><ismrmrdHeader").replace(">3.0<", ">&i;<")),
    "absurd.mat": lambda p: p.write_bytes(mat_of(mat_variable(6, (10**6, 10**6), mat_element(9, bytes(64))))),
    "cells.mat": lambda p: p.write_bytes(mat_of(mat_variable(1, (2**31 - 1, 2**31 - 1)))),
    "bomb.mat": lambda p: p.write_bytes(mat_of(mat_packed(packed_zeros(3 * 2**27, zlib.MAX_WBITS)))),
    "v73.mat": matlab73_absurd, "cyclic.mat": cyclic_cells, "absurd.hdr": bart_absurd,
}  # fmt: skip

MEASURED = """
import contextlib, io, json, resource, sys, time, tracemalloc
from resolvent.apps.cli import main
import nibabel, tifffile, PIL.Image, scipy.io
main(["info", sys.argv[1]])
for path in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    began, said = time.monotonic(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(["info", path])
    peak, seconds = tracemalloc.get_traced_memory()[1], time.monotonic() - began
    tracemalloc.stop()
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print("RESULT" + json.dumps([path, code, said.getvalue(), peak, grown, seconds]))
"""


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    """Each bomb, and what the command made of it: exit status, message, bytes traced and resident, seconds."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, make in BOMBS.items():
        make(folder / name)
    paths = [str(folder / name) for name in BOMBS]
    done = subprocess.run([sys.executable, "-c", MEASURED, *paths], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told_of = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return {name: (folder / name, *rest) for name, (_, *rest) in zip(BOMBS, told_of, strict=True)}


@pytest.mark.parametrize("name", BOMBS)
def test_absurd_sizes_are_refused_before_they_are_allocated(name, bombs):
    path, code, message, peak, grown, seconds = bombs[name]
    assert code == INPUT and len(message.splitlines()) == 1 and name in message and message.strip().isprintable()
    slack, allowance = 16 * 2**20 + 2 * path.stat().st_size, 64 * 2**20 + 100 * path.stat().st_size
    # zlib holds what it unpacked twice while it joins the pieces
    assert max(peak, grown) < slack + (2 * allowance if name.startswith("bomb") else 0), message
    assert seconds < LIMIT


@pytest.mark.parametrize("length", [0, 1233, 1235, 10**5, 2**31 - 1, 2**32 - 1])
def test_text_that_declares_another_length(length, tmp_path, capsys):
    """The HDF5 library copies as many bytes as are declared; where this ends the process, it is not ours."""
    path = tmp_path / "text.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.ones(3)
        file["a"].attrs["note"] = "n" * 1234
    content = path.read_bytes()
    heap = content.index(b"GCOL")
    declared = struct.pack("<IQ", 1234, heap)
    assert content.count(declared) == 1
    path.write_bytes(content.replace(declared, struct.pack("<IQ", length, heap)))
    assert not told(path, capsys) or length <= 1235


@pytest.mark.parametrize("offsets", [(0, 4), (0, 0), (4, 0)])
def test_members_that_lie_over_each_other(offsets, tmp_path, capsys):
    """As a flipped byte in a compound's description makes them."""
    kind = h5py.h5t.create(h5py.h5t.COMPOUND, 16)
    kind.insert(b"real", 0, h5py.h5t.IEEE_F64LE)
    kind.insert(b"imag", 8, h5py.h5t.IEEE_F64LE)
    path = tmp_path / "pairs.h5"
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((50,))
        h5py.h5d.create(file.id, b"z", kind, space)
    content = bytearray(path.read_bytes())
    for name, offset in zip((b"real\0", b"imag\0"), offsets, strict=True):
        at = content.index(name) + 8
        content[at : at + 4] = struct.pack("<I", offset)
    path.write_bytes(content)
    assert not told(path, capsys)


def test_links_in_circles_end(tmp_path, capsys):
    cyclic_groups(tmp_path / "circle.h5")
    assert told(tmp_path / "circle.h5", capsys)


HOSTILE = {
    "traversal": "../../../../tmp/evil", "absolute": "/etc/passwd", "escape": "\x1b[2J\x1b]0;owned\x07",
    "newline": "a\nresolvent: all is well", "right to left": "\u202egnp.exe", "long": "n" * 10_000, "empty": " ",
}  # fmt: skip


def hostile_npz(path, name):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name + ".npy", npy_header((2,), "<f4") + bytes(8))
        archive.writestr(name + "2.npy", npy_header((2,), "|O") + bytes(8))


def hostile_hdf5(path, name):
    with h5py.File(path, "w") as file:
        file.create_group("g").create_dataset(name.replace("/", "∕"), data=np.ones(3))
        file["g"].attrs[name] = name


def hostile_matlab5(path, name):
    shown = name.encode("utf-8")
    flags, dims = mat_element(6, struct.pack("<II", 6, 0)), mat_element(5, struct.pack("<2i", 1, 1))
    value = mat_element(9, struct.pack("<d", 1.0))
    path.write_bytes(mat_of(mat_element(14, flags + dims + mat_element(1, shown) + value)))


def hostile_matlab73(path, name):
    hostile_hdf5(path, name)
    with h5py.File(path, "w", userblock_size=512) as file:
        file[name.replace("/", "∕")] = np.ones((2, 2))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")


def hostile_meta(path, name):
    physics = Dense(torch.eye(2), (1, 2))
    save_measurement(path, torch.ones(1, 2), physics, meta={name: name})


def hostile_operator(path, name):
    hostile_meta(path, "a")
    with h5py.File(path, "r+") as file:
        file["physics"].attrs["operator"] = name


def hostile_argument(path, name):
    hostile_meta(path, "a")
    with h5py.File(path, "r+") as file:
        file["physics"][name.replace("/", "∕")] = 1.0


def hostile_format(path, name):
    with h5py.File(path, "w") as file:
        file.attrs["format"] = name


PLACES = {
    "npz": hostile_npz, "hdf5": hostile_hdf5, "mat": hostile_matlab5, "mat73": hostile_matlab73, "meta": hostile_meta,
    "operator": hostile_operator, "argument": hostile_argument, "format": hostile_format,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", PLACES)
def test_hostile_names_are_only_shown(place, name, tmp_path, capsys):
    path = tmp_path / "hostile"
    PLACES[place](path, HOSTILE[name])
    told(path, capsys)
    assert (
        main(["info", "--json", str(path)]) in (OK, INPUT) and capsys.readouterr().out.replace("\n", "").isprintable()
    )
    assert [p.name for p in tmp_path.iterdir()] == ["hostile"]


@pytest.mark.parametrize("name", ["new\nline.npy", "\x1b[31mred.npy", "n" * 240 + ".npy"])
def test_a_file_may_be_called_anything(name, tmp_path, capsys):
    np.save(tmp_path / name, np.ones(2))
    assert main(["info", str(tmp_path / name)]) == OK
    assert capsys.readouterr().out.replace("\n", "").isprintable()
    (tmp_path / name).write_bytes(b"rubbish")
    assert main(["info", str(tmp_path / name)]) == INPUT
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1 and message.strip().isprintable()


@pytest.mark.parametrize("shape", ["(4, 7)", "(24, 2)", "(4,)", "()", "('a', 2)", "(True, 6)", "(4.0, 6)"])
def test_a_header_that_does_not_fit_its_data(shape, tmp_path, capsys):
    (tmp_path / "a.npy").write_bytes(npy_header(shape) + bytes(8 * 24))
    assert not told(tmp_path / "a.npy", capsys)


@pytest.mark.parametrize("line", ["", "4 5", "4 -5 1 2", "4 5 1 2 x", "0", "9" * 40, "4 " * 100])
def test_dimensions_that_do_not_fit_their_data(line, tmp_path, capsys):
    bart(tmp_path / "a.cfl", np.random.default_rng(0))
    (tmp_path / "a.hdr").write_text(f"# Dimensions\n{line}\n")
    assert not told(tmp_path / "a.cfl", capsys)


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/null", ".", "nowhere"])
def test_what_is_no_file(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with time_limit(LIMIT):
        assert main(["info", place]) == INPUT
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", ["photo.png", "k.npy", "v73.mat", "cells.mat", "fastmri.h5"])
def test_other_formats_are_no_measurements(name, tmp_path):
    maker = {"photo.png": png, "k.npy": npy}.get(name) or MAKERS[name]
    maker(tmp_path / name, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"is an? .* file, expected a resolvent measurement; `resolvent import`"):
        load_measurement(tmp_path / name)


# --- what HDF5 and TIFF would unpack or follow ------------------------------------------------------------------------


def matlab_file(path, fill):
    with h5py.File(path, "w", userblock_size=512, libver="earliest") as file:
        fill(file)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
    return path


REFERENCE = h5py.special_dtype(ref=h5py.Reference)


def holding(file, name, held):
    item = file.create_dataset(name, (len(held),), dtype=REFERENCE)
    item[:] = [h.ref for h in held]
    item.attrs["MATLAB_class"] = np.bytes_("cell")
    return item


def test_cells_that_hold_the_same_ones_again_end(tmp_path):
    """30 to the 10th paths of cells in a file of kilobytes."""

    def fill(file):
        last = file.create_dataset("#refs#/leaf", data=np.zeros(1))
        for depth in range(10):
            last = holding(file, f"#refs#/level{depth}", [last] * 30)
        holding(file, "c", [last])

    with pytest.raises(InputError, match="needs 4096 bytes, expected at most"):
        read_arrays(matlab_file(tmp_path / "again.mat", fill))


def test_references_that_were_never_written_are_not_read(tmp_path):
    def fill(file):
        file.create_dataset("c", (2_000_000_000,), dtype=REFERENCE, chunks=(1000,))

    with pytest.raises(InputError, match=r"c of shape \(2000000000,\) needs"):
        read_arrays(matlab_file(tmp_path / "huge.mat", fill))


def test_references_lead_nowhere_that_names_do_not(tmp_path):
    """To a group with a link to another file, whose own name is hidden by a shorter table of names."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.arange(5.0)

    def fill(file):
        hidden = file.create_group("zz")
        hidden["x"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/x")
        holding(file, "c", [hidden])

    path = matlab_file(tmp_path / "hidden.mat", fill)
    content = bytearray(path.read_bytes())
    table = content.find(b"SNOD")
    while int.from_bytes(content[table + 6 : table + 8], "little") != 2:
        table = content.find(b"SNOD", table + 4)
    content[table + 6 : table + 8] = (1).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match="a cell that no name leads to"):
        read_arrays(path)


def test_chunks_that_unpack_to_more_than_they_are_said_to(tmp_path):
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as file:
        item = file.create_dataset("x", (16,), dtype="u1", chunks=(16,), compression="gzip")
        item.id.write_direct_chunk((0,), zlib.compress(bytes(2**28), 9))
    with pytest.raises(InputError, match=r"/x has 2[0-9]* bytes for 16 unpacked, expected fewer"):
        read_arrays(path)


def test_strips_that_unpack_to_more_than_they_are_said_to(tmp_path):
    path, bomb = tmp_path / "bomb.tif", zlib.compress(bytes(2**28), 9)
    tifffile.imwrite(path, np.zeros((16, 16), "u1"), compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        places = [(tags[name].valueoffset, tags[name].dtype) for name in ("StripOffsets", "StripByteCounts")]
    content = bytearray(path.read_bytes())
    for (offset, kind), value in zip(places, (len(content), len(bomb)), strict=True):
        content[offset : offset + {3: 2, 4: 4, 16: 8}[int(kind)]] = value.to_bytes(
            {3: 2, 4: 4, 16: 8}[int(kind)], "little"
        )
    path.write_bytes(content + bomb)
    with pytest.raises(InputError, match=r"image has 2[0-9]* bytes for 256 unpacked, expected fewer"):
        read_arrays(path)
