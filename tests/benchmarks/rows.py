"""What the runs on real input compare: objectives by name, for students with the teacher's tokenizer or another.

Every row is reachable by config alone. The ablations change one thing of `ce+sra` or `ce+mta`.
"""

from typing import Any

Row = list[dict[str, Any]]

CE: dict[str, Any] = {"loss": "ce"}
HALF_CE, TENTH_CE = CE | {"weight": 0.5}, CE | {"weight": 0.1}
KD, MTA = {"loss": "kd", "weight": 0.9}, {"loss": "mta"}
# As the paper weighs it, L_span-KD sums a hundred spans a sample against one mean over tokens: on students as small as
# these it outweighs everything else. The ablations start from a mean over spans.
SRA_PAPER: dict[str, Any] = {"loss": "sra", "weight": 0.5}
SRA = SRA_PAPER | {"span_kd_reduction": "mean"}
# Mass sits on the few spans that the last token attends to: its square root spreads it, and L_span-KD counts a tenth.
SRA_SOFT = SRA | {"weight": 1.0, "mass_exponent": 0.5, "span_kd": 0.1}

_ANY_TOKENIZER: dict[str, Row] = {
    "ce": [CE],
    "ce+sra-paper": [HALF_CE, SRA_PAPER],
    "ce+sra": [HALF_CE, SRA],
    "ce+sra-soft": [CE, SRA_SOFT],
    "ce+mta": [CE, MTA],
    "ce+alm": [CE, {"loss": "alm"}],
    "ce+uld": [CE, {"loss": "uld"}],
    "ce+multilevel_ot": [CE, {"loss": "multilevel_ot", "weight": 0.15}],
    "ce+mined": [TENTH_CE, {"loss": "mined", "weight": 0.9}],
    "ce+dskd": [HALF_CE, {"loss": "dskd", "weight": 0.5}],
}
_ONE_TOKENIZER: dict[str, Row] = {
    "ce+kd": [TENTH_CE, KD],
    "ce+kd+mta": [TENTH_CE, KD, MTA],
    "ce+kd-reverse": [TENTH_CE, KD | {"divergence": "reverse_kl"}],
    "ce+kd-js": [TENTH_CE, KD | {"divergence": "js"}],
    "ce+kd-tv": [TENTH_CE, KD | {"divergence": "total_variation"}],
    "ce+kd-skew-forward": [TENTH_CE, KD | {"divergence": "skew_forward_kl"}],
    "ce+kd-skew-reverse": [TENTH_CE, KD | {"divergence": "skew_reverse_kl"}],
    "ce+kd-adaptive": [TENTH_CE, KD | {"divergence": "adaptive_kl"}],
    "ce+kd-top-8": [TENTH_CE, KD | {"logits": "top_k"}],
    "ce+kd-sampled-32": [TENTH_CE, KD | {"logits": "sampled"}],
    "ce+fdd": [CE, {"loss": "fdd"}],
}
_SRA_ABLATIONS: dict[str, Row] = {
    "ce+sra: KD only": [HALF_CE, SRA | {"cos": 0, "geo": 0}],
    "ce+sra: KD, geo": [HALF_CE, SRA | {"cos": 0}],
    "ce+sra: KD, cos": [HALF_CE, SRA | {"geo": 0}],
    "ce+sra: cos, geo": [HALF_CE, SRA | {"span_kd": 0}],
    "ce+sra: mean pooling": [HALF_CE, SRA | {"pooling": "mean"}],
    "ce+sra: equal spans": [HALF_CE, SRA | {"span_weights": "equal"}],
}
_MTA_ABLATIONS: dict[str, Row] = {
    "ce+mta: words": [CE, MTA | {"word_layers": 3}],
    "ce+mta: phrases": [CE, MTA | {"word_layers": 0}],
    "ce+mta: equal tokens": [CE, MTA | {"token_weights": "uniform"}],
    "ce+mta: M=1": [CE, MTA | {"student_layers": {"top": 1}}],
    "ce+mta: M=2": [CE, MTA | {"student_layers": {"top": 2}}],
    "ce+mta: DSA only": [CE, MTA | {"hid": 0}],
    "ce+mta: Hid only": [CE, MTA | {"dsa": 0}],
}

# The ablations stand where each paper has them: SRA across tokenizers, MTA with one.
ROWS: dict[str, dict[str, Row]] = {
    "same": _ANY_TOKENIZER | _ONE_TOKENIZER | _MTA_ABLATIONS,
    "cross": _ANY_TOKENIZER | _SRA_ABLATIONS,
    "dolly": _ANY_TOKENIZER | _ONE_TOKENIZER,
}
