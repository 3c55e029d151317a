"""``load`` finds bundled models and says what to do about anything else."""

from __future__ import annotations

import pytest

import itscale
from itscale.errors import ConfigError, UnknownName
from itscale.models import bundled, load


def test_bundled_name_is_loaded(monkeypatch):
    marker = object()
    entry = bundled.BUNDLED["digits"]._replace(load=lambda: marker)
    monkeypatch.setitem(bundled.BUNDLED, "digits", entry)
    assert load("digits") is marker
    assert itscale.load("Digits") is marker


@pytest.mark.parametrize("name", ["digts", "C:\\model", ""])
def test_unknown_text_lists_bundled_names_and_points_to_wrap(name):
    with pytest.raises(UnknownName, match=r"Bundled: .*digits.*itscale\.models\.wrap") as caught:
        load(name)
    assert ("Did you mean 'digits'?" in str(caught.value)) == (name == "digts")


def test_object_that_is_no_name_points_to_wrap():
    with pytest.raises(ConfigError, match=r"itscale\.models\.wrap"):
        load(object())
