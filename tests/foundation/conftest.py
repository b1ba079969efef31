from dataclasses import replace

import pytest
import torch

from occkit.world import PRESETS, generate


@pytest.fixture(scope="session")
def street(tmp_path_factory):
    """Two nano scenes of two frames in the layout of nuScenes."""
    root = tmp_path_factory.mktemp("street")
    generate(replace(PRESETS["nano"], frames=2), root, num_scenes=2, seed=5)
    return root


@pytest.fixture(scope="session")
def kitti_street(tmp_path_factory):
    """Two nano sequences of one frame in the layout of SemanticKITTI."""
    root = tmp_path_factory.mktemp("kitti_street")
    generate(replace(PRESETS["kitti-nano"], frames=1), root, format="semantickitti", num_scenes=2, seed=5)
    return root


@pytest.fixture(scope="session")
def sam_folder(tmp_path_factory):
    """A SAM of random weights."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = library.SamConfig(
        vision_config={
            "hidden_size": 32, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 64, "patch_size": 8, "global_attn_indexes": [1], "window_size": 4, "num_pos_feats": 16,
            "mlp_dim": 32, "initializer_range": 0.2,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 8},
        mask_decoder_config={
            "hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32,
        },
        initializer_range=0.2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sam")
    library.SamModel(config).save_pretrained(folder)
    return folder
