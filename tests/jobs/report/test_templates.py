"""A chat template on one line."""

import hashlib

from jobs.report.templates import describe_template

LONG = "{% for message in messages %}\n{{ message.content }}{% endfor %}"


def test_its_beginning_its_hash_and_what_it_is_given() -> None:
    digest = hashlib.sha256(LONG.encode()).hexdigest()[:12]
    assert describe_template(LONG, {}) == "{% for message in messages %} {{ message… (SHA-256 " + digest + ")"
    short = describe_template("{{ messages[0].content }}", {"thinking": False, "date": "é"})
    assert short.startswith("{{ messages[0].content }} (SHA-256 ")
    assert short.endswith('), arguments {"date": "é", "thinking": false}')
