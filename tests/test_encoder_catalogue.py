"""What is read of an encoder by its name, against what its library itself says, and what is refused."""

import pytest
import timm

from toconv import config
from toconv.encoder_catalogue import pretrained_tags
from toconv.errors import RequestError

NAMED = {  # pixels, grid, width
    ("open_clip", "ViT-B-16-SigLIP-384", "webli"): (384, 24, 768),
    ("open_clip", "ViT-SO400M-14-SigLIP-384", "webli"): (384, 27, 1152),
    ("open_clip", "ViT-H-14-378-quickgelu", "dfn5b"): (378, 27, 1280),
    ("open_clip", "ViT-B-16", "openai"): (224, 14, 768),
    ("open_clip", "ViT-L-14-CLIPA-336", "datacomp1b"): (336, 24, 1024),
    ("open_clip", "coca_ViT-B-32", "laion2b_s13b_b90k"): (224, 7, 768),
    ("open_clip", "EVA01-g-14", "laion400m_s11b_b41k"): (224, 16, 1408),
    ("timm", "vit_small_patch14_dinov2", "lvd142m"): (518, 37, 384),
    ("timm", "vit_small_patch14_reg4_dinov2", "lvd142m"): (518, 37, 384),
    ("timm", "vit_so400m_patch14_siglip_gap_384", "webli"): (384, 27, 1152),
    ("timm", "vit_medium_patch16_gap_256", "sw_in12k_ft_in1k"): (256, 16, 512),
    ("timm", "vit_base_r50_s16_224", "orig_in21k"): (224, 14, 768),
}


def by_name(library, architecture, weights, **changes):
    named = {"encoder": library, "encoder.architecture": architecture, "encoder.weights": weights}
    return config.compose({**named, **{f"encoder.{key}": value for key, value in changes.items()}}).encoder


def mistakes(*named, **changes):
    with pytest.raises(RequestError) as caught:
        by_name(*named, **changes)
    return caught.value.mistakes


@pytest.mark.parametrize("named", NAMED)
def test_grid_width_and_pixels_are_read_from_the_library_and_stated(named):
    import open_clip

    found, (library, architecture, weights) = by_name(*named), named
    assert (found.image_size, found.grid_size, found.width) == NAMED[named]
    if library == "timm":
        says = timm.get_pretrained_cfg(f"{architecture}.{weights}").to_dict()
    else:
        says = open_clip.get_pretrained_cfg(architecture, weights)
    assert (found.mean, found.std) == (tuple(says["mean"]), tuple(says["std"]))
    assert found.name == architecture
    assert f"encoder {architecture} ({library}, {weights}): {found.image_size} px, " in found.stated
    assert f"{found.grid_size}x{found.grid_size} tokens of width {found.width}" in found.stated


def test_what_was_read_is_held_as_numbers_so_that_nothing_is_looked_up_again():
    settings = config.compose({"encoder": "timm", "encoder.architecture": "test_vit", "encoder.weights": "r160_in1k"})
    written = config.flat(settings.model_dump(mode="json"))
    assert None not in [written[f"encoder.{name}"] for name in ("name", "image_size", "patch_size", "width", "mean")]
    assert config.compose(written) == config.compose(config.overrides_of(settings)) == settings


def test_what_is_given_beats_what_is_read_where_it_may_differ():
    found = by_name("timm", "vit_small_patch14_dinov2", "lvd142m", image_size=336, mean=[0.1, 0.2, 0.3], name="mine")
    assert (found.grid_size, found.mean, found.name) == (24, (0.1, 0.2, 0.3), "mine")
    assert found.std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 64}, "encoder.width=64: encoder.architecture=ViT-B-16-SigLIP-384 has 768"),
        ({"patch_size": 8}, "encoder.patch_size=8: encoder.architecture=ViT-B-16-SigLIP-384 has 16"),
        ({"image_size": 224}, "encoder.image_size=224: encoder.architecture=ViT-B-16-SigLIP-384 has 384"),
        ({"layer": 12}, "encoder.layer=12: encoder.architecture=ViT-B-16-SigLIP-384 has 12 blocks"),
    ],
)
def test_what_contradicts_the_library_is_refused(changes, said):
    (found,) = mistakes("open_clip", "ViT-B-16-SigLIP-384", "webli", **changes)
    assert found.startswith(said)


ROTARY, NO_GRID = "places its tokens by rotary or relative positions", "is no plain vision transformer, one square grid"


@pytest.mark.parametrize(
    ("library", "architecture", "said"),
    [
        ("open_clip", "EVA02-B-16", ROTARY),
        ("open_clip", "PE-Core-B-16", ROTARY),
        ("open_clip", "vit_relpos_medium_patch16_cls_224", ROTARY),
        ("open_clip", "RN50", "no vision transformer with a square grid of tokens"),
        ("open_clip", "convnext_base", NO_GRID),
        ("open_clip", "swin_base_patch4_window7_224", NO_GRID),
        ("open_clip", "MobileCLIP-S1", NO_GRID),
        ("open_clip", "ViT-B-16-SigLIP-385", "did you mean ViT-B-16-SigLIP-384"),
        ("open_clip", "nowhere.json", "no such open_clip model config"),
        ("timm", "vit_small_patch16_dinov3", ROTARY),
        ("timm", "beit_base_patch16_224", ROTARY),
        ("timm", "hiera_tiny_224", NO_GRID),
        ("timm", "resnet50", NO_GRID),
        ("timm", "naflexvit_base_patch16_siglip", NO_GRID),
        ("timm", "vit_small_patch14_dinov2.lvd142m", "are named apart: .* encoder.weights=lvd142m"),
        ("timm", "vit_smal_patch14_dinov2", "did you mean vit_small_patch14_dinov2"),
    ],
)
def test_an_architecture_that_does_not_serve_is_refused_with_the_reason_and_nothing_else(library, architecture, said):
    with pytest.raises(RequestError, match=f"^encoder.architecture={architecture}: .*{said}") as caught:
        by_name(library, architecture, "x")
    assert len(caught.value.mistakes) == 1


@pytest.mark.parametrize("library", ["open_clip", "timm"])
def test_an_encoder_that_is_not_named_is_refused_with_an_example(library):
    found = mistakes(library, None, None, layer=5000)
    assert [mistake.partition("=")[0] for mistake in found] == [
        "encoder.architecture: must be given, e.g. encoder.architecture",
        "encoder.weights: must be given, e.g. encoder.weights",
        "encoder.layer",
    ]


def test_pixels_of_a_file_are_those_that_all_tags_agree_on(tmp_path):
    assert by_name("open_clip", "ViT-B-16-SigLIP-384", "mine.pt").mean == (0.5, 0.5, 0.5)
    assert len({*pretrained_tags("timm", "vit_base_patch16_224").values()}) > 1
    (differ,) = mistakes("timm", "vit_base_patch16_224", "mine.pt")
    assert differ.startswith("encoder.mean: timm's weights of vit_base_patch16_224 differ in it (")
    assert "give encoder.mean=[R,G,B] encoder.std=[R,G,B]" in differ
    (unknown,) = mistakes("timm", "vit_base_patch16_plus_240", "mine.pt")
    assert unknown.startswith("encoder.mean: timm has no weights of vit_base_patch16_plus_240")
    given = by_name("timm", "vit_base_patch16_224", "mine.pt", mean=[0, 0, 0], std=[1, 1, 1])
    assert given.std == (1, 1, 1)
