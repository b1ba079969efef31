"""Guests small enough for a test: the real classes of transformers with random weights, saved as real ones are."""

from pathlib import Path

import pytest
import torch

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",")
"""What a tokenizer of Grounding DINO has besides words."""


def scramble(model):
    """Weights as they are initialised answer with the same depth everywhere."""
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.22)
    return model


def save_depth_anything(folder: Path, **options):
    """A metric Depth Anything and its processor."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    backbone = library.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=56, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
    )  # fmt: skip
    config = library.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, patch_size=14, neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8, head_hidden_size=8, **{"depth_estimation_type": "metric", "max_depth": 80} | options,
    )  # fmt: skip
    scramble(library.DepthAnythingForDepthEstimation(config)).save_pretrained(folder)
    edge = {"height": 56, "width": 56}
    processor = library.DPTImageProcessor(size=edge, keep_aspect_ratio=True, ensure_multiple_of=14)
    processor.save_pretrained(folder)


def save_grounding_dino(folder: Path, words):
    """A Grounding DINO and its processor, whose tokenizer knows SPECIAL and some words."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    known = (*SPECIAL, *words)
    (folder / "vocab.txt").write_text("\n".join(known))
    config = library.GroundingDinoConfig(
        backbone_config=library.SwinConfig(
            image_size=32, window_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2],
            out_indices=[2, 3, 4],
        ),
        text_config=library.BertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=len(known),
        ),
        num_queries=30, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=16, decoder_ffn_dim=16, d_model=64,
        encoder_attention_heads=2, decoder_attention_heads=2,
    )  # fmt: skip
    library.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = library.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    tokenizer = library.BertTokenizer(str(folder / "vocab.txt"))
    library.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)


def save_sam(folder: Path):
    """A SAM."""
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
    library.SamModel(config).save_pretrained(folder)


def save_clip(folder: Path, *, layers=3, **vision):
    """A CLIP and its tokenizer, which knows letters and digits only."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    letters = [*map(chr, range(97, 123)), *"0123456789.,-"]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = library.CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[])
    tokenizer.save_pretrained(folder)
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": layers, "num_attention_heads": 2}
    config = library.CLIPConfig(
        text_config={
            **tower, "vocab_size": len(tokens), "max_position_embeddings": 24,
            "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
        },
        vision_config={**tower, "image_size": 32, "patch_size": 8} | vision,
        projection_dim=16,
    )  # fmt: skip
    scramble(library.CLIPModel(config)).save_pretrained(folder)
