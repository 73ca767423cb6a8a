"""A job is given what its config's storages are reached by, and nothing of any other."""

import pytest

from jobs.submit.storages import say_not_sent, settings_for


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": "http://s", "GOOGLE_CLOUD_PROJECT": "g", "HF_TOKEN": "h"}
    for name, value in (given | {"FSSPEC_S3_ANON": "false", "AWS_PROFILE": "mine", "AWS_CA_BUNDLE": "/"}).items():
        monkeypatch.setenv(name, value)


def test_every_url_of_a_config_counts_wherever_it_stands() -> None:
    of_s3 = {"AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": "http://s", "FSSPEC_S3_ANON": "false"}
    assert settings_for({"corpus": {"files": ["/shared/a", "s3://bucket/*.jsonl"]}, "seed": 1}) == of_s3
    assert settings_for({"cache": [{"path": "s3a://bucket/cache", "weight": 0.5}]}) == of_s3
    assert settings_for({"teacher": {"model": "hf://org/model"}, "output": "/shared"}) == {"HF_TOKEN": "h"}
    assert settings_for({"teacher": {"model": "org/model"}, "output": "file:///shared"}) == {}


def test_what_stays_here_is_named_without_its_value() -> None:
    said = say_not_sent(settings_for({"output": "gs://bucket/cache"}))
    assert said.startswith("not sent along: GOOGLE_CLOUD_PROJECT; ") and said.endswith(
        "by these with --storage-settings, and Ray's own records then show them"
    )
