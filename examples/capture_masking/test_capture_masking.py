"""Captures are masked, and are bit for bit what they were, wherever temporary files live."""

from __future__ import annotations

import pytest

from captures import CaptureError, dpkt, make_capture, read
from main import main
from masking import Pipeline, RunFailed
from stages import STAGES, Stage, careless
from tempscope import HardlinkStorage, LocalDiskStorage, MemoryStorage, TempScopes


@pytest.fixture(params=["disk", "hardlink", "memory"])
def scopes(request, tmp_path):
    """Open scopes on each storage in turn, and see that nothing is left."""
    base = tmp_path / "base"
    makers = {
        "disk": lambda: LocalDiskStorage(base),
        "hardlink": lambda: HardlinkStorage(base),
        "memory": MemoryStorage,
    }
    with makers[request.param]() as storage:
        scopes = TempScopes(storage)
        yield scopes
        assert list(storage.areas()) == []
        assert scopes.active() == []


@pytest.fixture
def capture(tmp_path):
    """Make a capture; it must be bit for bit what it was at the end."""
    path = tmp_path / "capture.pcap"
    make_capture(path, 400)
    before = path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode
    yield path
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) == before


@pytest.fixture
def out(tmp_path):
    """Give a directory for products."""
    place = tmp_path / "out"
    place.mkdir()
    return place


@pytest.mark.parametrize("trusting", [True, False])
def test_a_capture_is_masked(scopes, capture, out, trusting):
    """The product has every frame once, no real address, and short payloads; progress ends at 1."""
    told = {}
    result = Pipeline(scopes, trusting=trusting).run(capture, out / "masked.pcap", told.__setitem__)
    packets = [dpkt.ethernet.Ethernet(frame).data for _, frame in read(out / "masked.pcap")]
    assert len(packets) == result.packets == 400
    assert all(packet.src[0] == packet.dst[0] == 10 for packet in packets)
    assert len({packet.src for packet in packets}) == 40
    assert all(len(packet.data.data) == 32 for packet in packets)
    assert {told[stage.name] for stage in STAGES} == {1.0}
    assert list(out.iterdir()) == [out / "masked.pcap"]


def test_a_careless_stage_harms_nothing(scopes, capture, out):
    """A stage that writes into its input fails the run, by name; the capture stays, nothing comes out."""
    for stages, number in (([Stage("bad", careless)], 1), ([STAGES[0], Stage("bad", careless)], 2)):
        with pytest.raises(RunFailed, match=rf"stage {number} \(bad\) wrote into its input"):
            Pipeline(scopes, stages).run(capture, out / "masked.pcap")
        assert list(out.iterdir()) == []


def test_a_trusted_careless_stage_is_found_out(tmp_path, out):
    """With a hard link the write reaches the capture; the run fails, and says that, twice."""
    path = tmp_path / "capture.pcap"
    make_capture(path, 10)
    with HardlinkStorage(tmp_path / "base") as storage:
        pipeline = Pipeline(TempScopes(storage), [Stage("bad", careless)], trusting=True)
        with pytest.raises(RunFailed, match=r"stage 1 \(bad\) wrote into the capture itself") as caught:
            pipeline.run(path, out / "masked.pcap")
    assert any("changed while it was" in note for note in caught.value.__notes__)
    assert list(out.iterdir()) == []


def test_what_is_no_capture(scopes, tmp_path, out):
    """A file that is none fails the run with its name."""
    (tmp_path / "notes.txt").write_text("no packets")
    with pytest.raises(RunFailed, match="no packet capture") as caught:
        Pipeline(scopes).run(tmp_path / "notes.txt", out / "masked.pcap")
    assert isinstance(caught.value.__cause__, CaptureError)


@pytest.mark.parametrize("backend", ["disk", "hardlink", "memory"])
def test_the_command_line(backend, capture, tmp_path, monkeypatch, capsys):
    """The program masks the capture that it is given, survives the careless stage, and says so."""
    monkeypatch.setenv("TEMPSCOPE_BASE_DIR", str(tmp_path / "base"))
    monkeypatch.chdir(tmp_path)
    assert main([str(capture), "--backend", backend]) == 0
    assert (tmp_path / "capture_masking_output" / "masked-capture.pcap").exists()
    said = capsys.readouterr().out
    assert said.count("bit for bit what it was") == 2
    assert "wrote into its input" in said
    (tmp_path / "empty").touch()
    assert main([str(tmp_path / "empty"), "--no-failure"]) == 1
    assert main([str(tmp_path / "missing"), "--no-failure"]) == 2
