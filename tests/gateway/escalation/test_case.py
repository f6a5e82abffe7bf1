"""The case's words."""

from typing import get_args

import pytest

from gateway.escalation.case import LIVE, RESOLUTIONS, TRANSITIONS, Kind, Status, fold


def test_every_status_has_its_arrows() -> None:
    assert TRANSITIONS.keys() == set(get_args(Status))
    assert {"pending", "approved", "consumed"} == LIVE
    assert RESOLUTIONS.keys() == set(get_args(Kind))
    assert set(RESOLUTIONS.values()) < TRANSITIONS["pending"]


@pytest.mark.parametrize(
    "form",
    ["dr sato", "DR SATO", " Dr  Sato ", "Ｄｒ　Ｓａｔｏ", "Dr\tSato", "Dr\u00a0Sato", "Dr S\u200bato",
     "\u202eDr Sato", "Dr Sato\U000e0041"],
)  # fmt: skip
def test_forms_of_one_name_fold_to_one(form: str) -> None:
    assert fold(form) == "dr sato"


def test_other_names_stay_other() -> None:
    assert len({fold(name) for name in ("sato", "dr sato", "sat o", "佐藤", "satō")}) == 5
    assert fold("\u200b \n") == ""
