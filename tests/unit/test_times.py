"""Durations and instants: what people write is what is meant, or it is refused in words."""

from __future__ import annotations

import math
from datetime import datetime
from importlib import resources
from typing import TYPE_CHECKING

import pytest

from spool import times
from spool.machine import zone_of, zone_of_tz

if TYPE_CHECKING:
    from pathlib import Path

NOW = times.parse_utc("2026-11-21T12:00:00Z")
ROME = times.zone("Europe/Rome")
UTC = times.zone("UTC")


def at(value: object, zone: object = ROME, base: int | None = None) -> str:
    us = times.parse_time(value, now_us=NOW, zone=zone, base_us=base)  # type: ignore[arg-type]
    return times.format_utc(us)


@pytest.mark.parametrize(
    ("written", "us"),
    [
        (90, 90_000_000),
        (0, 0),
        (0.1, 100_000),
        (1.1, 1_100_000),
        ("90s", 90_000_000),
        ("2h30m", 9_000_000_000),
        ("3d", 259_200_000_000),
        ("1w", 604_800_000_000),
        ("500ms", 500_000),
        ("1.5h", 5_400_000_000),
        ("1w2d3h4m5s6ms", 788_645_006_000),
        ("0s", 0),
        ("5m5ms", 300_005_000),
    ],
)
def test_a_duration_means_what_it_says(written: object, us: int) -> None:
    assert times.parse_duration(written) == us


def test_a_duration_above_zero_never_becomes_zero() -> None:
    assert times.parse_duration(1e-9) == 1
    assert times.parse_duration("0.000001ms") == 1


@pytest.mark.parametrize(
    "written",
    [
        True, False, None, [], {}, "", " 1s", "1s ", "90", "1m1h", "1h1h", "s", "1", "-1s", "+1s",
        "1 s", "1S", "\u0661s", "1s\n", "1e3s", ".5s", "1.s", "9" * 5000 + "s", -1, -0.1, math.nan,
        math.inf, -math.inf, 1e300, 10**400, "999999999999w", b"1s",
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_the_rule(written: object) -> None:
    with pytest.raises(ValueError, match=r"^must be "):
        times.parse_duration(written)


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("2026-11-21T14:30:00Z", "2026-11-21T14:30:00.000000Z"),
        ("2026-11-21t14:30:00z", "2026-11-21T14:30:00.000000Z"),
        ("2026-11-21 14:30:00.5+05:30", "2026-11-21T09:00:00.500000Z"),
        ("2026-11-21T14:30:00.1234569-08:00", "2026-11-21T22:30:00.123456Z"),
        ("2026-11-21T14:30-00:00", "2026-11-21T14:30:00.000000Z"),
        ("2026-11-21", "2026-11-20T23:00:00.000000Z"),
        ("2026-11-21 14:30", "2026-11-21T13:30:00.000000Z"),
        ("2026-07-21T14:30:05.25", "2026-07-21T12:30:05.250000Z"),
        (1_795_262_400, "2026-11-21T12:00:00.000000Z"),
        (1_795_262_400.25, "2026-11-21T12:00:00.250000Z"),
        ("+90s", "2026-11-21T12:01:30.000000Z"),
        ("+2h30m", "2026-11-21T14:30:00.000000Z"),
        ("+3d", "2026-11-24T12:00:00.000000Z"),
        ("2028-02-29", "2028-02-28T23:00:00.000000Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000000Z"),
        ("2017-01-01T00:59:60.000+01:00", "2017-01-01T00:00:00.000000Z"),
        ("2017-01-01 00:59:60", "2017-01-01T00:00:00.000000Z"),
    ],
)
def test_a_time_means_what_it_says(written: object, utc: str) -> None:
    assert at(written) == utc


def test_relative_times_count_from_the_base() -> None:
    assert at("+1h", base=NOW - times.DAY) == "2026-11-20T13:00:00.000000Z"


@pytest.mark.parametrize(
    ("zone", "written", "utc"),
    [
        ("Europe/Rome", "2026-03-29 02:30", "2026-03-29T01:00:00.000000Z"),
        ("Europe/Rome", "2026-10-25 02:30", "2026-10-25T00:30:00.000000Z"),
        ("America/New_York", "2027-03-14 02:00", "2027-03-14T07:00:00.000000Z"),
        ("America/New_York", "2027-03-14 02:59:59.999", "2027-03-14T07:00:00.000000Z"),
        ("Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-03T15:30:00.000000Z"),
        ("America/Havana", "2024-03-10", "2024-03-10T05:00:00.000000Z"),
    ],
)
def test_skipped_times_move_behind_the_gap_and_doubled_ones_mean_the_first(
    zone: str, written: str, utc: str
) -> None:
    assert at(written, times.zone(zone)) == utc


@pytest.mark.parametrize(
    "written",
    [
        "tomorrow", "now", "", "2026-02-30", "2027-02-29", "2026-12-01T24:00", "2026-13-01",
        "2026-12-01T10:60", "2026-12-01T10:00:61Z", "2026-12-01T10:00:00+24:00", "+", "+90", "-1h",
        "2026-12-01T10:00:60.5Z", "9999-12-31T23:59:60Z", "2026-12-01T10:00:00+01", "01/02/2027", "20261201", "2026-12-1", "2026-12-01Z",
        "2026-12-01T10:00:00 Z", "2026-12-01\n", "1795262400", "9999-12-31T23:59:59+14:00",
        "9999-12-31", "9999-12-31T23:59:59-14:00", "0001-01-01", "0001-01-01T00:00:00+14:00",
        "0000-01-01", "1999-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "+100000w", "+6w3900w",
        0, -1, 1e300, -1e300, math.nan, math.inf, 10**400, True, None, [], {},
        "\u0662026-12-01", "2026-12-01T10:00:00.Z",
    ],
)  # fmt: skip
def test_what_is_no_time_or_out_of_range_is_refused_with_the_rule(written: object) -> None:
    for zone in (ROME, UTC, times.zone("Pacific/Kiritimati")):
        with pytest.raises(ValueError, match=r"^must "):
            at(written, zone)


def test_this_century_is_the_limit() -> None:
    assert at("2000-01-01T00:00:00Z") == "2000-01-01T00:00:00.000000Z"
    assert at("2099-12-31T23:59:59Z") == "2099-12-31T23:59:59.000000Z"


@pytest.mark.parametrize(
    "name",
    ["", "../../etc/passwd", "/etc/localtime", "Mars/Base", "a" * 256, "a" * 255, "a\0b", "Europe",
     "Europe/", "tzdata.zi", "\ud800", None, 7],
)  # fmt: skip
def test_what_is_no_zone_is_refused_and_nothing_else_is_raised(name: object) -> None:
    with pytest.raises(ValueError, match=r"^must be a time zone"):
        times.zone(name)


def test_an_instant_for_machines_has_always_six_digits() -> None:
    assert times.format_utc(NOW) == "2026-11-21T12:00:00.000000Z"
    assert times.format_utc(NOW + 1) == "2026-11-21T12:00:00.000001Z"


def test_an_instant_for_people_names_its_zone() -> None:
    assert times.format_local(NOW, ROME) == "2026-11-21 13:00:00 CET"
    assert times.format_local(NOW) == "2026-11-21 12:00:00 UTC"


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0 ms"),
        (1, "under 1 ms"),
        (350_000, "350 ms"),
        (times.SECOND, "1 s"),
        (2 * times.HOUR + 5 * times.MINUTE + 3, "2 h 5 min"),
        (times.DAY + times.MINUTE, "1 d"),
        (30 * times.DAY, "30 d"),
        (-3 * times.DAY - times.HOUR, "-3 d 1 h"),
    ],
)
def test_a_span_shows_its_two_largest_units(us: int, text: str) -> None:
    assert times.format_span(us) == text


@pytest.mark.parametrize("text", ["", "2026-11-21", "2026-11-21T12:00:00", "x", "2026-02-30T00:00Z"])
def test_a_stored_instant_without_offset_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be "):
        times.parse_utc(text)


def test_the_machines_zone_is_tz_then_localtime_then_utc(tmp_path: object) -> None:
    missing = f"{tmp_path}/none"
    assert zone_of("Asia/Tokyo", environ={"TZ": "UTC"}).key == "Asia/Tokyo"
    assert zone_of("", environ={"TZ": ":Asia/Tokyo"}, localtime=missing).key == "Asia/Tokyo"
    assert zone_of("", environ={"TZ": "nonsense"}, localtime=missing).key == "UTC"
    for rule in ("CET-1CEST", "Bogus/X", "/", "/etc/passwd"):
        assert zone_of("", environ={"TZ": rule}, localtime=missing).key == "UTC"
        assert zone_of_tz({"TZ": rule}) is None
    link = "/usr/share/zoneinfo/Europe/Rome"
    assert zone_of("", environ={}, localtime=link).key in ("Europe/Rome", "localtime", "UTC")


@pytest.mark.parametrize(
    ("rule", "summer", "winter"),
    [
        ("CET-1CEST,M3.5.0,M10.5.0/3", "14:00 CEST", "13:00 CET"),
        ("EST5EDT,M3.2.0,M11.1.0", "08:00 EDT", "07:00 EST"),
        ("<+03>-3", "15:00 +03", "15:00 +03"),
        (":UTC0", "12:00 UTC", "12:00 UTC"),
    ],
)
def test_tz_may_be_a_rule_as_posix_has_it(rule: str, summer: str, winter: str) -> None:
    zone = zone_of("", environ={"TZ": rule})
    for month, told in ((7, summer), (1, winter)):
        assert f"{datetime(2027, month, 1, 12, tzinfo=UTC).astimezone(zone):%H:%M %Z}" == told
    assert zone.key == rule.removeprefix(":")


def test_tz_may_be_the_path_of_a_file(tmp_path: Path) -> None:
    rome = resources.files("tzdata") / "zoneinfo/Europe/Rome"
    file = tmp_path / "mine"
    file.write_bytes(rome.read_bytes())
    for text in (str(file), f":{file}"):
        zone = zone_of("", environ={"TZ": text})
        assert (zone.key, at("2027-07-01", zone)) == (str(file), at("2027-07-01", ROME))
