"""Weights are named by a folder or a hub id, and a misspelt folder does not become a question to the hub."""

import importlib

import pytest
import torch

from occkit.errors import ConfigError
from occkit.foundation import detector_config, segmenter_config
from occkit.foundation.weights import load_model
from tiny_models import save_clip


@pytest.fixture
def asked(monkeypatch):
    """What the library is asked for."""
    library, names = pytest.importorskip("transformers"), []

    def refuse(source, **_):
        names.append(source)
        raise OSError("no connection")

    monkeypatch.setattr(library.PreTrainedConfig, "get_config_dict", refuse)
    return names


def test_only_what_looks_like_a_hub_id_is_asked_for(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    for folder in ("weights/sam", "./sam", "../sam", "sam", "a/b/c", "~/sam", str(tmp_path / "sam")):
        with pytest.raises(ConfigError, match="there is no such folder; SAM is facebook/sam-vit-huge"):
            load_model("Guest", folder, loader="SamModel", kinds=("sam",), fetch="SAM is facebook/sam-vit-huge")
    assert asked == []
    with pytest.raises(ConfigError, match=r"Guest: .*no connection; give a folder or hub id of type sam .*; SAM is"):
        load_model("Guest", "facebook/sam-vit-base", loader="SamModel", kinds=("sam",), fetch="SAM is")
    assert asked == ["facebook/sam-vit-base"]


def test_adapters_are_chosen_without_a_folder_only_by_a_hub_id(asked):
    with pytest.raises(ConfigError, match=r"detector: .*no such folder"):
        detector_config("/nowhere")
    with pytest.raises(ConfigError, match=r"segmenter: .*no connection"):
        segmenter_config("facebook/sam2.1-hiera-tiny")
    assert asked == ["facebook/sam2.1-hiera-tiny"]


def test_missing_transformers_names_the_extra(monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ConfigError, match=r"detector: needs the package transformers.*occkit\[hf\]"):
        detector_config("weights")


def test_weights_in_half_precision_are_computed_with_in_full(tmp_path):
    for name in ("whole", "half"):
        (tmp_path / name).mkdir()
        save_clip(tmp_path / name)
    library = importlib.import_module("transformers")
    library.CLIPModel.from_pretrained(tmp_path / "whole").half().save_pretrained(tmp_path / "half")
    assert library.CLIPModel.from_pretrained(tmp_path / "half").dtype == torch.float16
    model = load_model("Guest", str(tmp_path / "half"), loader="CLIPModel", kinds=("clip",))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
