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


def save_grounding_dino(folder: Path, words, *, family="GroundingDino"):
    """A Grounding DINO (or MMGroundingDino) and its processor, whose tokenizer knows SPECIAL and some words."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    known = (*SPECIAL, *words)
    (folder / "vocab.txt").write_text("\n".join(known))
    config = getattr(library, f"{family}Config")(
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
    getattr(library, f"{family}ForObjectDetection")(config).save_pretrained(folder)
    images = library.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    tokenizer = library.BertTokenizer(str(folder / "vocab.txt"))
    library.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)


def save_owlv2(folder: Path):
    """An OWLv2 and its processor, whose tokenizer knows letters and digits only."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    vocabulary = letter_tokens("!", "<|startoftext|>", "<|endoftext|>")
    # The end has the largest number: there the model reads off its answer.
    end = vocabulary.pop("<|endoftext|>")
    vocabulary = {token: index - (index > end) for token, index in vocabulary.items()}
    vocabulary["<|endoftext|>"] = len(vocabulary)
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = library.Owlv2Config(
        text_config={
            **tower, "vocab_size": len(vocabulary), "max_position_embeddings": 32,
            "bos_token_id": 1, "eos_token_id": len(vocabulary) - 1, "pad_token_id": 0,
        },
        vision_config={**tower, "image_size": 64, "patch_size": 8}, projection_dim=32,
    )  # fmt: skip
    scramble(library.Owlv2ForObjectDetection(config)).save_pretrained(folder)
    tokenizer = library.CLIPTokenizer(vocab=vocabulary, merges=[], pad_token="!")
    images = library.Owlv2ImageProcessor(size={"height": 64, "width": 64})
    library.Owlv2Processor(images, tokenizer).save_pretrained(folder)


def save_sam2(folder: Path, *, family="Sam2"):
    """A SAM 2, or (Sam2Video) the model for video, which is what the published weights are."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(library, f"{family}Config")(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [64, 64],
                "window_positional_embedding_background_size": [4, 4], "blocks_per_stage": [1, 1, 2, 1],
                "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 2],
                "window_size_per_stage": [8, 4, 4, 4], "global_attention_blocks": [3],
            },
            "backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 16},
        mask_decoder_config={
            "hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32,
        },
    )  # fmt: skip
    scramble(getattr(library, f"{family}Model")(config)).save_pretrained(folder)


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


def letter_tokens(*special):
    """Return a vocabulary of letters, digits and some marks, at the end of a word and elsewhere."""
    letters = [*map(chr, range(97, 123)), *"0123456789.,-"]
    tokens = [*special, *letters, *(f"{letter}</w>" for letter in letters)]
    return {token: index for index, token in enumerate(tokens)}


def save_clip(folder: Path, *, layers=3, **vision):
    """A CLIP and its tokenizer, which knows letters and digits only."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    tokens = letter_tokens("<|startoftext|>", "<|endoftext|>")
    library.CLIPTokenizer(vocab=tokens, merges=[]).save_pretrained(folder)
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


def save_siglip(folder: Path, **vision):
    """A SigLIP and a tokenizer as SigLIP 2 has it, which knows letters and digits only."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    letters = [*map(chr, range(97, 123)), *"0123456789.,-", "\u2581"]
    tokens = {token: index for index, token in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *letters])}
    library.Siglip2Tokenizer(vocab=tokens, merges=[], padding_side="right").save_pretrained(folder)
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = library.SiglipConfig(
        text_config={
            **tower, "vocab_size": len(tokens), "max_position_embeddings": 24, "projection_size": 32,
            "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
        },
        vision_config={**tower, "image_size": 32, "patch_size": 8} | vision,
    )  # fmt: skip
    scramble(library.SiglipModel(config)).save_pretrained(folder)


def save_dino(folder: Path, family, **options):
    """A Dinov2, a Dinov2WithRegisters or a DINOv3ViT."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(library, f"{family}Config")(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=8,
        **options,
    )  # fmt: skip
    scramble(getattr(library, f"{family}Model")(config)).save_pretrained(folder)


def save_glpn(folder: Path):
    """A GLPN and its processor."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = library.GLPNConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=8,
        mlp_ratios=[2, 2, 2, 2],
    )  # fmt: skip
    scramble(library.GLPNForDepthEstimation(config)).save_pretrained(folder)
    library.GLPNImageProcessor().save_pretrained(folder)


def save_depth_pro(folder: Path, **options):
    """A Depth Pro for images of 64 x 64, without a processor."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    encoder = {
        "model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 16, "image_size": 16, "patch_size": 4,
    }  # fmt: skip
    config = library.DepthProConfig(
        patch_size=16, fusion_hidden_size=16, intermediate_hook_ids=[1, 0], intermediate_feature_dims=[8, 8],
        scaled_images_feature_dims=[8, 8, 8], image_model_config=encoder, patch_model_config=encoder,
        fov_model_config=encoder, merge_padding_value=0, num_fov_head_layers=1, **{"use_fov_model": True} | options,
    )  # fmt: skip
    scramble(library.DepthProForDepthEstimation(config)).save_pretrained(folder)


def save_sentence_encoder(folder: Path, words, *, family="Bert", pooling=True):
    """A Bert or an MPNet and its tokenizer, which knows some words."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    special = SPECIAL if family == "Bert" else ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "[UNK]")
    known = (*special, *words)
    (folder / "vocab.txt").write_text("\n".join(known))
    config = getattr(library, f"{family}Config")(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=len(known),
        max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    getattr(library, f"{family}Model")(config, add_pooling_layer=pooling).save_pretrained(folder)
    getattr(library, f"{family}Tokenizer")(str(folder / "vocab.txt")).save_pretrained(folder)
