"""Times as people read them."""

import pytest

from mcbn_broker import moments


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (59, "59 s"), (3600, "1 h"), (90061, "1 d 1 h 1 min 1 s"), (2592000, "30 d")]
)
def test_duration(seconds, shown):
    assert moments.duration(seconds) == shown


def test_moment_is_utc():
    assert moments.moment(0) == "1970-01-01 00:00:00 UTC"
