"""The losses' configs: the papers' constants, and what leaves nothing to learn."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.configs.losses.base import WeightedLoss
from schemas.configs.losses.registry import LOSSES

# What the papers say, by loss, where the default is theirs.
OF_THE_PAPERS: dict[str, dict[str, Any]] = {
    "alm": {"temperature": 100.0, "divergence": "kl", "debias_threshold": 0.1},  # arXiv 2503.20083
    "ce": {"weight": 1.0},
    "dskd": {"student_space": 1.0, "teacher_space": 1.0, "temperature": 2.0},  # arXiv 2406.17328
    "fdd": {"trajectory": 1.0, "derivative": 1.0},
    "kd": {"divergence": "forward_kl", "skew": 0.1, "beta": 0.5, "head": 0.5},  # 2402.03898, 2306.13649, 2404.02657
    "mined": {"top_k": 10, "merge": "max", "unaligned": "one_hot"},  # FuseLLM, arXiv 2401.10491
    "mta": {"dsa": 2.0, "hid": 0.2, "normalise": "sample", "hid_reduction": "sum"},  # arXiv 2605.01374
    "multilevel_ot": {"weight": 0.15, "logarithmic": 0.1, "sinkhorn": 0.1, "top_k": 50, "iterations": 20},  # 2412.14528
    "sra": {"cos": 1.0, "geo": 1.0, "span_kd": 1.0, "temperature": 2.0, "mass_floor": 0.0},  # arXiv 2605.01205
    "talas": {"contrastive": 0.001, "tamd": 0.75, "lasd": 1.0, "anchored_layers": 2, "temperature": 0.1},  # 2606.21851
    "uld": {"temperature": 1.0, "pairs": "order"},  # arXiv 2402.12030
}
NOTHING = {
    "dskd": ("student_space", "teacher_space"),
    "fdd": ("trajectory", "derivative"),
    "mta": ("dsa", "hid"),
    "multilevel_ot": ("absolute", "logarithmic", "sinkhorn"),
    "sra": ("cos", "geo", "span_kd"),
    "talas": ("contrastive", "tamd", "lasd"),
}


def test_defaults_are_the_papers() -> None:
    assert OF_THE_PAPERS.keys() == LOSSES.keys()
    for name, wanted in OF_THE_PAPERS.items():
        config = LOSSES[name]()
        assert {field: getattr(config, field) for field in wanted} == wanted


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_goes_by_its_own_name_and_is_read_back(name: str) -> None:
    config = LOSSES[name](weight=0.25)
    assert config.name == name and config.texts == "corpus"
    assert config.student == ("encoder" if name == "talas" else "causal")
    assert LOSSES[name].model_validate_json(config.model_dump_json()) == config
    for wrong in ({"weight": -0.1}, {"weight": float("inf")}, {"texts": "both"}, {"loss": "other"}):
        with pytest.raises(ValidationError):
            LOSSES[name].model_validate(wrong)


@pytest.mark.parametrize(("name", "terms"), NOTHING.items())
def test_a_loss_without_a_term_is_refused(name: str, terms: tuple[str, ...]) -> None:
    for kept in terms:
        LOSSES[name].model_validate({term: float(term == kept) for term in terms})
    *others, last = terms
    count = "both" if len(terms) == 2 else "all"
    with pytest.raises(
        ValidationError, match=f"{', '.join(others)} and {last} are {count} 0: the loss would be nothing"
    ):
        LOSSES[name].model_validate(dict.fromkeys(terms, 0))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"skew": 0.2}, "`skew` belongs to skew_forward_kl and skew_reverse_kl, not to forward_kl"),
        ({"divergence": "js", "head": 0.4}, "`head` belongs to adaptive_kl, not to js"),
        (
            {"divergence": "reverse_kl", "mixture": "detached"},
            "`mixture` belongs to skew_reverse_kl, not to reverse_kl",
        ),
        (
            {"divergence": "js", "logits": "sampled"},
            "estimate forward_kl alone without bias, not js; set logits: top_k",
        ),
    ],
)
def test_an_option_of_another_divergence_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        LOSSES["kd"].model_validate(fields)
    assert said in str(refused.value)


def test_another_packages_config_says_where_its_loss_is() -> None:
    class Elsewhere(WeightedLoss):
        """Of a package that forgot."""

        name = "elsewhere"

    check: Any = LOSSES.check
    for config, said in ((Elsewhere, r"Elsewhere\.module must say in which module"), (int, "is not a class derived")):
        with pytest.raises(ValueError, match=said):
            check(config)
