"""Data sets: found on this machine without network, downloaded in parts, believed only by their SHA-256."""

import hashlib
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from resolvent.apps.cli import INPUT, OK, main
from resolvent.datasets import InputError
from resolvent.datasets.registry import DataFile, DataSet, fetch, find, known_sets

pytest.importorskip("pooch")
CONTENT = bytes(range(256)) * 20_000


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT with Range; ``cut`` says after how many bytes the next answer breaks off."""

    cut, asked, ranges, url = None, [], True, ""

    def do_GET(self):
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if self.ranges else None
        start = int(wanted[1]) if wanted else 0
        type(self).asked.append(start)
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end, type(self).cut = self.cut, None
        self.wfile.write(CONTENT[start:][:end])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A local server, and the registry of one set that it serves."""
    monkeypatch.setattr(Server, "asked", [])
    monkeypatch.setattr(Server, "cut", None)
    monkeypatch.setattr(Server, "ranges", True)
    monkeypatch.delenv("RESOLVENT_DATA", raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        Server.url = f"http://127.0.0.1:{http.server_port}/a.bin"
        registered(monkeypatch, CONTENT, Server.url)
        yield Server
        http.shutdown()


def registered(monkeypatch, content, url):
    file = DataFile("a.bin", hashlib.sha256(content).hexdigest(), len(content), url)
    rows = {"ours": DataSet("ours", "bytes", "https://example.org", "CC0", (file,))}
    monkeypatch.setattr("resolvent.datasets.registry.known_sets", lambda: rows)


def test_a_set_is_downloaded_once(server, tmp_path):
    (path,) = fetch("ours", tmp_path)
    assert path.read_bytes() == CONTENT and server.asked == [0]
    assert fetch("ours", tmp_path) == [path] and server.asked == [0]
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_download_goes_on(ranges, server, tmp_path, monkeypatch):
    """From where it stopped, or from the start where the server cannot do that."""
    server.cut, server.ranges = 3_000_000, ranges
    with pytest.raises(InputError, match=r"cannot be had .*the same command goes on"):
        fetch("ours", tmp_path)
    assert not find("ours", tmp_path)
    (path,) = fetch("ours", tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked[0] == 0 and (0 < server.asked[1] <= 3_000_000 if ranges else server.asked[1] == 0)


def test_all_came_but_the_end_of_the_connection(server, tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / ".a.bin.part").write_bytes(CONTENT)
    assert fetch("ours", tmp_path)[0].read_bytes() == CONTENT


def test_another_file_than_expected_is_refused_and_nothing_is_kept(server, tmp_path, monkeypatch):
    registered(monkeypatch, CONTENT[::-1], server.url)
    with pytest.raises(InputError, match="is another file than when it was registered"):
        fetch("ours", tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_copy_on_this_machine_is_found_by_its_content(server, tmp_path, monkeypatch):
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    copy = tmp_path / "mine" / "deep" / "renamed"
    copy.write_bytes(CONTENT)
    (tmp_path / "mine" / "a.bin").write_bytes(CONTENT[:-1] + b"x")
    monkeypatch.setenv("RESOLVENT_DATA", f"{tmp_path / 'nowhere'}:{tmp_path / 'mine'}")
    assert fetch("ours", tmp_path / "cache") == [copy] and server.asked == []
    assert not (tmp_path / "cache").exists()


def test_a_set_without_address_says_where_it_is(tmp_path, monkeypatch):
    registered(monkeypatch, CONTENT, None)
    with pytest.raises(InputError, match=r"no address known for a.bin; get it from https://example.org .* RESOLVENT"):
        fetch("ours", tmp_path)


def test_no_server(tmp_path, monkeypatch):
    registered(monkeypatch, CONTENT, "http://127.0.0.1:9/a.bin")
    with pytest.raises(InputError, match="cannot be had"):
        fetch("ours", tmp_path)


def test_every_entry_is_complete():
    rows = known_sets()
    assert len(rows) >= 15
    for row in rows.values():
        assert row.origin and row.licence and row.about and row.files
        assert all(re.fullmatch("[0-9a-f]{64}", f.sha256) and f.size > 0 for f in row.files)
        assert all(f.url is None or f.url.startswith("https://") for f in row.files)


def test_every_entry_is_the_file_beside_the_checkout(shared_data, monkeypatch, tmp_path):
    monkeypatch.setenv("RESOLVENT_DATA", str(shared_data))
    for name, row in known_sets().items():
        assert set(find(name, tmp_path)) == {f.name for f in row.files}


def test_the_verb(server, tmp_path, capsys):
    assert main(["datasets"]) == OK and "CC0" in capsys.readouterr().out
    assert main(["datasets", "ours", "--folder", str(tmp_path)]) == OK
    assert capsys.readouterr().out == f"{tmp_path}/ours/a.bin\n"
    assert main(["datasets", "nothing"]) == INPUT
    assert "'nothing' is no data set, expected one of ours" in capsys.readouterr().err
