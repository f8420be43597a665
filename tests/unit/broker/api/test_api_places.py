"""Places: altogether, for each client, and for each IPv6 site."""

import pytest

from mcbn_broker.api.places import Places, client_of


def taken(places: Places, client: str):
    """Take a place that is there."""
    leave = places.take(client)
    assert leave is not None
    return leave


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "20010db800010002::/64"),
        ("::1", "0::/64"),
        ("", ""),
    ],
)
def test_what_counts_as_one_client(address, client):
    assert client_of(address) == client


def test_one_client_takes_its_own_places_and_gives_them_back():
    places = Places(total=10, each=2)
    first, _second = taken(places, "a"), taken(places, "a")
    assert places.take("a") is None
    assert places.take("b") is not None
    first()
    first()
    assert places.taken == 2
    assert places.take("a") is not None


def test_one_ipv6_site_takes_at_most_half():
    places = Places(total=10, each=2)
    site = [client_of(f"2001:db8:1:{number:x}::1") for number in range(6)]
    leave = [taken(places, one) for one in site[:5]]
    assert places.take(site[5]) is None
    assert places.take(client_of("2001:db8:2::1")) is not None
    leave[0]()
    assert places.take(site[5]) is not None


def test_a_site_has_at_least_what_one_client_has():
    places = Places(total=3, each=3)
    assert all(places.take(client_of("2001:db8::1")) for _ in range(3))
