"""What a judgement is made of: it cannot be changed after it was made, and it says why in a sentence of its own."""

import dataclasses
import importlib
import pkgutil

import pytest

import mcbn_broker.appraisal
import mcbn_broker.attestation
from mcbn_broker.appraisal.accounting import ACCOUNTS
from mcbn_broker.appraisal.verdict import Verdict

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (mcbn_broker.appraisal, mcbn_broker.attestation)
    for module in pkgutil.iter_modules(package.__path__)
]
KEPT_UP_TO_DATE = {"_Entry"}  # what is known of one issuer's key set, inside of `KeySets`


def test_there_are_modules():
    assert "mcbn_broker.appraisal.verdict" in MODULES
    assert "mcbn_broker.attestation.result" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_no_value_can_be_changed(name):
    found = [
        one
        for one in vars(importlib.import_module(name)).values()
        if isinstance(one, type) and dataclasses.is_dataclass(one) and one.__module__ == name
    ]
    changeable = {one.__name__ for one in found if not vars(one)["__dataclass_params__"].frozen}
    assert changeable <= KEPT_UP_TO_DATE


def test_claims_that_a_check_or_the_signature_covers_say_so():
    assert ACCOUNTS["hwmodel"].reason == "A check is named for it."
    assert ACCOUNTS["exp"].reason == "Verified with the signature."


def test_without_a_reference_value_the_verdict_says_why_it_is_no():
    (check,) = Verdict((), None, ()).checks
    assert check.why == "A token that was compared with nothing has passed nothing."
