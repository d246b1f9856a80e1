"""The report is one sound page: it parses, fetches nothing, hides nothing hostile, and its viewer draws."""

import base64
import json
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from resolvent.apps.report import default_path, distinct_names, main, write_report
from resolvent.apps.report_page import page
from resolvent.apps.report_tables import metrics_table
from resolvent.apps.report_viewer import block_maximum
from resolvent.apps.report_views import picture, projections, slices
from resolvent.datasets import InputError, Result, load_result, save_result

VOID = {"meta", "img", "input", "br", "link", "hr"}
HOSTILE = '<script>alert("1")</script>&$x_"\'\\'


class Page(HTMLParser):
    """Tags that close, the addresses they name, and the text between them."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.addresses, self.words, self.alts = [], [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        self.tags.append(tag)
        self.addresses += [facts[key] for key in ("src", "href", "action", "data", "srcset") if key in facts]
        self.alts += [facts.get("alt", "")] if tag == "img" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)


def volume(shape=(6, 7, 9), batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = 0.05 * torch.randn(batch, 1, *shape, dtype=torch.complex64, generator=generator)
    image[:, 0, 2, 3, 4] = 2j
    return image


def radar(batch=1, seed=0, **record):
    """A small volume with everything a result can have."""
    image = volume(batch=batch, seed=seed)
    axes = {"x": torch.linspace(-0.1, 0.1, 6), "y": torch.linspace(-0.1, 0.1, 7), "z": torch.linspace(0.3, 0.5, 9)}
    history = {
        "relative_change": torch.logspace(0, -4, 20)[:, None].expand(20, batch),
        "seconds": torch.arange(20.0)[:, None].expand(20, batch),
    }
    full = {
        "input": {"path": "scene.h5", "sha256": "ab" * 32}, "operator": "NearFieldMIMO", "version": "0.1", "seed": 7,
        "config": {
            "prior": {"class_path": "resolvent.priors.L1", "init_args": {"weight": 2.5}},
            "solver": {"class_path": "resolvent.recon.FISTA", "init_args": {"max_iter": 20}}, "strength": "universal",
        },
        "threads": 2, "device": "cpu", "status": ["converged"] * batch, "iterations": 20, "seconds": 1.25,
        "certificate": [1e-4] * batch, "warnings": ["stopped early for a test"], "fingerprint": "cd" * 32,
    }  # fmt: skip
    return Result(image, history, full | record, truth=volume(batch=batch, seed=9), axes=axes)


def read(tmp_path, results, names):
    path = tmp_path / "report.html"
    write_report(results, names, path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def echo(names="xz", n_rows=9, n_columns=14, channels=1):
    """A flat image ``(rows, columns)`` that knows its axes, with its peak in row 2, column 5."""
    image = 1e-3 * torch.ones(1, channels, n_rows, n_columns, dtype=torch.complex64)
    image[0, :, 2, 5] = 3j
    axes = {names[0]: 1e-3 * torch.arange(n_columns), names[1]: 1e-3 * (10 + torch.arange(n_rows))}
    return Result(image, axes=axes, truth=image.roll(1, -1))


UNEVEN = {"x": torch.arange(6.0) ** 2, "y": torch.arange(7.0), "z": torch.arange(9.0)}
CASES = {
    "radar": ([radar()], ["l1"]),
    "three side by side": ([radar(), radar(seed=1), radar(seed=2)], ["bp", "l1", "tv"]),
    "flat, real": ([Result(torch.rand(1, 1, 12, 20), truth=torch.rand(1, 1, 12, 20))], ["flat"]),
    "flat, complex": ([Result(torch.randn(1, 1, 12, 20, dtype=torch.complex128))], ["phase"]),
    "flat, many channels": ([Result(torch.rand(1, 5, 12, 20))], ["bands"]),
    "echo": ([echo()], ["bmode"]),
    "echo, compared": ([echo(), echo()], ["one", "two"]),
    "flat, x and y, channels": ([echo("xy", channels=3)], ["slice"]),
    "nothing known": ([Result(volume())], ["bare"]),
    "zero": ([Result(torch.zeros(1, 1, 4, 5, 6), truth=torch.zeros(1, 1, 4, 5, 6))], ["zero"]),
    "not finite": ([Result(torch.full((1, 1, 4, 5), torch.nan))], ["nan"]),
    "one voxel": ([Result(torch.ones(1, 1, 1, 1, 1))], ["one"]),
    "uneven axes": ([Result(volume(), axes=UNEVEN)], ["uneven"]),
    "different kinds": ([radar(), Result(torch.rand(1, 1, 8, 8))], ["volume", "flat"]),
    "odd record": ([radar(status="converged", metrics={"psnr": 3, "odd": "text"}, config=None, input=3)], ["odd"]),
    "no iterations": ([Result(volume(), history={"relative_change": torch.zeros(0, 1)})], ["empty"]),
    "batch": ([radar(batch=2)], ["batch"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_page_is_whole_and_fetches_nothing(tmp_path, case):
    results, names = CASES[case]
    html = read(tmp_path, results, names)
    page = Page(html)
    assert all(a.startswith(("#", "data:image/png;base64,")) for a in page.addresses)
    assert not re.search(r"https?://|@import|url\(", html)
    for data in re.findall(r"data:image/png;base64,([\w+/=]+)", html):
        assert base64.b64decode(data).startswith(b"\x89PNG")
    assert page.tags.count("img") >= 1 or case in ("zero", "not finite")
    assert all(page.alts)
    for name in names:
        assert name in page.text


def test_page_says_what_a_reader_needs(tmp_path):
    text = Page(read(tmp_path, [radar(), radar(seed=1)], ["first", "second"])).text
    for words in (
        "NearFieldMIMO", "L1", "FISTA", "converged", "20 iterations", "1.25 s", "PSNR", "SSIM", "NMSE",
        "stopped early for a test", "scene.h5", "ab" * 32, "prior.weight", "2.5", "universal", "Seed", "Threads",
        "Device", "Full record", "from −30 to 0 dB", "Error", "Phase", "JavaScript",
        "x = −20 mm", "y = 0 mm", "z = 400 mm",
    ):  # fmt: skip
        assert words in text


def test_hostile_names_stay_text(tmp_path):
    record = {
        "input": {"path": HOSTILE, "sha256": HOSTILE}, "warnings": [HOSTILE], "operator": HOSTILE, "status": [HOSTILE],
        "config": {HOSTILE: HOSTILE}, "metrics": {HOSTILE: [1.0]}, "solver": HOSTILE, "version": HOSTILE,
    }  # fmt: skip
    axes = {HOSTILE: torch.arange(6.0), "y": torch.arange(7.0), "z": torch.arange(9.0)}
    html = read(tmp_path, [Result(volume(), record=record, axes=axes, history={HOSTILE: torch.ones(3, 1)})], [HOSTILE])
    page = Page(html)
    assert page.tags.count("script") == 2
    assert html.lower().count("<script") == 2
    assert HOSTILE in page.text
    data = re.search(r'id="viewer-data">(.*?)</script>', html, re.DOTALL).group(1)
    assert json.loads(data)["volumes"][0]["name"] == HOSTILE


def test_metrics_are_computed_from_the_truth_and_the_best_is_bold():
    truth = volume()
    good, bad = Result(truth, truth=truth + 0.01), Result(truth.roll(1, 2), truth=truth)
    html = metrics_table([good, bad], ["good", "bad"])
    row = re.search(r'<th scope="row">good</th>(.*?)</tr>', html).group(1)
    assert row.count("<strong>") == 3
    assert "<strong>" not in re.search(r'<th scope="row">bad</th>(.*?)</tr>', html).group(1)


def test_the_certificate_is_shown():
    html = metrics_table([Result(volume(), record={"certificate": [2.5e-4]}), Result(volume())], ["one", "other"])
    assert "Certificate" in html and "2.5e-04" in html


def test_long_batches_are_cut_and_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr("resolvent.apps.report_page.MAX_IMAGES", 2)
    html = read(tmp_path, [Result(torch.rand(10, 1, 4, 4))], ["many"])
    assert "Image 2 of 10" in html
    assert "Image 3 of 10" not in html
    assert "first 2 of 10 images" in html


def test_slices_meet_in_the_brightest_voxel():
    p = picture("p", volume()[0], {})
    assert p.brightest == (2, 3, 4)
    for panels in (slices(p, p.magnitude), projections(p, p.magnitude)):
        for panel in panels:
            right, up = panel.peak
            assert panel.values[int(up), int(right)] == panel.values.max() == 1.0


def test_axes_in_millimetres_only_where_they_fit():
    axes = {"x": torch.linspace(0, 0.5, 6), "y": torch.linspace(0, 0.6, 7), "z": torch.linspace(0, 0.8, 9)}
    fits = picture("p", volume()[0], axes)
    assert [axis.unit for axis in fits.axes] == ["mm"] * 3
    np.testing.assert_allclose(fits.axes[0].values, 100 * np.arange(6), atol=1e-4)
    assert [axis.unit for axis in picture("p", volume((6, 7, 8))[0], axes).axes] == [""] * 3


@pytest.mark.parametrize("names", ["xz", "xy"])
@pytest.mark.parametrize("n_columns", [14, 9], ids=["oblong", "square"])
def test_rows_of_a_flat_image_run_along_its_last_axis(names, n_columns):
    """Images are ``(z, x)`` or ``(y, x)``, their axes come as x, z or x, y; also where both are as long."""
    result = echo(names, n_columns=n_columns)
    p = picture("p", result.image[0], result.axes)
    assert [axis.label for axis in p.axes] == [f"{names[1]} (mm)", "x (mm)"]
    [panel] = slices(p, p.magnitude)
    assert panel.right.name == "x" and panel.peak == pytest.approx((5, 12), abs=1e-4)
    assert panel.values[2, 5] == 1 and panel.first_row_on_top
    assert p.peak_place == f"{names[1]} = 12 mm, x = 5 mm"


def scale_of(html):
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', html, re.DOTALL).group(1))
    return data["scale"], data["range"]


def test_echo_images_are_read_in_decibels(tmp_path):
    html = read(tmp_path, [echo()], ["bmode"])
    assert scale_of(html) == ("db", 60)
    assert html.index('data-value="db"') < html.index('data-value="linear"')
    assert html.index("common scale from −60 to 0 dB") < html.index("circle), linear")


@pytest.mark.parametrize("result", [echo("xy"), Result(torch.rand(1, 1, 5, 6), truth=torch.rand(1, 1, 5, 6))])
def test_other_flat_images_are_linear_first(tmp_path, result):
    html = read(tmp_path, [result], ["slice"])
    assert scale_of(html) == ("linear", 30)
    assert html.index('data-value="linear"') < html.index('data-value="db"')
    assert html.index("circle), linear") < html.index("common scale from −30 to 0 dB")


def test_large_volumes_keep_their_peak_and_say_they_are_coarse(tmp_path, monkeypatch):
    values = np.random.default_rng(0).random((7, 8, 9))
    small = block_maximum(values, 3)
    assert small.shape == (3, 3, 3)
    assert small[0, 1, 2] == values[0:3, 3:6, 6:9].max()
    monkeypatch.setattr("resolvent.apps.report_viewer.BUDGET", 100)
    html = read(tmp_path, [Result(volume())], ["large"])
    assert "shown coarser" in html
    [stored] = json.loads(re.search(r'id="viewer-data">(.*?)</script>', html, re.DOTALL).group(1))["volumes"]
    assert len(base64.b64decode(stored["data"])) == np.prod(stored["shape"]) <= 100
    assert max(base64.b64decode(stored["data"])) == 255


def test_bad_places_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="found 0 results"):
        write_report([], [], tmp_path / "report.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_report([Result(volume())], ["a"], tmp_path / "file" / "report.html")


def test_command_line(tmp_path, capsys):
    for name in ("a", "b"):
        save_result(tmp_path / f"{name}.h5", radar())
    assert main([str(tmp_path / "a.h5")]) == 0
    assert main([str(tmp_path / "a.h5"), str(tmp_path / "b.h5"), "--out", str(tmp_path / "both.html")]) == 0
    assert "both.html" in capsys.readouterr().out
    Page((tmp_path / "a.html").read_text())
    assert "2 reconstructions compared" in (tmp_path / "both.html").read_text()
    before = load_result(tmp_path / "a.h5")
    with pytest.raises(InputError, match="one of the files that are read"):
        main([str(tmp_path / "a.h5"), "--out", str(tmp_path / "a.h5")])
    assert torch.equal(load_result(tmp_path / "a.h5").image, before.image)
    with pytest.raises(InputError, match="folder"):
        main([str(tmp_path / "a.h5"), "--out", str(tmp_path)])


def test_default_places_and_names(tmp_path):
    a, b = tmp_path / "x" / "r.h5", tmp_path / "y" / "r.h5"
    assert default_path([a]) == tmp_path / "x" / "r.html"
    assert default_path([a, b]) == tmp_path / "x" / "comparison.html"
    assert distinct_names([a, b]) == ["x/r.h5", "y/r.h5"]
    deep = tmp_path / ("d" * 90)
    assert distinct_names([deep / "x" / ("e" * 90) / "r.h5", deep / "r.h5", deep / "s.h5"]) == [
        "x/" + "e" * 90 + "/r.h5", "r.h5", "s",
    ]  # fmt: skip
    assert distinct_names([a]) == ["r"]


def test_defaults_of_matplotlib_stay_untouched(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_report([Result(torch.rand(1, 1, 4, 4))], ["a"], tmp_path / "a.html")
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not matplotlib.pyplot.get_fignums()


def test_reports_from_threads_are_equal(tmp_path):
    """No figure is shared: two threads write the page that one writes."""
    result, paths = Result(volume()), [tmp_path / f"{i}.html" for i in range(3)]
    write_report([result], ["r"], paths[0])
    threads = [threading.Thread(target=write_report, args=([result], ["r"], path)) for path in paths[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths[0].read_bytes() == paths[1].read_bytes() == paths[2].read_bytes()


def test_module_is_light_to_import():
    heavy = "import sys, resolvent.apps.report; print([m for m in ('torch', 'matplotlib', 'h5py') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- in a browser -----------------------------------------------------------------------------------
DRIVER = """
<script>
(() => {
  const box = document.documentElement, sums = [], canvas = document.getElementById("viewer-canvas");
  const note = () => sums.push(canvas.getAttribute("data-checksum"));
  const press = (key) => { canvas.dispatchEvent(new KeyboardEvent("keydown", { key })); note(); };
  note();
  for (const key of ["ArrowRight", "Home", "2", "l", "r"]) press(key);
  for (const kind of ["maximum", "turn"]) { document.querySelector(`[data-value=${kind}]`)?.click(); note(); }
  press("ArrowUp");
  canvas.dispatchEvent(new PointerEvent("pointermove", { clientX: 300, clientY: 300 }));
  box.setAttribute("data-sums", sums.join(" "));
})();
</script>
"""


@pytest.fixture
def browser(tmp_path):
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine")
    quiet = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'browser'}",
    ]  # fmt: skip

    def run(path, *options):
        command = [program, *quiet, *options, path.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["radar", "three side by side", "flat, real", "echo", "nothing known", "zero", "batch", "one voxel"]
)
def test_script_runs_and_draws(tmp_path, browser, case):
    path = tmp_path / "report.html"
    write_report(*CASES[case], path)
    dom = browser(path, "--dump-dom")
    assert 'data-ready="drawn"' in dom
    assert "data-error" not in re.search(r"<html[^>]*>", dom).group(0)
    assert '<div id="viewer-box">' in dom
    drawn = int(re.search(r'data-checksum="(\d+)"', dom).group(1))
    assert (drawn > 0) == (case != "zero")


@pytest.mark.slow
def test_controls_change_the_picture(tmp_path, browser):
    path = tmp_path / "report.html"
    write_report([radar(), radar(seed=3)], ["one", "two"], path)
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text())
    path.write_text(html.replace("</body>", DRIVER + "</body>"))
    head = re.search(r"<html[^>]*>", browser(path, "--dump-dom")).group(0)
    assert "data-error" not in head
    sums = re.search(r'data-sums="([^"]*)"', head).group(1).split()
    first, moved, home, *others = sums
    assert first == home != moved
    assert len({home, *others}) == len(others) + 1


@pytest.mark.slow
def test_policy_stops_foreign_scripts(tmp_path, browser):
    path = tmp_path / "report.html"
    write_report([radar()], ["one"], path)
    foreign = '<script>document.documentElement.setAttribute("data-foreign", "ran")</script></body>'
    path.write_text(path.read_text().replace("</body>", foreign))
    head = re.search(r"<html[^>]*>", browser(path, "--dump-dom")).group(0)
    assert "data-ready" in head
    assert "data-foreign" not in head


@pytest.mark.slow
def test_screenshot_is_not_blank(tmp_path, browser):
    from matplotlib.image import imread

    path, shot = tmp_path / "report.html", tmp_path / "shot.png"
    write_report([radar()], ["one"], path)
    browser(path, "--window-size=1200,1600", "--hide-scrollbars", f"--screenshot={shot}")
    pixels = imread(shot)[..., :3]
    dark = (pixels < 0.1).all(-1).mean()
    assert 0.02 < dark < 0.8


def test_photographs_are_shown_in_colour():
    """As they are, with no phase; complex images of three channels are not photographs."""
    photograph = torch.linspace(0, 1, 3 * 20 * 30).reshape(3, 20, 30)
    shown = picture("a", photograph, {})
    assert shown.phase is None
    expected = np.clip(photograph.permute(1, 2, 0).numpy() / np.quantile(photograph, 0.999), 0, 1)
    np.testing.assert_allclose(shown.colours, expected, atol=1e-6)
    assert picture("a", photograph.to(torch.complex64), {}).colours is None
    assert picture("a", photograph[None, :1], {}).colours is None
    text = page([Result(photograph[None], {}, {})], ["a"])
    assert text.count("In colour") >= 1 and "Phase," not in text


def test_channels_that_are_no_colours_are_drawn_one_by_one(tmp_path):
    five = torch.rand(1, 5, 8, 9)
    shown = picture("a", five[0], {})
    assert shown.colours is None
    np.testing.assert_allclose(np.stack(shown.channels), five[0].numpy())
    assert picture("a", five[0, :3], {}).channels == () == picture("a", five[0, :1], {}).channels
    text = page([Result(five, {}, {})], ["a"])
    assert all(text.count(f"Channel {i} of 5, one scale for all.</figcaption>") == 1 for i in range(1, 6))
    assert page([Result(torch.rand(1, 14, 8, 9), {}, {})], ["a"]).count("of 14, one scale for all.</figcaption>") == 12
