"""The rules of hank-ai's Darknet 5, which ends at a key or a number that it doesn't know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

# The keys that darknet_cfg.cpp of version 5.1 reads of each section type; of types that are
# missing here it reads none at all.
EVERYWHERE = (
    "clip onlyforward dont_update burnin_update stopbackward train_only_bn dontload "
    "dontloadscales learning_rate "
)
BOXES = (
    "classes max num mask anchors map objectness_smooth label_smooth_eps scale_x_y max_delta "
    "iou_normalizer obj_normalizer cls_normalizer delta_normalizer counters_per_class iou_loss "
    "iou_thresh_kind beta_nms nms_kind jitter resize random ignore_thresh truth_thresh iou_thresh "
)
POOL = "stride stride_x stride_y size padding "
NET = (
    "batch subdivisions sequential_subdivisions time_steps track augment_speed try_fix_nan "
    "max_batches learning_rate learning_rate_min sgdr_cycle sgdr_mult momentum decay power policy "
    "burn_in weights_reject_freq equidistant_point badlabels_rejection_percentage "
    "num_sigmas_reject_badlabels ema_alpha use_cuda_graph loss_scale dynamic_minibatch "
    "optimized_memory workspace_size_limit_MB adam height width channels inputs flip blur "
    "gaussian_noise mixup cutmix mosaic letter_box mosaic_bound contrastive contrastive_jit_flip "
    "contrastive_color label_smooth_eps resize_step attention adversarial_lr max_chart_loss angle "
    "aspect saturation exposure hue show_receptive_field"
)
KEYS = {
    "convolutional": "filters groups size stride stride_x stride_y dilation antialiasing pad "
    "padding activation assisted_excitation share_index batch_normalize cbn binary xnor "
    "bin_output sway rotate stretch stretch_sway flipped dot angle grad_centr reverse coordconv "
    "stream wait_stream",
    "connected": "output activation batch_normalize",
    "maxpool": POOL + "maxpool_depth out_channels antialiasing maxpool_zero_nonmax",
    "local_avgpool": POOL,
    "avgpool": "",
    "upsample": "stride scale",
    "reorg3d": "stride reverse",
    "route": "layers groups group_id stream wait_stream",
    "shortcut": "from activation weights_type weights_normalization",
    "scale_channels": "from scale_wh activation",
    "sam": "from activation",
    "dropout": "dropblock probability dropblock_size_rel dropblock_size_abs",
    "softmax": "groups temperature tree spatial noloss",
    "cost": "type scale ratio",
    "yolo": BOXES + "new_coords focal_loss track_history_size sim_thresh dets_for_track "
    "dets_for_show track_ciou_norm embedding_layer",
    "Gaussian_yolo": BOXES + "uc_normalizer yolo_point",
    "region": "coords classes num max log sqrt softmax focal_loss rescore classfix absolute "
    "bias_match jitter resize thresh random coord_scale object_scale noobject_scale mask_scale "
    "class_scale tree map anchors",
    "contrastive": "classes yolo_layer temperature cls_normalizer max_delta contrastive_neg_max",
}
# [net] has these only with a policy, or with adam=1
BY_POLICY = {
    "step": "step scale",
    "steps": "steps scales seq_scales",
    "sgdr": "steps scales seq_scales",
    "exp": "gamma",
    "sigmoid": "gamma step",
}
ADAM = "B1 B2 eps"
# without these the outputs would be others: such a model is refused rightly
NEEDED = frozenset({"image_mean", "image_scale"})
INTEGER_LISTS = ("layers", "from", "mask", "steps", "counters_per_class")
MOST_DIGITS = 37  # a float holds no larger exponents, and Darknet 5 refuses them in any form

INNER_BLANKS = re.compile(r"(?<=[^\s,])\s+(?=[^\s,])")
EXPONENT = re.compile(r"(?<![\w.])[+-]?(?:\d+\.?\d*|\.\d+)[eE][+-]?\d+(?![\w.])")
PLUS = re.compile(r"(?<![\w.])\+(?=[\d.])")
NO_FRACTION = re.compile(r"\.0*(?!\d)")


def known_keys(kind: str, options: Mapping[str, str | None]) -> frozenset[str] | None:
    """The keys that a section of this type may have; None for a type that Darknet 5 lacks.

    `options` are the section's own: what [net] may have depends on its policy.
    """
    if kind == "net":
        policy, adam = (_bare(options.get(key)) for key in ("policy", "adam"))
        chosen = f"{BY_POLICY.get(policy, '')} {'' if adam.split('.')[0] in ('', '0') else ADAM}"
        return frozenset(f"{NET} {chosen}".split()) | NEEDED
    return frozenset((EVERYWHERE + KEYS[kind]).split()) if kind in KEYS else None


def strict_value(key: str, text: str) -> str:
    """The same value with numbers that Darknet 5 can read: 4e-5 → 0.00004; comments stay."""
    value, mark, comment = text.partition("#")
    value = INNER_BLANKS.sub("", value.rstrip())
    value = PLUS.sub("", EXPONENT.sub(_decimal, value))
    if key in INTEGER_LISTS:
        value = NO_FRACTION.sub("", value)
    return f"{value} {mark}{comment}".rstrip() if mark else value


def hidden(key: str) -> str:
    """The key as Darknet still reads it, and Darknet 5 doesn't see it: max_crop → max _crop.

    Darknet drops blanks wherever they are; for Darknet 5 a line with a blank in its key is none.
    A key of one letter, which no Darknet has, becomes a comment.
    """
    head, mark, tail = key.rpartition("_")
    if head:
        return f"{head} {mark}{tail}"
    return f"{key[0]} {key[1:]}" if len(key) > 1 else f"#{key}"


def _bare(value: str | None) -> str:
    """A value without its comment."""
    return (value or "").split("#")[0].strip()


def _decimal(match: re.Match[str]) -> str:
    number = Decimal(match[0])
    return f"{number:f}" if abs(number.adjusted()) <= MOST_DIGITS else match[0]
