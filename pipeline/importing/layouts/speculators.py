"""Hidden states of vLLM speculators (vllm-project/speculators at c05b95b3: src/speculators/data_generation/offline.py,
src/speculators/train/data.py and scripts/data_generation_offline.py).

A folder that `datasets` saved, with the columns `input_ids` and `loss_mask` (1 for a token that is learnt), and beside
its files `hidden_states/hs_I.safetensors` for row I, from 0: `token_ids` [T], the same, and `hidden_states` [T, layers,
d]. Rows without a file are left out, as there (`on_missing: skip`).

The layers are those of vLLM's `eagle_aux_hidden_state_layer_ids`, which the files do not say: what goes into block I,
as transformers' hidden_states[I]; and at last what comes out of the last block, before the final norm (`verifier_norm`
in models/eagle3/core.py). The norm is applied here.

Older files, one `data_I.pt` per sample, are pickles and are refused.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase

from pipeline.importing.fields import integers
from pipeline.importing.layout import ForeignLayout, ForeignSample
from schemas.configs.importing import ImportConfig
from schemas.errors import ConfigError, CorpusError
from schemas.storage.regular import require_regular
from schemas.storage.storage import locate
from schemas.texts.records import read_records
from schemas.texts.saved import saved_files

STATES = "hidden_states"
FREQUENCIES = "token_freq.pt"  # of tokens: prepare_data.py leaves it beside every data set


class Speculators(ForeignLayout):
    """Hidden states of whole samples."""

    name = "speculators"
    gives = "hidden"

    def read(self, config: ImportConfig, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Iterator[ForeignSample]:
        """See `ForeignLayout.read`."""
        assert config.layers is not None  # the numbers of an import were asked for it
        fields, row, found = ["input_ids", "loss_mask"], -1, 0
        data = locate(config.files[0])
        if len(config.files) > 1 or not data.is_dir() or not (files := saved_files(data)):
            raise ConfigError("files: name one folder, the data set that prepare_data.py has saved")
        states = data / STATES
        if not states.is_dir():
            raise CorpusError(f"{data}: there is no folder {STATES} beside the data set; {_pickles(data)}")
        for file in files:
            for line, record in read_records(file, fields, nested=fields):
                row, place = row + 1, f"{file}:{line}"
                path = states / f"hs_{row}.safetensors"
                if not path.exists():
                    continue
                found += 1
                ids_T, mask = (integers(record, name, place) for name in fields)
                if len(mask) != len(ids_T):
                    raise CorpusError(f"{place}: {len(ids_T)} input_ids and {len(mask)} of loss_mask")
                yield ForeignSample(
                    place, ids_T, None, mask == 1, read_states(path, ids_T.tolist(), len(config.layers))
                )
        if not found:
            raise CorpusError(f"{states}: there is no hs_0.safetensors, nor of any other row; {_pickles(states)}")


def read_states(path: Path, ids: list[int], layers: int) -> torch.Tensor:
    """[T, layers, d] of one file, of the tokens `ids`. Raises CorpusError."""
    try:
        require_regular(path)
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CorpusError(f"cannot read {path}: {error}") from error
    if missing := {"token_ids", STATES} - tensors.keys():
        raise CorpusError(f"{path} has no {' and no '.join(sorted(missing))}")
    if tensors["token_ids"].tolist() != ids:
        raise CorpusError(f"{path}: its token_ids are not the input_ids of its row")
    found = tensors[STATES]
    if found.ndim != 3 or found.shape[:2] != (len(ids), layers) or not found.is_floating_point():
        raise CorpusError(
            f"{path}: hidden_states is {found.dtype} {list(found.shape)}, and of {len(ids)} tokens and {layers} layers "
            f"it is [{len(ids)}, {layers}, width]"
        )
    if not found.isfinite().all():
        raise CorpusError(f"{path}: hidden_states holds numbers that are not finite")
    return found


def _pickles(folder: Path) -> str:
    if any(path.name != FREQUENCIES for path in folder.glob("*.pt")):
        return "its .pt files are pickles, which are not read: generate the data anew, or save them as safetensors"
    return "generate them by scripts/data_generation_offline.py"


LAYOUT = Speculators()
