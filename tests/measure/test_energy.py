"""Energy: counters where there are some, an estimate that says so where there are none."""

from pathlib import Path

import pytest
import torch

from explorer.measure import energy


@pytest.fixture
def counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for zone, joules in (("intel-rapl:0", 10), ("intel-rapl:1", 90), ("intel-rapl:0:0", 5)):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "energy_uj").write_text(f"{joules * 10**6}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text(f"{100 * 10**6}\n")
    monkeypatch.setattr(energy, "SECONDS", 0.0)
    monkeypatch.setattr(energy, "package_joules", lambda read=energy.package_joules: read(tmp_path))
    return tmp_path


def test_packages_are_read_and_the_zones_in_them_are_not_added(counters: Path) -> None:
    assert energy.package_joules() == {"intel-rapl:0": (10, 100), "intel-rapl:1": (90, 100)}


def test_a_counter_that_started_anew_has_not_gone_backwards(counters: Path) -> None:
    before = energy.package_joules()
    assert energy.spent(before, {"intel-rapl:0": (13, 100), "intel-rapl:1": (5, 100)}) == 3 + 15


def test_what_is_counted_is_measured(counters: Path) -> None:
    def step() -> None:
        (counters / "intel-rapl:0" / "energy_uj").write_text(str(16 * 10**6))

    found = energy.per_token(step, ms=1e9, tokens=3, grams_per_kwh=500)
    assert found.joules_per_token.how == found.kwh_per_million.how == "measured" and found.source == energy.RAPL
    assert found.joules_per_token.value == 2 and found.joules_per_token.n == 1
    assert found.kwh_per_million.value == pytest.approx(2e6 / 3.6e6)
    assert found.co2_g_per_million.value == pytest.approx(500 * 2e6 / 3.6e6)
    assert found.co2_g_per_million.how == "estimated"


def test_what_cannot_be_counted_is_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "package_joules", dict)
    found = energy.per_token(lambda: pytest.fail("nothing to run"), ms=10, tokens=2, grams_per_kwh=480)
    assert {found.joules_per_token.how, found.kwh_per_million.how, found.co2_g_per_million.how} == {"estimated"}
    assert found.joules_per_token.value == pytest.approx(energy.WATTS_PER_THREAD * torch.get_num_threads() * 0.01 / 2)
    assert found.source == energy.ESTIMATED


def test_counters_that_nobody_may_read_are_none(counters: Path) -> None:
    (counters / "intel-rapl:1" / "energy_uj").unlink()
    assert energy.package_joules() == {}
