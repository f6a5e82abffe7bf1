"""Training configurations are read whole or refused by field."""

from pathlib import Path

import pytest

from training.config import ConfigError, TrunkShape, load_config


def test_the_shipped_configuration_loads() -> None:
    assert load_config(Path("training/configs/nano.yaml")).name == "so8t-nano"


def test_an_unknown_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: x\ndata: d\nown_data: o\nrun: r\njoint: {stepz: 3}\n")
    with pytest.raises(ConfigError, match="joint: unknown field 'stepz'"):
        load_config(path)


def test_a_row_length_that_k_quants_cannot_use_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"trunk\.hidden_size: 320"):
        TrunkShape(hidden_size=320)
