# SPDX-License-Identifier: Apache-2.0
"""Logs: one line per event, whatever its values are made of, and no subscriber's address unless that is allowed."""

import argparse
import json
import logging
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoaflow.logs import AddressHider, JsonFormatter, Log, LogSettings, TextFormatter, add_options, set_up
from hoaflow.logs.events import LINES_PER_SECOND

HOME_ADDRESS = "2001:db8:99::100"
KEY = b"a secret of sixteen bytes or more"


class Lines(logging.Handler):
    """Keeps formatted lines."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Provide the logger of all parts, at level debug."""
    logger = logging.getLogger("hoaflow")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    for name in ("test", "library"):
        # Mininet, once imported, gives each new logger a level of its own.
        logger.getChild(name).setLevel(logging.NOTSET)
    yield logger
    logger.setLevel(before)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)


def text(logger: logging.Logger, **options: object) -> list[str]:
    """Return where lines of `key=value` will stand."""
    handler = Lines(TextFormatter(AddressHider(KEY, **options)))  # type: ignore[arg-type]
    logger.addHandler(handler)
    return handler.lines


def members(line: str) -> dict[str, str]:
    """Return the fields of a line, as a reader of `key=value` takes it apart."""
    return dict(part.split("=", 1) for part in shlex.split(line))


def test_an_event_is_one_line_of_fields(logger: logging.Logger) -> None:
    lines = text(logger)
    Log("test").info("binding-sent", status=200, reason="no route to host", sequence=None, up=True)
    time, _, rest = lines[0].partition(" ")
    assert time.startswith("time=20")
    assert time.endswith("Z")
    assert rest == 'level=info event=binding-sent status=200 reason="no route to host" sequence=- up=true'


def test_json_keeps_numbers_and_names(logger: logging.Logger) -> None:
    handler = Lines(JsonFormatter(AddressHider(KEY)))
    logger.addHandler(handler)
    Log("test").warning("x", count=3, part=0.5, none=None, yes=True, far=float("inf"), what=ValueError("no\nline"))
    found = json.loads(handler.lines[0])
    assert found.pop("time")
    assert found == {
        "level": "warning",
        "event": "x",
        "count": 3,
        "part": 0.5,
        "none": None,
        "yes": True,
        "far": "inf",
        "what": "no\nline",
    }


HOSTILE = [
    "eth0\nlevel=error event=forged",
    'eth0" event=forged x="',
    "a=b event=forged",
    "\x1b[2J\x1b]0;owned\x07",
    "line\u2028sep\u0085next\rback",
    "back\\slash\\",
    "",
    "\ud800 no character",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_can_neither_end_a_line_nor_begin_a_field(logger: logging.Logger, value: str) -> None:
    lines = text(logger)
    handler = Lines(JsonFormatter(AddressHider(KEY)))
    logger.addHandler(handler)
    Log("test").info("heard", interface=value, after="kept")
    for line in (lines[0], handler.lines[0]):
        assert len(line.splitlines()) == 1
        assert line.isascii()
        assert line.isprintable()
    assert members(lines[0]).keys() == {"time", "level", "event", "interface", "after"}
    assert members(lines[0])["event"] == "heard"
    assert json.loads(handler.lines[0])["interface"] == value


@given(st.text())
def test_any_value_comes_back_as_it_was(value: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (value,), None)
    line = TextFormatter(AddressHider(KEY, allowed=True)).format(record)
    shown = line.partition("message=")[2]
    assert (json.loads(shown) if shown.startswith('"') else shown) == (value if value != "" else "")
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    "value",
    [
        HOME_ADDRESS,
        f"{HOME_ADDRESS}/128",
        "2001:DB8:99:0:0:0:0:100",
        f"home_address: {HOME_ADDRESS} lies outside",
        f"no route to {HOME_ADDRESS}: giving up",
        f"[{HOME_ADDRESS}]:8080",
        f"{HOME_ADDRESS}.8080",
        f"of{HOME_ADDRESS}",
        f"priority=100,ipv6,ipv6_dst={HOME_ADDRESS} actions=dec_ttl",
        "{ 2001:db8:2::2 . 0x20010db8009900000000000000000100 }",
        f"/v1/bindings/{HOME_ADDRESS}",
    ],
)
def test_subscribers_addresses_are_replaced_wherever_they_stand(logger: logging.Logger, value: str) -> None:
    lines = text(logger)
    Log("test").info("x", home_address=HOME_ADDRESS)
    pseudonym = members(lines[0])["home_address"]
    Log("test").info("x", reason=value)
    assert pseudonym in lines[1]
    assert "db8" not in lines[1].lower()
    assert len(pseudonym) == 11


def test_ipv4_home_addresses_too_but_nothing_else(logger: logging.Logger) -> None:
    lines = text(logger)
    Log("test").info("x", a="10.99.0.100", b="10.99.0.100:6653")
    assert "10.99" not in lines[0]
    kept = {"mac": "02:0b:bf:14:69:1b", "at": "12:34:56", "version": "0.1.0", "s": "1795368274.263", "word": "add dead"}
    kept |= {"here": "[::1]:8080", "also": "127.0.0.1:7777"}
    Log("test").info("y", **kept)
    assert members(lines[1]).items() >= kept.items()


def test_what_names_the_network_stays(logger: logging.Logger) -> None:
    lines = text(logger, public=["http://[2001:db8::1]:8080"])
    Log("test").info("x", home_agent="2001:db8:99::1", reason="2001:db8:0::1 and 2001:db8::2")
    assert "home_agent=2001:db8:99::1 " in lines[0]
    assert "2001:db8:0::1 and #" in lines[0]


def test_addresses_are_shown_at_level_debug_and_where_allowed(logger: logging.Logger) -> None:
    hidden, shown = text(logger), text(logger, allowed=True)
    Log("test").debug("x", home_address=HOME_ADDRESS)
    Log("test").info("x", home_address=HOME_ADDRESS)
    assert [HOME_ADDRESS in line for line in hidden] == [True, False]
    assert [HOME_ADDRESS in line for line in shown] == [True, True]


def test_the_same_key_gives_the_same_hash_and_another_does_not() -> None:
    fields = {"home_address": HOME_ADDRESS}
    hashes = [AddressHider(key).hidden(fields)["home_address"] for key in (KEY, KEY, KEY + b"!", None, None)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


def test_tracebacks_and_lines_of_libraries_are_lines_too(logger: logging.Logger) -> None:
    lines = text(logger)
    try:
        raise ValueError(f"no backend for {HOME_ADDRESS}")
    except ValueError:
        with pytest.MonkeyPatch.context() as patch:  # an error that this test means
            patch.setattr(logging, "ERROR", logging.WARNING)
            Log("test").exception("failed")
    logging.getLogger("hoaflow.library").info("%s said\n%s", "it", HOME_ADDRESS)
    assert "Traceback (most recent call last)" in members(lines[0])["traceback"]
    assert "db8" not in "".join(lines)
    assert [len(line.splitlines()) for line in lines] == [1, 1]
    assert members(lines[1])["event"] == "library"


def test_a_flood_of_one_event_is_counted(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    lines = text(logger)
    log = Log("test")
    for _ in range(LINES_PER_SECOND + 50):
        log.info("binding-added")
    log.info("other")
    assert len(lines) == LINES_PER_SECOND + 1
    clock += 1.0
    log.info("other")
    assert "event=lines-left-out of=binding-added lines=50" in lines[-2]
    log.info("binding-added")
    assert "event=binding-added" in lines[-1]


def test_a_key_that_cannot_be_used_ends_the_program(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    short = tmp_path / "key"
    short.write_text("short\n")
    with pytest.raises(SystemExit, match=r"at least 16 bytes, got 5"):
        set_up(parser.parse_args(["--log-key", str(short)]))
    with pytest.raises(SystemExit, match=r"No such file"):
        set_up(parser.parse_args(["--log-key", str(tmp_path / "none")]))
    short.write_bytes(KEY)
    assert LogSettings(key=short).formatter()
