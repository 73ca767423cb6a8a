"""What a hostile template tries is refused in words, soon, and changes nothing."""

import copy
from datetime import date
from typing import Any

import jinja2
import pytest

from schemas.conversations.sandbox import LONGEST, MOST_WORK, Sandbox

MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "Hi."}]


def render(source: str) -> str:
    return Sandbox(date(2026, 1, 2)).from_string(source).render(messages=MESSAGES)


ESCAPES = [
    ("{{ ''.__class__ }}", None),
    ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe."),
    ("{{ messages['__class__'] }}", None),
    ("{{ messages | attr('__class__') }}", None),
    ("{{ raise_exception.__globals__['os'] }}", "access to attribute '__globals__' of 'function' object is unsafe."),
    ("{{ cycler.__init__.__globals__ }}", "access to attribute '__init__' of 'type' object is unsafe."),
    ("{{ '{0.__class__.__mro__}'.format(messages) }}", "access to attribute '__class__' of 'list' object is unsafe."),
    ("{{ '{m.__class__.__mro__}'.format_map({'m': 1}) }}", "access to attribute '__class__' of 'int' object is unsafe"),
    ("{{ messages.append(1) }}", "access to attribute 'append' of 'list' object is unsafe."),
    ("{{ messages[0].update(role='x') }}", "access to attribute 'update' of 'dict' object is unsafe."),
    ("{{ messages[0].pop('role') }}", "access to attribute 'pop' of 'dict' object is unsafe."),
    ("{{ dict.update(messages[0], {'role': 'x'}) }}", "has no attribute 'update'"),
    ("{{ dict.mro() }}", "has no attribute 'mro'"),
    ("{% set messages[0].role = 'x' %}", "expected token"),
    ("{% set x = messages[0] %}{% set x.role = 'x' %}", "cannot assign attribute on non-namespace object"),
    ("{% set n = namespace() %}{% set n.__class__ = 1 %}", "a namespace cannot have '__class__'"),
    ("{{ namespace(__class__=1) }}", "a namespace cannot have '__class__'"),
    ("{{ namespace({'_x': 1}) }}", "a namespace cannot have '_x'"),
    ("{% import 'os' as os %}", "no loader for this environment specified"),
    ("{% include '/etc/passwd' %}", "no loader for this environment specified"),
    ("{% extends 'x' %}", "no loader for this environment specified"),
    ("{{ import('os') }}", "'import' is undefined"),
    ("{{ open('/etc/passwd') }}", "'open' is undefined"),
    ("{{ [1, 2] | random }}", "it asks for something by chance, and what is made tomorrow would differ"),
    ("{{ lipsum() }}", "it asks for something by chance, and what is made tomorrow would differ"),
]


@pytest.mark.parametrize(("source", "said"), ESCAPES)
def test_no_way_out(source: str, said: str | None) -> None:
    before = copy.deepcopy(MESSAGES)
    if said is None:
        assert render(source) == ""
    else:
        with pytest.raises((jinja2.TemplateError, TypeError)) as caught:
            render(source)
        assert said in str(caught.value)
    assert before == MESSAGES


LARGE = f"more than {LONGEST:,} characters"
LONG = f"it takes more than {MOST_WORK:,} steps"
ENDLESS = [
    ("{{ range(10 ** 9) | list }}", "Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000)."),
    ("{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}", LARGE),
    ("{{ (['x' * 9999] * 9999) | join }}", LARGE),
    ("{{ ''.join(['x' * 9999] * 9999) }}", LARGE),
    ("{% set x %}{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}{% endset %}", LARGE),
    ("{% set n = namespace(x='ab') %}{% for i in range(64) %}{% set n.x = n.x + n.x %}{% endfor %}", LARGE),
    ("{% set n = namespace(x='ab') %}{% for i in range(64) %}{% set n.x = n.x ~ n.x %}{% endfor %}", LARGE),
    ("{% set n = namespace(x=[1]) %}{% for i in range(64) %}{% set n.x = n.x + n.x %}{% endfor %}", "or items"),
    ("{{ 'x' * 10 ** 12 }}{{ 10 ** 12 * [1] }}", LARGE),
    ("{{ 10 ** 12 * 'x' }}", LARGE),
    ("{{ 10 ** (10 ** 9) }}", "'**' would give a number of more than 4,096 bits"),
    ("{% set n = namespace(x=9) %}{% for i in range(64) %}{% set n.x = n.x * n.x %}{% endfor %}", "4,096 bits"),
    ("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", LONG),
    ("{% set r = range(9999) %}{% for i in r %}{% for j in r if j < 0 %}{% endfor %}{% endfor %}", LONG),
    ("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}", LONG),
    ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "maximum recursion depth exceeded"),
    ("{% set n = namespace(x='x' * 9999999) %}{% for i in range(9999) %}{% set n.y = n.x + 'y' %}{% endfor %}", LONG),
]


@pytest.mark.parametrize(("source", "said"), ENDLESS)
def test_what_never_ends_or_grows_without_bounds_is_stopped(source: str, said: str) -> None:
    with pytest.raises((jinja2.TemplateError, OverflowError, RecursionError)) as caught:
        render(source)
    assert said in str(caught.value)


def test_a_long_conversation_is_far_below_the_bounds() -> None:
    sandbox = Sandbox(None)
    source = (
        "{% for m in messages %}{% for n in messages %}{% if n is false %}{% endif %}{% endfor %}{{ m.c }}{% endfor %}"
    )
    text = sandbox.from_string(source).render(messages=[{"c": "word " * 200}] * 1_000)
    assert len(text) == 1_000_000 and 1_000_000 < sandbox.work < MOST_WORK // 4


def test_a_pass_is_a_step_and_a_call_is_twenty() -> None:
    """Of a loop within itself, too: three passes, the call of the loop, and three of the loop within it."""
    sandbox = Sandbox(None)
    assert sandbox.from_string("{% for i in [[[]], []] recursive %}{{ loop(i) }}{% endfor %}").render() == ""
    assert sandbox.work == 3 + 20 + 3 * 20


IN_LOOPS_AND_BLOCKS = [
    "{% for m in messages %}{{ ', '.join(['a', m.content]) }}{% endfor %}",
    "{% block b %}{{ ', '.join(['a', messages[0].content]) }}{% endblock %}",
    "{% for m in messages %}{% set found = ', '.join(['a', m.content]) %}{{ found }}{% endfor %}",
    "{% macro f(x) %}{{ ', '.join(['a', x]) }}{% endmacro %}{% for m in messages %}{{ f(m.content) }}{% endfor %}",
]


@pytest.mark.parametrize("source", IN_LOOPS_AND_BLOCKS)
def test_a_text_joins_others_wherever_it_stands(source: str) -> None:
    assert render(source) == "a, Hi."


def test_a_join_takes_no_options() -> None:
    with pytest.raises(TypeError):
        render("{% for m in messages %}{{ ', '.join(['a'], x=1) }}{% endfor %}")
