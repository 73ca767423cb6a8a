"""What a teacher's states become on disk: the arrays of every shard, and how those that are not states are made."""

from schemas.cache.arrays import ArrayRecord, SparseKind
from schemas.cache.dtypes import ArrayDtype
from schemas.cache.manifest import SPARSE_ARRAYS, PooledRecord, SparseRecord, sparse_widths
from schemas.cache.teacher import TeacherRecord
from schemas.configs.extraction import StatesConfig
from schemas.errors import ConfigError
from schemas.layers import resolve_layer, resolve_layers


def list_arrays(states: StatesConfig, teacher: TeacherRecord) -> list[ArrayRecord]:
    """The arrays of every shard: hidden states, then token masses, layers ascending; embeddings; distributions.

    Masses are float32 whatever `states.dtype`: one number a token costs nothing, and a sum of bfloat16 masses is not 1.
    So are log-probabilities and weights. Embeddings are compressed, by 8 % in float16: nobody maps one row a sample.

    Raises ConfigError: a layer that is not there, the mass of layer 0, more entries than tokens, nothing to keep.
    """
    hidden = resolve_layers(states.hidden, teacher.num_layers, "states.hidden")
    mass = resolve_layers(states.mass, teacher.num_layers, "states.mass")
    if 0 in mass:
        raise ConfigError("states.mass: layer 0 is the embeddings, which attend to nothing; masses begin at layer 1")
    arrays = [
        *(ArrayRecord(kind="hidden", layer=layer, width=teacher.hidden_size, dtype=states.dtype) for layer in hidden),
        *(ArrayRecord(kind="mass", layer=layer, width=None, dtype="float32") for layer in mass),
    ]
    pooled = pooled_record(states, teacher)
    if states.pooled is not None and pooled is not None:
        kept = states.pooled.dtype or states.dtype
        arrays.append(
            ArrayRecord(kind="pooled", layer=pooled.layer, width=teacher.hidden_size, dtype=kept, encoding="zstd")
        )
    for name, record in sparse_records(states).items():
        if record.entries > teacher.vocab_size:
            raise ConfigError(
                f"states.{name}: {record.entries} entries a token, but the teacher has only {teacher.vocab_size} "
                f"tokens; `top_k: {{k: {teacher.vocab_size}}}` keeps the whole distribution, and a hidden state less"
            )
        dtypes: tuple[ArrayDtype, ArrayDtype] = ("int32", "float32")
        for kind, width, dtype in zip(SPARSE_ARRAYS[name], sparse_widths(name, record.entries), dtypes, strict=True):
            arrays.append(ArrayRecord(kind=kind, layer=teacher.num_layers, width=width, dtype=dtype))
    if not arrays:
        raise ConfigError("states: hidden, mass, pooled, top_k and sampled are all empty: there is nothing to keep")
    return arrays


def pooled_record(states: StatesConfig, teacher: TeacherRecord) -> PooledRecord | None:
    """How sentence embeddings are made, if they are. Raises ConfigError: no such layer."""
    pooled = states.pooled
    if pooled is None:
        return None
    layer = resolve_layer(pooled.layer, teacher.num_layers, "states.pooled.layer")
    return PooledRecord(pooling=pooled.pooling, normalise=pooled.normalise, layer=layer)


def sparse_records(states: StatesConfig) -> dict[SparseKind, SparseRecord]:
    """How next-token distributions are cut down, for each kind that is asked for."""
    records: dict[SparseKind, SparseRecord] = {}
    if states.top_k is not None:
        records["top_k"] = SparseRecord(temperature=states.top_k.temperature, entries=states.top_k.k)
    if (sampled := states.sampled) is not None:
        records["sampled"] = SparseRecord(
            temperature=sampled.temperature, entries=sampled.draws, proposal=sampled.proposal, seed=sampled.seed
        )
    return records
