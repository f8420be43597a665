"""Brokers are asked again soon, and never in a flood."""

import pytest

from mcbn_workload.epoch_keys.pace import RETRY_MAX, RETRY_MIN, after_failure, after_success


@pytest.mark.parametrize("failures", [1, 2, 10, 5000])  # 2.0 ** 1024 is no float any more
@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_a_failed_renewal_waits_a_second_or_more(failures, jitter):
    assert RETRY_MIN <= after_failure(failures, 3600, jitter) <= RETRY_MAX


def test_short_leases_are_retried_sooner():
    assert after_failure(20, 60, 1.0) == 7.5


def test_leases_past_half_of_their_life_from_the_start_do_not_make_a_flood():
    assert after_success(-20.0, 60, 0.0) == after_success(-20.0, 60, 1.0) == RETRY_MIN
    assert after_success(30.0, 60, 0.5) == 33.0
