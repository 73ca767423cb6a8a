"""The objectives whose cached and living teachers are compared."""

from typing import Any

from schemas.configs.losses.registry import LOSSES

OBJECTIVES: dict[str, list[dict[str, Any]]] = {
    **{name: [{"loss": name}] for name, kind in LOSSES.items() if kind.student == "causal"},
    "kd": [{"loss": "kd", "temperature": 2.0}],
    "kd, reverse": [{"loss": "kd", "divergence": "reverse_kl"}],
    "kd, js": [{"loss": "kd", "divergence": "js", "beta": 0.3, "temperature": 2.0}],
    "kd, total variation": [{"loss": "kd", "divergence": "total_variation"}],
    "kd, skewed": [
        {"loss": "kd", "divergence": "skew_forward_kl"},
        {"loss": "kd", "divergence": "skew_reverse_kl", "weight": 0.5},
    ],
    "kd, adaptive": [{"loss": "kd", "divergence": "adaptive_kl"}],
    "sra, inner layer": [{"loss": "sra", "teacher_layer": 2, "student_layer": 1, "mass_exponent": 0.5}],
    "sra, words": [{"loss": "sra", "spans": "word"}],
    "sra, phrases": [{"loss": "sra", "spans": "phrase", "mass_exponent": 0.5}],
    "mta, one layer of words": [{"loss": "mta", "student_layers": ["last"], "word_layers": 1}],
    "mta, words": [{"loss": "mta", "word_layers": 2, "student_layers": {"top": 2}, "hid_pairs": "word"}],
    "all": [{"loss": "ce", "weight": 0.3}, {"loss": "sra"}, {"loss": "mta"}],
    "dskd": [{"loss": "dskd", "mask_wrong": "never"}],
    "sra, span-KD alone": [{"loss": "sra", "cos": 0, "geo": 0}],
}
ONE_TOKENIZER = ("kd", "fdd")
# These read the teacher's states through its head alone, so that online its logits take their place.
BY_LOGITS = ("kd", "sra, span-KD alone", "alm", "uld", "multilevel_ot", "mined")
