"""Jobs on a real cluster: `ray job submit -- stillroom extract` from the checkout as a user has it, and `stillroom
submit`."""

import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from schemas.configs.yaml import dump_config
from tests.buckets import Bucket
from tests.caches import build_cache, extraction, write_corpus
from tests.commands import CLI, Program
from tests.jobs.several import run_each
from tests.pipeline.cluster.running import config as node_config
from tests.pipeline.cluster.running import (
    descendants,
    make_inputs,
    num_shards,
    second_node,
    shard_files,
    teacher_processes_from_now_on,
    when,
    write_config,
)
from tests.tiny import tiny_llama, tiny_tokenizer

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("aiohttp_cors") is None, reason="needs Ray's dashboard: pip install 'ray[default]'"
    ),
]
ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sysconfig.get_path("scripts")
COMMAND = ["stillroom"] if shutil.which("stillroom", path=SCRIPTS) else ["python", "-m", "jobs.cli"]
STARTS = 3
MOST_UPLOADED = 20 * 2**20  # bytes; a virtual environment would be gigabytes, and Ray refuses 100 MB


Head = tuple[str, dict[str, str], Path]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """One for all jobs."""
    with ray_head() as found:
        yield found


def worker_logs(session: Path) -> set[Path]:
    return set(session.glob("session_2*/logs/worker-*.out"))


def uploads(session: Path) -> set[Path]:
    return set(session.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*/"))


def test_a_submitted_job_writes_the_bytes_of_this_process(head: Head, tmp_path: Path) -> None:
    tiny_llama(tmp_path / "model", tiny_tokenizer(tmp_path / "model", "bpe"))
    corpus = write_corpus(tmp_path / "corpus.jsonl")
    config = extraction(tmp_path / "submitted", tmp_path / "model", corpus, workers={"cpus": 0.5})
    (tmp_path / "extract.yaml").write_text(dump_config(config), encoding="utf-8")
    address, environment, session = head
    logs_before, uploads_before = worker_logs(session), uploads(session)
    submit(address, environment, tmp_path, ["--working-dir", str(ROOT)], str(tmp_path / "extract.yaml"))
    workers = [log.read_text(errors="replace") for log in worker_logs(session) - logs_before]
    assert any("actor_name:TeacherActor" in log for log in workers)  # on this head, not on a Ray of the job's own
    (uploaded,) = uploads(session) - uploads_before
    assert (uploaded / "jobs" / "cli.py").exists() and not (uploaded / ".venv").exists()
    assert sum(path.stat().st_size for path in uploaded.rglob("*")) < MOST_UPLOADED
    here = build_cache(config.model_copy(update={"output": tmp_path / "here"}))
    found = shard_files(config.output)
    assert len([name for name in found if name.endswith("shard.json")]) > 1
    assert found == shard_files(here)


@pytest.mark.long
def test_a_jobs_own_working_directory_is_not_imported(head: Head, tmp_path: Path) -> None:
    """Stillroom is installed, and the job's folder is the user's: Ray puts it before everything else."""
    tiny_llama(tmp_path / "model", tiny_tokenizer(tmp_path / "model", "bpe"))
    corpus = write_corpus(tmp_path / "corpus.jsonl")
    config = extraction(tmp_path / "submitted", tmp_path / "model", corpus, workers={"cpus": 0.5})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "extract.yaml").write_text(dump_config(config), encoding="utf-8")
    for name in ("schemas", "pipeline", "torch", "transformers", "zarr"):  # pyarrow would already end Ray's own worker
        trap = f"open({str(tmp_path / 'executed')!r}, 'a').write(__name__)\n"
        (tmp_path / "mine" / f"{name}.py").write_text(trap)
    address, environment, _ = head
    installed = json.dumps({"env_vars": {"PYTHONPATH": str(ROOT)}})
    options = ["--runtime-env-json", installed, "--working-dir", str(tmp_path / "mine")]
    submit(address, environment, tmp_path, options, "extract.yaml")
    assert not (tmp_path / "executed").exists()
    assert (config.output / "index.parquet").exists()


def stillroom(head: Head, folder: Path, *arguments: str) -> Program:
    """A command that talks to the head, in `folder`."""
    return Program([*CLI, *arguments], folder, environment_of(head))


def environment_of(head: Head) -> dict[str, str]:
    """For a command that talks to the head."""
    address, environment, _ = head
    return environment | {"RAY_API_SERVER_ADDRESS": address, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@pytest.mark.long
def test_submit_sends_what_the_config_names_and_follows(head: Head, bucket: Bucket, tmp_path: Path) -> None:
    """A part of the corpus is under a URL, which this shell alone knows how to reach, and not the head."""
    tiny_llama(tmp_path / "model", tiny_tokenizer(tmp_path / "model", "bpe"))
    texts = write_corpus(tmp_path / "corpus.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "corpus.jsonl").write_bytes(b"".join(texts[:50]))
    bucket.put("more.jsonl", b"".join(texts[50:]))
    more = f"{bucket.url}/more.jsonl"
    config = extraction(tmp_path / "submitted", tmp_path / "model", Path("corpus.jsonl"), workers={"cpus": 0.5})
    config = config.model_copy(update={"corpus": config.corpus.model_copy(update={"files": ["corpus.jsonl", more]})})
    (tmp_path / "extract.yaml").write_text(dump_config(config), encoding="utf-8")
    uploads_before = uploads(head[2])
    options = ["--set", "batching.unit_tokens=400", "--storage-settings"]
    with_keys = environment_of(head) | bucket.server.settings()
    job = Program([*CLI, "submit", "extract", "extract.yaml", *options], tmp_path, with_keys)
    said, beside = job.communicate(timeout=200)
    assert job.returncode == 0, said + beside
    assert f"{config.output}" in said and "55 samples" in said
    name = re.search(r"job (stillroom-extract-\w+) has succeeded", beside)
    assert name is not None, beside
    (uploaded,) = uploads(head[2]) - uploads_before
    sent = {path.name for path in uploaded.iterdir()}
    assert sent == {"config.yaml", "files", "jobs", "pipeline", "schemas", "trainer"}
    corpus = config.corpus.model_copy(update={"files": [str(tmp_path / "corpus.jsonl"), more]})
    batching = config.batching.model_copy(update={"unit_tokens": 400})
    changes = {"output": tmp_path / "here", "corpus": corpus, "batching": batching}
    assert shard_files(config.output) == shard_files(build_cache(config.model_copy(update=changes)))
    again = stillroom(head, tmp_path, "submit", "--follow", name[1])
    assert again.communicate(timeout=60)[0] == said and again.returncode == 0


@pytest.mark.long
def test_a_job_on_two_nodes_has_an_actor_on_each_and_writes_the_same_bytes(head: Head, tmp_path: Path) -> None:
    """A node has room for one actor."""
    folder = make_inputs(tmp_path)
    config = node_config(folder, "submitted", workers={"count": 2, "cpus": 1.5, "annotator_cpus": 0.25})
    write_config(config)
    said = re.compile(r"--address='([0-9.:]+)'")  # a moment after its dashboard answers
    assert wait_for(lambda: said.search((head[2] / "head.log").read_text()) is not None)
    address, *_ = said.findall((head[2] / "head.log").read_text())
    ours = teacher_processes_from_now_on()
    with second_node(address, head[1], lambda: nodes_alive(head) == 2) as node:

        def there() -> list[psutil.Process]:
            return descendants(node.pid, "ray::TeacherActor")

        def let_each_work_alone() -> None:
            for process in ours():
                process.suspend()
            assert wait_for(lambda: len(ours()) == 2 and len(there()) == 1)
            (other,) = there()
            (here,) = (process for process in ours() if process != other)
            for held, works in ((here, other), (other, here)):
                held.suspend()
                works.resume()
                before = num_shards(config.output)
                wait_for(lambda before=before: num_shards(config.output) >= before + 3)  # type: ignore[misc]
            other.resume()

        # The first to be there saves the teacher's files; without them none works.
        watcher = when((config.output / "teacher").is_dir, let_each_work_alone)
        job = stillroom(head, tmp_path, "submit", "extract", f"{config.output}.yaml")
        shown, beside = job.communicate(timeout=200)
        watcher.join()
    assert job.returncode == 0, shown + beside
    lines = [json.loads(line) for line in (config.output / "extraction.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines if line["event"] != "unit"] == ["start", "end"]
    assert {line["worker"] for line in lines if line["event"] == "unit"} == {0, 1}
    assert shard_files(config.output) == shard_files(build_cache(node_config(folder, "here")))


def nodes_alive(head: Head) -> int:
    """How many nodes the cluster has, by its dashboard."""
    address, environment, _ = head
    asked = urllib.request.Request(f"{address}/nodes?view=summary", headers=authorised(environment["RAY_AUTH_TOKEN"]))
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=5) as answer:
        nodes = json.load(answer)["data"]["summary"]
    return sum(node["raylet"]["state"] == "ALIVE" for node in nodes)


@pytest.mark.long
def test_a_job_that_fails_passes_its_exit_code_and_words_on(head: Head, tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"text": "One."}\n')
    corpus, teacher = {"files": ["corpus.jsonl"], "text": "text"}, {"model": str(tmp_path / "nowhere")}
    settings = {"output": str(tmp_path / "cache"), "corpus": corpus, "teacher": teacher}
    (tmp_path / "extract.yaml").write_text(json.dumps(settings))
    job = stillroom(head, tmp_path, "submit", "extract", "extract.yaml")
    said, beside = job.communicate(timeout=200)
    assert job.returncode == 2, said + beside
    assert f"{tmp_path}/nowhere; give an existing folder" in said and "Traceback" not in said + beside
    assert re.search(r"job stillroom-extract-\w+ has failed with exit code 2\n$", beside), beside


@pytest.mark.long
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_a_job_running_that_can_be_followed_and_stopped(head: Head, tmp_path: Path) -> None:
    tiny_llama(tmp_path / "model", tiny_tokenizer(tmp_path / "model", "bpe"))
    cache = build_cache(extraction(tmp_path / "cache", tmp_path / "model", write_corpus(tmp_path / "corpus.jsonl")))
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    student = {"architecture": {"model_type": "llama", **sizes}, "tokenizer": "teacher"}
    settings = {"cache": str(cache), "output": str(tmp_path / "run"), "student": student, "steps": 1_000_000}
    (tmp_path / "train.yaml").write_text(json.dumps(settings))
    detached = stillroom(head, tmp_path, "submit", "train", "train.yaml", "--detach")
    said, beside = detached.communicate(timeout=100)
    assert detached.returncode == 0, beside
    found = re.search(r"--follow (\S+) --address (\S+)`, end it with `stillroom submit --stop", said)
    assert found is not None and found[2] == head[0]
    name = found[1]
    follower = stillroom(head, tmp_path, "submit", "--follow", name)
    assert wait_for((tmp_path / "run" / "run.json").exists)
    assert f"job {name} is " in follower.stderr.readline()
    follower.send_signal(signal.SIGINT)
    said, beside = follower.communicate(timeout=60)
    assert follower.returncode == 130 and f"job {name} goes on" in beside and "Traceback" not in beside, beside
    stopped, followed, unknown = run_each(
        [["submit", "--stop", name], ["submit", "--follow", name], ["submit", "--follow", "nobody"]],
        tmp_path,
        environment_of(head),
    )
    assert f"job {name} was stopped\n" in stopped.beside and stopped.code == 0
    assert followed.beside.endswith("was stopped\n") and followed.code == 143
    assert unknown.code == 2 and "nobody" in unknown.beside and unknown.beside.count("\n") == 1, unknown


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it comes to hold."""
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.1)
    return condition()


def submit(address: str, environment: dict[str, str], folder: Path, options: list[str], config: str) -> None:
    """Submit an extraction as a job from `folder`, and see it succeed."""
    job = subprocess.run(
        ["ray", "job", "submit", "--address", address, *options, "--", *COMMAND, "extract", config],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert job.returncode == 0 and "succeeded" in job.stdout, job.stdout


@contextmanager
def ray_head() -> Iterator[Head]:
    """A head of two processors with a dashboard: its address, the environment to talk to it in, and its own folder.

    On a busy machine one of its processes may be too slow for the others, and the head gives up: then another is
    started. The folder is not pytest's: Ray puts Unix sockets under it, and their paths may have 107 bytes at most.
    """
    token = secrets.token_hex(32)  # one of its own, or a token left in the home directory would decide who may submit
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    environment["PATH"] = os.pathsep.join([SCRIPTS, environment.get("PATH", os.defpath)])
    said = ""
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
            log = Path(folder, "head.log")
            environment["STILLROOM_CACHE"] = str(Path(folder, "copies"))
            with started_head(Path(folder), log, environment) as (head, address):
                if answers(head, f"{address}/api/version", token):
                    yield address, environment, Path(folder)
                    return
            said = log.read_text()
    pytest.fail(f"none of {STARTS} heads gave an answer; the last:\n{said}")


@contextmanager
def started_head(folder: Path, log: Path, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A head, and where its dashboard will answer. `ray stop` would end every Ray of the machine: this ends its own."""
    dashboard, client, agent = free_ports(3)
    options = {
        "node-ip-address": "127.0.0.1",
        "port": 0,
        "dashboard-port": dashboard,
        "ray-client-server-port": client,
        "dashboard-agent-listen-port": agent,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "num-cpus": 2,
        "object-store-memory": 100 * 2**20,
        "temp-dir": folder,
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    start = ["ray", "start", "--head", "--block", "--disable-usage-stats", *flags]
    with log.open("w") as output:
        head = subprocess.Popen(start, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield head, f"http://127.0.0.1:{dashboard}"
    finally:
        end_group(head)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def authorised(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def answers(head: subprocess.Popen[bytes], url: str, token: str) -> bool:
    """Whether the head's dashboard comes to answer, before it ends or two minutes have passed."""
    request = urllib.request.Request(url, headers=authorised(token))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    limit = time.monotonic() + 120
    while head.poll() is None and time.monotonic() < limit:
        try:
            with opener.open(request, timeout=5):
                return True
        except OSError:  # URLError, and a connection that ends early
            time.sleep(0.2)
    return False


def end_group(head: subprocess.Popen[bytes]) -> None:
    """The head and all it started, also what left its group, as the driver of a job does."""
    started = psutil.Process(head.pid).children(recursive=True) if head.poll() is None else []
    for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(head.pid, number)
            head.wait(seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    for process in psutil.wait_procs(started, timeout=5)[1]:
        process.kill()
