"""Hostile models, tokenizers and files of other programs."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.jobs.hostile_inputs.caches import PICKLE, absurd_header
from tests.jobs.hostile_inputs.world import PAYLOAD, Input, edit, link, pipe, put, remove, sparse

EVALUATE, PLAN = ("evaluate", "teacher", "--text", "held.jsonl"), ("plan", "extract.yaml")
IMPORT, STATES = ("import", "import.yaml"), ("import", "states.yaml")


def auto_map() -> None:
    put("teacher/modeling_evil.py", PAYLOAD + "class Evil: pass\n")
    edit(
        "teacher/config.json",
        auto_map={"AutoConfig": "modeling_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"},
        model_type="evil",
    )


def tokenizer_code() -> None:
    put("teacher/tokenization_evil.py", PAYLOAD + "class Evil: pass\n")
    edit(
        "teacher/tokenizer_config.json",
        auto_map={"AutoTokenizer": ["modeling_evil.Evil", None]},
        tokenizer_class="Evil",
    )


def header(tensors: dict[str, Any]) -> None:
    content = json.dumps(tensors).encode()
    put("teacher/model.safetensors", len(content).to_bytes(8, "little") + content)


def chat(template: str) -> None:
    put(
        "chats.jsonl",
        json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}) + "\n",
    )
    put("teacher/chat_template.jinja", template)
    data = yaml.safe_load(Path("extract.yaml").read_text())
    data["corpus"] = {"files": ["chats.jsonl"], "conversations": {"layout": "messages"}}
    put("extract.yaml", yaml.safe_dump(data))


def first_row(**changes: Any) -> None:
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    rows[0] |= changes
    put("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def nan_rows() -> None:
    rows = json.loads(Path("rows.jsonl").read_text().splitlines()[0])["top_values"]
    first_row(top_values=[[float("nan")] * len(row) for row in rows])


def adapter() -> None:
    put(
        "lora/adapter_config.json",
        '{"peft_type": "LORA", "auto_mapping": {"base_model_class": "Evil", "parent_library": "evil"}}',
    )
    put("lora/adapter_model.bin", PICKLE)


INPUTS: dict[str, Input] = {
    "a model with code of its own": Input(
        auto_map, EVALUATE, "it brings its own code: set `trust_remote_code: true` to run that"
    ),
    "a teacher with code of its own": Input(
        auto_map, PLAN, "it brings its own code: set `trust_remote_code: true` to run that"
    ),
    "a tokenizer with code of its own": Input(tokenizer_code, PLAN, "contains custom code which must be executed"),
    "weights that are a pickle": Input(
        lambda: (remove("teacher/model.safetensors"), put("teacher/pytorch_model.bin", PICKLE)),
        EVALUATE,
        "pickles are not read",
    ),
    "a pickle named safetensors": Input(
        partial(put, "teacher/model.safetensors", PICKLE), EVALUATE, "its files have only 49 bytes"
    ),
    "weights with a header of 2^63 bytes": Input(
        partial(absurd_header, "teacher/model.safetensors"), EVALUATE, "its files have only 10 bytes"
    ),
    "weights with a header of 90 MB": Input(
        partial(put, "teacher/model.safetensors", (90_000_000).to_bytes(8, "little") + b'{"a":' + b" " * 90_000_000),
        EVALUATE,
        "invalid JSON in header",
    ),
    "weights that lie on one another": Input(
        partial(header, {"a": {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 1 << 62]}}),
        EVALUATE,
        "a model of 20,144 weights, and its files have only",
    ),
    "weights that are /dev/zero": Input(partial(link, "teacher/model.safetensors"), EVALUATE, "holds no weights"),
    "weights that are a pipe": Input(partial(pipe, "teacher/model.safetensors"), PLAN, "holds no weights"),
    "weights of 4 TB": Input(
        partial(sparse, "teacher/model.safetensors"), EVALUATE, "Error while deserializing header"
    ),
    "an index of weights that climbs out": Input(
        lambda: (
            remove("teacher/model.safetensors"),
            put("teacher/model.safetensors.index.json", json.dumps({"weight_map": {"a": "../../evil.safetensors"}})),
        ),
        EVALUATE,
        "lists '../../evil.safetensors'; only safetensors in the model's own folder are read",
    ),
    "an adapter that is a pickle": Input(
        adapter,
        ("verify", "cache", "--replay", "1", "--teacher", "teacher", "--adapter", "lora"),
        "is not the teacher that cache was made with: adapter differ",
    ),
    "kernels from the hub": Input(
        partial(edit, "teacher/config.json", _attn_implementation="kernels-community/flash-attn"), EVALUATE, "", 0
    ),
    "a config of 4 TB": Input(partial(sparse, "teacher/config.json"), PLAN, "teacher/config.json: it is larger than"),
    "a config of 2^31 layers": Input(
        partial(edit, "teacher/config.json", num_hidden_layers=(1 << 31) - 1), PLAN, "a model has up to 1,000 layers"
    ),
    "a config 2^40 wide": Input(
        partial(edit, "teacher/config.json", hidden_size=1 << 40), EVALUATE, "a model of 1,384,285,139,369,984 weights"
    ),
    "a config nested without end": Input(
        partial(put, "teacher/config.json", '{"a":' * 100_000),
        PLAN,
        "teacher/config.json is damaged: it is nested too deeply",
    ),
    "a tokenizer that is /dev/zero": Input(
        partial(link, "teacher/tokenizer.json"), PLAN, "teacher/tokenizer.json: it is not a regular file"
    ),
    "a tokenizer that is a pipe": Input(
        partial(pipe, "teacher/tokenizer.json"), EVALUATE, "teacher/tokenizer.json: it is not a regular file"
    ),
    "a tokenizer nested without end": Input(
        partial(put, "teacher/tokenizer.json", '{"a":' * 100_000), PLAN, "maximum recursion depth exceeded"
    ),
    "a tokenizer that doubles 40 times": Input(
        lambda: edit(
            "teacher/tokenizer.json",
            normalizer={
                "type": "Sequence",
                "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40,
            },
        ),
        PLAN,
        "may make a text more than 1,024 times as long",
    ),
    "a tokenizer of a regex that backtracks": Input(
        lambda: edit(
            "teacher/tokenizer.json",
            pre_tokenizer={"type": "Split", "pattern": {"Regex": "((a+)+)+$"}, "behavior": "Isolated", "invert": False},
        ),
        PLAN,
        "fingerprint",
        0,
    ),
    "a chat template that escapes": Input(
        partial(chat, "{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        PLAN,
        "access to attribute '__class__' of 'str' object is unsafe",
    ),
    "a chat template without end": Input(
        partial(chat, "{% for a in range(10**9) %}{% for b in range(10**9) %}x{% endfor %}{% endfor %}"),
        PLAN,
        "Range too big",
    ),
    "a chat template as large as memory": Input(
        partial(chat, "{{ 'x' * 10**12 }}"), PLAN, "'*' would give more than 67,108,864 characters"
    ),
    "a chat template that includes": Input(
        partial(chat, "{% include '/etc/passwd' %}"), PLAN, "the chat template refuses it"
    ),
    "modules that climb out": Input(
        partial(
            put, "encoder/modules.json", json.dumps([{"idx": 0, "name": "0", "path": "../../..", "type": "os.system"}])
        ),
        ("evaluate", "encoder", "--pairs", "pairs.csv"),
        "encoder/modules.json is damaged: it lists no modules, or modules outside its own folder",
    ),
    "rows with tokens below 0": Input(
        partial(first_row, input_ids=[-1, -2, 1 << 40]),
        IMPORT,
        "rows.jsonl:1: 'input_ids' holds something that is not a whole number of 32 bits",
    ),
    "rows that say NaN": Input(nan_rows, IMPORT, "rows.jsonl:1"),
    "rows nested without end": Input(
        partial(put, "rows.jsonl", '{"input_ids": ' + "[" * 100_000), IMPORT, "rows.jsonl:1: nested too deeply"
    ),
    "rows that are a pickle": Input(partial(put, "rows.jsonl", PICKLE), IMPORT, "rows.jsonl:1: byte 1 is not UTF-8"),
    "rows that are a pipe": Input(partial(pipe, "rows.jsonl"), IMPORT, "cannot read rows.jsonl: it is a pipe"),
    "a compression that is an object of Python": Input(
        lambda: put("compression_config.yaml", "!!python/object/apply:os.system ['touch pwned']"),
        IMPORT,
        "could not determine a constructor for the tag",
    ),
    "states as pickles": Input(
        lambda: (remove("prepared/hidden_states"), put("prepared/hidden_states/data_0.pt", PICKLE)),
        STATES,
        "its .pt files are pickles, which are not read",
    ),
    "states with a header of 2^63 bytes": Input(
        partial(absurd_header, "prepared/hidden_states/hs_0.safetensors"), STATES, "header too large"
    ),
    "states that are /dev/zero": Input(
        partial(link, "prepared/hidden_states/hs_0.safetensors"), STATES, "it is a device, and a regular file is wanted"
    ),
    "states whose data set climbs out": Input(
        partial(put, "prepared/state.json", json.dumps({"_data_files": [{"filename": "../../etc/passwd"}]})),
        STATES,
        "lacks files that state.json names: '../../etc/passwd'",
    ),
    "a data set described by a pipe": Input(
        partial(pipe, "prepared/state.json"), STATES, "prepared/state.json, which describes a data set: it is a pipe"
    ),
}
