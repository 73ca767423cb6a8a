"""The command line. Every command imports what it needs when it runs, so `stillroom --help` answers at once."""

import os
from pathlib import Path
from typing import Annotated

import typer

from jobs.guard import GuardedGroup, guard, heed_interrupts, make_output_safe, require_docstrings
from schemas.errors import ConfigError
from schemas.storage.remote import locate_anywhere
from schemas.storage.storage import locate

app = typer.Typer(
    name="stillroom",
    cls=GuardedGroup,
    help="Distil language models from teachers that are no longer running.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _place(text: str) -> Path:
    """A path, where `~` begins at a home folder, or the URL of a known storage."""
    try:
        return locate(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _anywhere(text: str) -> Path:
    """The same, or of what lies under any other URL the path of its copy."""
    try:
        return locate_anywhere(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _model(text: str) -> str:
    """A folder or a file as `_place` finds it, or a hub id."""
    from schemas.bounds import locate_model

    try:
        return str(locate_model(text))
    except ValueError as error:
        raise ConfigError(str(error)) from error


ConfigPath = Annotated[
    Path, typer.Argument(parser=_place, metavar="CONFIG.yaml", help="The config file; `stillroom schema` describes it.")
]
CachePath = Annotated[
    Path,
    typer.Argument(
        parser=_anywhere, metavar="CACHE", help="A cache folder that `stillroom extract` wrote, or its URL."
    ),
]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Override one field, e.g. optimizer.lr=1e-3, or in a list by number from 0, e.g. objective.1.weight=0.5; "
        "may be repeated.",
    ),
]


@app.command()
def plan(
    config: ConfigPath,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Run the teacher here for some 20 s: time and bytes are measured."),
    ] = False,
) -> None:
    """Say what `extract` or `extend` would do: samples, units, tokens, bytes on disk by array and encoding; and where a
    cache is there, what it lacks. Loads no weights except to probe."""
    from jobs.extract import show_plan

    show_plan(config, overrides, probe)


@app.command()
def extract(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Run the teacher once over a corpus and keep its states. Run it again to go on; a finished cache is left alone."""
    from jobs.extract import run_extraction

    run_extraction(config, overrides)


@app.command(name="import")
def import_(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Make a cache out of what another program has kept of a teacher: top-k datasets of DistillKit or axolotl, hidden
    states of vLLM speculators. All of it is checked before anything is written."""
    from jobs.importing import run

    run(config, overrides)


@app.command()
def extend(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Add to a finished cache the samples that its corpus has gained at its end, and the layers and kinds that its
    config has gained in `states`. Only what is new is run; what is there stays. Run it again to go on."""
    from jobs.extract import run_extension

    run_extension(config, overrides)


@app.command()
def inspect(
    caches: Annotated[
        list[Path],
        typer.Argument(
            parser=_anywhere, metavar="CACHE...", help="Cache folders or URLs; several as a run reads them together."
        ),
    ],
    sample: Annotated[
        str | None, typer.Option(help="Id of the sample to show; left out, the first, or with a student none.")
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            parser=_model,
            metavar="FOLDER|CONFIG",
            help="A student's folder or hub id, or a training config: show how its tokens fit the cache's.",
        ),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=2, help="Where its samples are cut; left out, as the config says, or 1024.")
    ] = None,
) -> None:
    """Show what a cache holds: teacher, arrays, sizes, and one sample with its spans marked in the text. Of several:
    whether a run can read them together, and what each brings. With a student: how its tokens fit the cache's, over
    many samples, and in one if it is named."""
    if student is not None:
        from jobs.inspect_student import show_student

        show_student(caches, student, max_tokens, sample)
        return
    from jobs.inspect import show_caches

    show_caches(caches, sample)


@app.command()
def verify(
    cache: CachePath,
    replay: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=2**31 - 1,
            metavar="N",
            help="Also load the teacher, compute N random samples once more, each alone, and compare them with the "
            "cache's.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Draws the samples; with --replay.")] = 0,
    teacher: Annotated[
        str | None,
        typer.Option(
            parser=_model, metavar="FOLDER|ID", help="The teacher; left out, the hub id in cache.json; with --replay."
        ),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(parser=_model, metavar="FOLDER|ID", help="The LoRA adapter that was merged; with --replay."),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that ships with the teacher; with --replay.")
    ] = False,
    in_batch: Annotated[
        bool,
        typer.Option(
            "--in-batch",
            help="Not alone, but in the batches of the extraction: numbers agree to the bit where the same machine and "
            "libraries made the cache; with --replay.",
        ),
    ] = False,
    placement: Annotated[
        str | None,
        typer.Option(
            metavar="device|spread",
            help="As `teacher.placement`; left out, spread if no device has room for the teacher; with --replay.",
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="{...}",
            help="What a teacher that is spread may take, as `teacher.max_memory`, e.g. '{0: 20GB, cpu: 100GB}'; with "
            "--replay.",
        ),
    ] = None,
) -> None:
    """Check every checksum, row count and number of a cache. Exits 2 at damage, naming every damaged shard. With
    --replay, also at states that the teacher does not give."""
    from jobs.verify import ReplayOptions, parse_max_memory, parse_placement, replay_cache, verify_cache

    options = ReplayOptions(
        replay or 1,
        seed,
        teacher,
        adapter,
        trust_remote_code,
        in_batch,
        None if placement is None else parse_placement(placement),
        None if max_memory is None else parse_max_memory(max_memory),
    )
    if replay is None and options != ReplayOptions(1):
        raise ConfigError("all options go with --replay N: there is nothing else to choose")
    if replay is None:
        verify_cache(cache)
    else:
        replay_cache(cache, options)


@app.command()
def repair(cache: CachePath) -> None:
    """Drop the damaged shards of a cache, and no others, so that `extract` makes exactly these again."""
    from jobs.repair import repair_cache

    repair_cache(cache)


@app.command()
def diff(
    first: CachePath,
    second: Annotated[Path, typer.Argument(parser=_anywhere, metavar="OTHER", help="Another cache folder or URL.")],
) -> None:
    """Say in what two caches differ: settings, samples, and the largest difference of every array. Exits 1 if they
    do."""
    from jobs.diff import show_difference

    if show_difference(first, second):
        raise typer.Exit(1)


@app.command()
def reindex(cache: CachePath) -> None:
    """Rebuild a cache's index.parquet from its shards."""
    from jobs.extract import rebuild_index

    rebuild_index(cache)


@app.command()
def train(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Train one student from a cache. Run it again to resume; a finished run is left alone."""
    from jobs.train import run_training

    run_training(config, overrides)


@app.command()
def sweep(
    config: Annotated[
        Path,
        typer.Argument(parser=_place, metavar="SWEEP.yaml", help="The sweep; `stillroom schema sweep` describes it."),
    ],
    overrides: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="Override one field, e.g. workers.count=4.")
    ] = [],  # noqa: B006
) -> None:
    """Train many students that differ in a few values, and compare them in one table. Run it again to go on."""
    from jobs.sweep.sweep import run_sweep

    run_sweep(config, overrides)


@app.command()
def submit(
    command: Annotated[
        str | None, typer.Argument(metavar="[extract|train|sweep]", help="The command to run on the cluster.")
    ] = None,
    config: Annotated[
        Path | None, typer.Argument(parser=_place, metavar="[CONFIG.yaml]", help="Its config, which is sent along.")
    ] = None,
    overrides: Overrides = [],  # noqa: B006
    address: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard, as http://head:8265.", show_envvar=True
        ),
    ] = None,
    cpus: Annotated[float | None, typer.Option(min=0, help="Processors for the job's own process.")] = None,
    gpus: Annotated[
        float | None,
        typer.Option(min=0, help="GPUs for it; left out, those of a training with `device: cuda`."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not follow the job.")] = False,
    storage_settings: Annotated[
        bool,
        typer.Option(
            "--storage-settings",
            help="Also send what this shell's environment says of the storages whose URLs the config names, as AWS_…: "
            "keys, which Ray's own records then show.",
        ),
    ] = False,
    follow: Annotated[str | None, typer.Option(metavar="JOB", help="Follow a job from its first line on.")] = None,
    stop: Annotated[str | None, typer.Option(metavar="JOB", help="End a job; what it has committed stays.")] = None,
) -> None:
    """Run a command as a job on a Ray cluster: stillroom, the config and the files it names by relative paths are sent
    along. Its lines are shown, and its exit code is this command's; Ctrl-C leaves it running."""
    from jobs.submit.submit import follow_job, stop_job, submit_job

    if address is None:
        raise ConfigError("give --address, the cluster's dashboard, as http://head:8265")
    given = [command is not None or config is not None, follow is not None, stop is not None]
    if given.count(True) != 1 or (command is None) != (config is None):
        raise ConfigError("give a command and its config, or --follow JOB, or --stop JOB")
    if stop is not None:
        stop_job(stop, address)
    elif follow is not None:
        raise typer.Exit(follow_job(follow, address))
    elif command is not None and config is not None:
        raise typer.Exit(submit_job(command, config, overrides, address, cpus, gpus, detach, storage_settings))


@app.command()
def generate(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Let a student continue the prompts of a cache, and write its texts as JSONL for `extract`."""
    from jobs.generate import run_generation

    run_generation(config, overrides)


@app.command()
def evaluate(
    models: Annotated[
        list[Path], typer.Argument(parser=_place, metavar="MODEL...", help="Run folders or Hugging Face model folders.")
    ],
    text: Annotated[
        Path | None, typer.Option(parser=_place, metavar="FILE", help="Held-out texts: JSONL, or plain text.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            parser=_place,
            metavar="FILE",
            help="For sentence encoders: JSONL, CSV or TSV of sentence1, sentence2, score.",
        ),
    ] = None,
    field: Annotated[str, typer.Option(help="Field of a record that holds the text; a plain text has none.")] = "text",
    conversations: Annotated[
        str | None,
        typer.Option(
            metavar="LAYOUT|{...}",
            help="The records hold conversations, which every model reads in its own chat template: how, as a name or "
            "as `corpus.conversations` has it, e.g. '{layout: messages, targets: last}'.",
        ),
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(metavar="FILE|plain", help="Of every model, instead of its own; plain: contents without one."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use only the first N texts, conversations or pairs.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=2, help="Window; left out, the shortest of the models' own, up to 1024.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Of an installed package, say; left out, bits_per_byte, target_bits_per_byte or spearman."),
    ] = None,
) -> None:
    """Measure held-out bits per byte, which compares models across tokenizers, and nats per token: of texts, or of what
    assistants say in conversations. Or how sentence encoders rank scored pairs, as Spearman's correlation times 100."""
    from trainer.evaluation.held_out import read_material
    from trainer.evaluation.metric import find_metric

    if (text is None) == (pairs is None):
        raise ConfigError("give --text for language models, or --pairs for sentence encoders")
    if conversations is not None or chat_template is not None:
        if text is None or conversations is None:
            raise ConfigError("--chat-template goes with --conversations, and that with --text")
        from jobs.held_out import read_held_out

        found = find_metric(metric, "conversations")
        material = read_held_out(text, conversations, limit, chat_template)
    else:
        found = find_metric(metric, "texts" if text is not None else "pairs")
        material = read_material(text, pairs, field, limit)

    from jobs.evaluate import show_evaluations

    show_evaluations(models, found, material, max_tokens)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(parser=_place, metavar="RUN...", help="Folders that `stillroom train` wrote.")
    ],
    picture: Annotated[
        Path | None,
        typer.Option(parser=_place, metavar="FILE", help="Draw the curves of what was held out into this PNG."),
    ] = None,
) -> None:
    """Compare runs in a table, seeds grouped, and draw their curves."""
    from jobs.compare import show_comparison

    show_comparison(runs, picture)


@app.command()
def schema(
    which: Annotated[
        str,
        typer.Argument(metavar="[extract|train|sweep|generate|conversation|cache|shard]", help="Whose JSON schema."),
    ] = "extract",
) -> None:
    """Print the JSON schema of a config, of a conversation in a corpus, or of a file in a cache."""
    from jobs.schema import show_schema

    show_schema(which)


@app.command()
def presets(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Which to print; left out, all are listed.")
    ] = None,
) -> None:
    """List the presets, which hold the constants of the papers, or print one."""
    from jobs.presets import show_presets

    show_presets(name)


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Argument(parser=_place, metavar="[FOLDER]", help="Where everything it makes goes.")
    ] = Path("out/demo"),
) -> None:
    """The whole way on a toy: make a corpus, train a teacher, extract, distil students, compare. Works offline, in 2 to
    5 minutes."""
    from jobs.demo.demo import run_demo

    run_demo(folder)


def main() -> None:
    """Entry point. What a user or a machine can cause ends in one message on stderr and an exit code (`jobs.guard`)."""
    # Waiting threads of torch spin for long by default. If other programs want the same cores, they wait in vain for a
    # thread that lost its core: two trainings on two cores took ten times as long. If they sleep at once, they wake too
    # late for short operations: a step with span-KD on two threads took an eighth longer. So libgomp's threads spin for
    # some microseconds and then sleep; other libraries know the policy alone.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    # Pictures are drawn by Agg alone; matplotlib cannot be imported where this names a backend that it does not find.
    os.environ.pop("MPLBACKEND", None)
    make_output_safe()
    heed_interrupts()
    with guard():
        require_docstrings()
        app()


if __name__ == "__main__":
    main()
