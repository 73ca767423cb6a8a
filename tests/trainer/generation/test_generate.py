"""A student's texts: the prompts of a cache, continued as a plain loop would, whatever batch they are in."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig as DecodingConfig
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedTokenizerFast

from pipeline.corpus.corpus import read_corpus
from schemas.cache.reader import Cache
from schemas.cache.samples import CachedSample
from schemas.configs.extraction import CorpusConfig
from schemas.configs.generation import GenerationConfig
from schemas.errors import CorpusError, ModelError, ResourceError, RunError
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from trainer.generation.generate import Generated, generate

NEW = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with prompts, one of plain texts, and two writers: with BOS and rotary positions, without and learned."""
    folder = tmp_path_factory.mktemp("generate")
    bpe = tiny_tokenizer(folder / "llama", "bpe")
    tiny_llama(folder / "llama", bpe)
    corpus = write_corpus(folder / "corpus.jsonl")
    keep = {"hidden": [3], "mass": []}
    build_cache(extraction(folder / "cache", folder / "llama", corpus, states=keep))
    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps({"id": f"t{n}", "text": text}) + "\n" for n, text in enumerate(TEXTS)))
    plain = {"files": [str(texts)], "prompt": None, "response": None, "text": "text"}
    build_cache(extraction(folder / "plain", folder / "llama", texts, states=keep, corpus=plain))
    tokenizer = tiny_tokenizer(folder / "gpt2", "bytelevel")
    torch.manual_seed(1)
    gpt2 = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer) + 40,  # padded, as models are
            n_embd=32,
            n_layer=2,
            n_head=2,
            n_positions=64,
            initializer_range=0.3,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    gpt2.generation_config = DecodingConfig(eos_token_id=tokenizer.eos_token_id, repetition_penalty=30.0)
    gpt2.save_pretrained(folder / "gpt2")
    return folder


def run(made: Path, output: Path, **changes: Any) -> tuple[Generated, list[dict[str, str]]]:
    config: dict[str, Any] = {
        "cache": made / "cache",
        "output": output,
        "model": str(made / "llama"),
        "max_new_tokens": NEW,
        "batch_size": 8,
        "threads": 1,
        "device": "cpu",
    }
    result = generate(GenerationConfig.model_validate(config | changes), lambda done, total, tokens: None)
    return result, [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def naive_greedy(model: torch.nn.Module, prompt: list[int], size: int, end: int) -> list[int]:
    """One forward pass a token over the whole text, alone, without cache or padding."""
    tokens = list(prompt)
    with torch.no_grad():
        while len(tokens) < len(prompt) + NEW:
            logits_V = model(input_ids=torch.tensor([tokens])).logits[0, -1, :size]
            if int(logits_V.argmax()) == end:
                break
            tokens.append(int(logits_V.argmax()))
    return tokens


@pytest.mark.parametrize(("name", "kind"), [("llama", LlamaForCausalLM), ("gpt2", GPT2LMHeadModel)])
def test_greedy_texts_are_those_of_a_plain_loop(made: Path, tmp_path: Path, name: str, kind: Any) -> None:
    """In batches of 8, padded; with penalties of the model's own left aside, and no token beyond the tokenizer's."""
    _, records = run(made, tmp_path / "out.jsonl", model=str(made / name), temperature=0)
    model, tokenizer = kind.from_pretrained(made / name).eval(), PreTrainedTokenizerFast.from_pretrained(made / name)
    assert len(records) > 40
    for record in records:
        prompt = tokenizer(record["prompt"])["input_ids"]
        tokens = naive_greedy(model, prompt, len(tokenizer), tokenizer.eos_token_id)
        whole = tokenizer.decode(tokens, skip_special_tokens=True)
        head = tokenizer.decode(prompt, skip_special_tokens=True)
        assert whole.startswith(head)
        assert record["response"].rstrip("\ufffd") == whole[len(head) :].rstrip("\ufffd"), record["id"]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_batch_changes_nothing(made: Path, tmp_path: Path, name: str) -> None:
    model = str(made / name)
    _, one = run(made, tmp_path / "one.jsonl", model=model, batch_size=1)
    _, many = run(made, tmp_path / "many.jsonl", model=model, batch_size=64)
    _, few = run(made, tmp_path / "few.jsonl", model=model, limit=5)
    assert one == many
    assert few == [record for record in many if record["id"] in {f"s{n}" for n in range(5)}]
    run(made, tmp_path / "again.jsonl", model=model, batch_size=64)
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "many.jsonl").read_bytes()
    _, other = run(made, tmp_path / "other.jsonl", model=model, seed=1)
    assert sum(a["response"] != b["response"] for a, b in zip(many, other, strict=False)) > 30


def test_prompts_are_the_caches_own_in_its_order_and_extract_reads_the_file(made: Path, tmp_path: Path) -> None:
    result, records = run(made, tmp_path / "out.jsonl")
    kept = _samples(made / "cache")
    by_id = {record["id"]: record for record in records}
    assert [record["id"] for record in records] == [sample.id for sample in kept if sample.id in by_id]
    assert result.texts == len(records) and result.texts + result.blank + result.unusable == len(kept)
    for sample in kept:
        if sample.id in by_id:
            assert by_id[sample.id]["prompt"] == sample.text[: sample.targets[0, 0]]
    corpus = CorpusConfig(files=[str(tmp_path / "out.jsonl")], id="id", prompt="prompt", response="response")
    read = [
        (sample.id, sample.text[: sample.targets[0][0]], sample.text[sample.targets[0][0] :])
        for sample in read_corpus(corpus)
    ]
    assert read == [(record["id"], record["prompt"], record["response"]) for record in records]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_plain_texts_are_continued_from_their_first_words(made: Path, tmp_path: Path, name: str) -> None:
    arguments = {"cache": made / "plain", "model": str(made / name), "prompt_words": 3}
    result, records = run(made, tmp_path / "out.jsonl", **arguments)
    samples = _samples(made / "plain")
    sample = samples[0]
    assert records[0]["id"] == sample.id and sample.targets[0, 0] == 0
    assert records[0]["prompt"] == sample.text[: sample.words[2, 1]] == "The old miller"
    assert any(record["response"].startswith(" ") for record in records)  # the space between them is not lost
    assert result.unusable == sum(len(sample.words) < 3 for sample in samples)


def test_a_tokenizer_with_a_beginning_writes_from_nothing(made: Path, tmp_path: Path) -> None:
    _, records = run(made, tmp_path / "out.jsonl", cache=made / "plain")
    assert {record["prompt"] for record in records} == {""}
    assert len({record["response"] for record in records}) > 20  # each draws by itself
    with pytest.raises(CorpusError, match="prompt_words"):
        run(made, tmp_path / "none.jsonl", cache=made / "plain", model=str(made / "gpt2"))


def test_a_student_that_ends_every_text_at_once_is_refused_in_words(made: Path, tmp_path: Path) -> None:
    """All its logits are 0, so the likeliest token is the first; its folder says that this one ends a text."""
    model = tiny_llama(tmp_path / "mute", tiny_tokenizer(tmp_path / "mute", "bpe"))
    with torch.no_grad():
        model.lm_head.weight.zero_()
    model.generation_config.eos_token_id = [0]
    model.save_pretrained(tmp_path / "mute")
    with pytest.raises(CorpusError, match="nothing but blanks"):
        run(made, tmp_path / "out.jsonl", model=str(tmp_path / "mute"), temperature=0)
    assert not (tmp_path / "out.jsonl").exists()


def test_prompts_too_long_for_the_model_are_left_out_and_counted(made: Path, tmp_path: Path) -> None:
    """64 positions, of which 56 are for the response."""
    arguments = {"cache": made / "plain", "model": str(made / "gpt2"), "prompt_words": 4, "max_new_tokens": 56}
    result, records = run(made, tmp_path / "out.jsonl", **arguments)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(made / "gpt2")
    assert {len(tokenizer(record["prompt"])["input_ids"]) for record in records} <= set(range(4, 9))
    prompts = [sample.text[: sample.words[3, 1]] for sample in _samples(made / "plain") if len(sample.words) >= 4]
    fit = [prompt for prompt in prompts if len(tokenizer(prompt)["input_ids"]) <= 8]
    assert 0 < len(fit) < len(prompts) and result.texts + result.blank == len(fit)
    assert result.unusable == len(TEXTS) - len(fit)


def _samples(cache: Path) -> list[CachedSample]:
    opened = Cache(cache)
    return [opened.sample(position) for position in range(len(opened))]


def test_ends_and_cuts_are_told_apart(made: Path, tmp_path: Path) -> None:
    """At a temperature of 1e6 every token is as likely as another, so some responses meet the end and some do not."""
    result, _ = run(made, tmp_path / "out.jsonl", temperature=1e6, top_p=1.0, max_new_tokens=100)
    assert 0 < result.ended < result.texts
    assert result.tokens < 100 * (result.texts + result.blank)


def test_what_cannot_be_leaves_nothing_behind(made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("precious")
    refused: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"output": tmp_path / "mine.jsonl"}, RunError, "exists"),
        ({"model": "/nowhere/at/all"}, ModelError, "/nowhere/at/all"),
        ({"max_new_tokens": 512}, ModelError, "only 512 positions"),
        ({"device": "cuda"}, ResourceError, "no GPU"),
    ]
    for changes, error, said in refused:
        if changes.get("device") == "cuda" and torch.cuda.is_available():
            continue
        with pytest.raises(error, match=said):
            run(made, changes.pop("output", tmp_path / "out.jsonl"), **changes)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jsonl"]
    assert (tmp_path / "mine.jsonl").read_text() == "precious"


def test_a_file_that_was_made_meanwhile_stays_and_so_do_the_texts(made: Path, tmp_path: Path) -> None:
    """As by a second generation into one file, which ended first."""
    run(made, tmp_path / "alone.jsonl", max_new_tokens=4)
    output = tmp_path / "out.jsonl"
    (tmp_path / "out-2.jsonl").write_text("another")

    def plant(done: int, total: int, tokens: int) -> None:
        output.write_text("precious")

    config = {"cache": made / "cache", "model": str(made / "llama"), "max_new_tokens": 4, "batch_size": 8}
    config |= {"threads": 1, "device": "cpu", "output": output}
    with pytest.raises(RunError) as refused:
        generate(GenerationConfig.model_validate(config), plant)
    assert str(refused.value) == (
        f"{output} exists: it was made by another while these texts were written, and it is left as it is; they are "
        f"whole in {tmp_path / 'out-3.jsonl'}"
    )
    assert output.read_text() == "precious" and (tmp_path / "out-2.jsonl").read_text() == "another"
    assert (tmp_path / "out-3.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    assert len(list(tmp_path.iterdir())) == 4


def test_a_killed_generation_leaves_nothing(made: Path, tmp_path: Path) -> None:
    def kill(done: int, total: int, tokens: int) -> None:
        if done > 16:
            raise KeyboardInterrupt

    config = GenerationConfig(
        cache=made / "cache", output=tmp_path / "out.jsonl", model=str(made / "llama"), max_new_tokens=4, batch_size=8
    )
    with pytest.raises(KeyboardInterrupt):
        generate(config, kill)
    assert not list(tmp_path.iterdir())


def test_an_output_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must end in \.jsonl"):
        GenerationConfig(cache=Path("a"), output=Path("b.json.gz"), model="c")
