"""Offline equals online over conversations: a live teacher reads them in its own template, and a student in another.

Online has the messages alone: the text is what transformers renders of them, states and masses are the live model's.
"""

from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from schemas.cache.reader import Cache
from tests.caches import build_cache, extraction
from tests.chats import SAYINGS, chat_model, family, talk, write_chats
from tests.tiny import tiny_tokenizer
from tests.trainer.compared import BY_LOGITS, OBJECTIVES, ONE_TOKENIZER
from tests.trainer.live import assert_equal, build, live_teacher, loss_and_gradients, online, setting
from tests.trainer.objectives.world import counts_of
from trainer.data.tied_tokens import SameTokenPositions
from trainer.student.load import forward
from trainer.student.states import StudentLogits

POSITIONS = range(len(SAYINGS))
TEMPLATES = {False: family("zephyr").template, True: None}  # of the teacher's tokenizer, and of another


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("conversations")
    teacher, chats = chat_model(folder / "teacher", "chatml"), write_chats(folder / "chats.jsonl")
    tiny_tokenizer(folder / "other", "bpe", vocab=320)
    corpus: dict[str, Any] = {"files": [str(chats)], "id": "id", "conversations": {}, "prompt": None, "response": None}
    of_teacher = {"keep_embeddings": True, "max_tokens": 128}
    return Cache(build_cache(extraction(folder / "cache", teacher, chats, corpus=corpus, teacher=of_teacher)))


@pytest.fixture(scope="module")
def teacher(cache: Cache) -> Any:
    return live_teacher(cache)


def rendered(cache: Cache) -> list[str]:
    """What the teacher reads: all of a conversation up to its last end of turn."""
    tokenizer = AutoTokenizer.from_pretrained(cache.path.parent / "teacher")
    texts = [tokenizer.apply_chat_template(talk(*sayings), tokenize=False) for sayings in SAYINGS]
    return [text[: text.rindex("<|im_end|>") + len("<|im_end|>")] for text in texts]


@pytest.mark.parametrize(
    ("name", "cross"),
    [(name, cross) for name in OBJECTIVES for cross in (False, True) if not (cross and name.startswith(ONE_TOKENIZER))],
)
def test_cached_states_give_the_live_loss(cache: Cache, teacher: Any, name: str, cross: bool) -> None:
    model, context, objective, batch = setting(cache, OBJECTIVES[name], cross, POSITIONS, TEMPLATES[cross])
    live_pair, live_batch = online(cache, teacher, context, batch, name.startswith(BY_LOGITS), rendered(cache), False)
    live_objective = build(OBJECTIVES[name], live_pair)
    live_objective.load_state_dict(objective.state_dict())
    learners = 1 + bool(list(objective.parameters()))
    offline = loss_and_gradients(model, objective, batch)
    assert_equal(offline, loss_and_gradients(model, live_objective, live_batch), learners)


def own_text(messages: list[dict[str, Any]]) -> tuple[str, list[tuple[int, int, int]]]:
    """Zephyr's text, by hand, and where each content stands in it, and in ChatML's."""
    own, theirs, places = "", "", []
    for message in messages:
        own += f"<|{message['role']}|>\n"
        theirs += f"<|im_start|>{message['role']}\n"
        places.append((len(own), len(own) + len(message["content"]), len(theirs)))
        own += message["content"] + "<|im_end|>\n"
        theirs += message["content"] + "<|im_end|>\n"
    return own[:-1], places


def test_kd_of_two_templates_is_a_loop_over_the_characters_that_both_have(cache: Cache, teacher: Any) -> None:
    """Each prediction inside of an answer whose two tokens are the same characters on both sides: the KL divergence of
    the live teacher's logits, in float64."""
    model, _, objective, batch = setting(
        cache, [{"loss": "kd", "temperature": 2.0}], False, POSITIONS, TEMPLATES[False]
    )
    logits_BSV = forward(model, batch, objective.of_student)[StudentLogits()].whole()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(cache.path.parent / "teacher")
    total, terms, targets = 0.0, 0, 0
    for row, (sayings, text) in enumerate(zip(SAYINGS, rendered(cache), strict=True)):
        own, places = own_text(talk(*sayings))
        sides = [
            tokenizer(side, add_special_tokens=False, return_offsets_mapping=True, return_tensors="pt")
            for side in (own, text)
        ]
        (own_offsets, their_offsets) = ([(a, b) for a, b in side.pop("offset_mapping")[0].tolist()] for side in sides)
        assert batch.tokens_BS[row, : len(own_offsets)].tolist() == sides[0]["input_ids"][0].tolist()
        with torch.no_grad():
            teacher_TV = teacher(**sides[1]).logits[0].double()
        for number, (start, end, their_start) in enumerate(places):
            if number % 2 == 0:
                continue
            moved, marker = their_start - start, len("<|im_end|>")
            inside = [s for s, (a, b) in enumerate(own_offsets) if start < b <= end + marker]
            targets += len(inside)
            for s in inside[:-1]:
                here, following = own_offsets[s], own_offsets[s + 1]
                if here[0] < start or (here[0] + moved, here[1] + moved) not in their_offsets:
                    continue
                t = their_offsets.index((here[0] + moved, here[1] + moved))
                assert their_offsets[t + 1] == (following[0] + moved, following[1] + moved)
                p = (teacher_TV[t] / 2).log_softmax(-1)
                q = (logits_BSV[row, s].double() / 2).log_softmax(-1)
                total += 4 * float((p.exp() * (p - q)).sum().detach())
                terms += 1
    counts = counts_of(batch)
    assert counts["pair"] == terms and counts["token"] == targets and 0.7 * targets < terms < targets
    assert (batch[SameTokenPositions()] == -1).sum() > 0
    states = forward(model, batch, objective.of_student)
    assert objective(states, batch, counts)[0].item() == pytest.approx(total / terms, rel=1e-5)
