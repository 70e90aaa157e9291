"""Growth: where it stops, and what is kept."""

import json

from simulations.bench import growth
from simulations.bench.growth import GrowthBench, overlapping_rows
from simulations.cli import STOPPED
from tests.simulations.bench.command import bench


def test_overlapping_rows_differ():
    matrix = overlapping_rows(4, 50_000)
    assert len({row.tobytes() for row in matrix}) == 4
    assert not matrix.flags.writeable


def test_growth_stops_where_it_would_take_too_long():
    measured = GrowthBench(1, 24, 1000, limit=0.0)
    assert len(list(measured.run())) == len(measured.results) == 2 * len(growth.CHAINS)
    for result in measured.results:
        assert len(result.sizes) == 1
        if result.variable == "n":
            assert "more than 0 s are not spent" in result.ended


def test_growth_stops_where_memory_ends(monkeypatch):
    monkeypatch.setattr(growth, "free_bytes", lambda: 2_500_000)
    measured = GrowthBench(1, 100, 1000, limit=60.0)
    list(measured.run())
    for result in measured.results:
        # Rows begin 65,644 bytes apart, and a fifth of the memory is left to others.
        assert result.sizes == ([17, 24] if result.variable == "n" else [10_000])
    assert "34 may need 2.28 MB of memory, and 2.5 MB are free" in measured.results[0].ended


def test_a_long_call_is_not_repeated(monkeypatch):
    calls = []

    def fake(seconds):
        monkeypatch.setattr(growth, "timed", lambda work: (calls.append(work) or seconds, None))
        return GrowthBench(3, 17, 1000, limit=60.0)._seconds(None), len(calls)

    assert fake(growth.LONG + 1) == (growth.LONG + 1, 1)
    assert fake(growth.LONG / 2) == (growth.LONG / 2, 1 + 1 + 3)


def test_growth_that_is_stopped_leaves_its_points(tmp_path, monkeypatch):
    calls, measure = [], growth.GrowthBench._seconds

    def stop(self, work):
        calls.append(work)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(self, work)

    monkeypatch.setattr(growth.GrowthBench, "_seconds", stop)
    result = bench(tmp_path, "--growth", "--only", "Mean", "--skip-peers", "--skip-matrices")
    assert result.exit_code == STOPPED
    assert "Stopped." in result.output
    found = json.loads((tmp_path / "bench.json").read_text())
    assert [len(each["seconds"]) for each in found["growth"]] == [1, 1, *[0] * (len(growth.CHAINS) * 2 - 2)]
    assert all(len(each["seconds"]) == len(each["sizes"]) for each in found["growth"])
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
