"""A template renders as transformers does, whatever is in it, and says of every character where it comes from."""

import pickle
from datetime import date
from typing import Any

import jinja2
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from schemas.conversations.layout import LAYOUTS
from schemas.conversations.show import track
from schemas.conversations.template import ChatTemplate, TemplateRefusal
from schemas.conversations.tracked import Origin, Run, Tracked
from tests.schemas.conversations.cases import CASES
from tests.schemas.conversations.families import FAMILIES, Family
from tests.schemas.conversations.templates import FAULTS

TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  Hi, \u00e4nd <b>\nyou?\n"},
    {
        "role": "assistant",
        "content": "One. Two.\nThree.",
        "tool_calls": [{"name": "f", "arguments": {"b": 1, "a": "ü"}}],
    },
]


def by_transformers(source: str, messages: list[dict[str, Any]], tools: Any = None, **arguments: Any) -> str:
    texts, _ = render_jinja_template([messages], tools or None, chat_template=source, **arguments)
    return str(texts[0])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("prompt", [False, True])
def test_every_family_gives_the_text_of_transformers(family: Family, prompt: bool) -> None:
    special = {"bos_token": family.bos or "", "eos_token": family.eos}
    template = ChatTemplate(family.template, special, family.arguments)
    for case in CASES:
        tools = case.record.get("tools", [])
        messages = LAYOUTS.find("messages").read(case.record, "messages", None, "r").messages
        plain = [message.for_template() for message in messages]
        try:
            wanted = by_transformers(
                family.template, plain, tools, add_generation_prompt=prompt, **special, **family.arguments
            )
        except jinja2.TemplateError as error:
            assert any(words in str(error) for words in FAULTS)
            with pytest.raises(TemplateRefusal):
                template.render(plain, tools, prompt)
            continue
        assert template.render(plain, tools, prompt).text == wanted
        assert template.render([track(*pair) for pair in enumerate(messages)], tools, prompt).text == wanted


SOURCES = {
    "loop controls": "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ loop.index0 }}"
    "{{ loop.length }}{{ loop.last }}{{ m.content }}{% if loop.index == 2 %}{% break %}{% endif %}{% endfor %}",
    "generation blocks": "{% set x = 'a' %}{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
    "{% for word in m.content.split(' ') %}{% set x = 'b' %}{{ loop.index }}{{ word }}{% endfor %}{{ x }}"
    "{% endgeneration %}{% else %}{{ x }}{{ loop.index }}{% endif %}{% endfor %}{{ x }}",
    "macros": "{% macro turn(m, end='.') %}<{{ m.role }}>{{ m['content'] | trim }}{{ caller() if caller else end }}"
    "{% endmacro %}{% for m in messages %}{{ turn(m) }}{% call turn(m, end='!') %}?{% endcall %}{% endfor %}",
    "set blocks": "{% for m in messages %}{% set said %}[{{ m.content }}]{% endset %}{% set more = said ~ 1 ~ none %}"
    "{{ more * 2 }}{{ said | length }}{% endfor %}",
    "filter blocks": "{% for m in messages %}{% filter upper %}{{ m.content }}{% endfilter %}{% endfor %}",
    "joins": "{{ messages | map(attribute='content') | join(' | ') }}{{ messages | join('-', attribute='role') }}"
    "{{ ', '.join(messages[2].content.split()) }}{{ [1, none, 'x'] | join }}{{ [] | join(',') }}",
    "texts": "{% set c = messages[1].content %}{{ c | replace('i', 'ii') }}{{ c | replace('\\n', ' ', 1) }}{{ c[2:4] }}"
    "{{ c | first }}{{ c | last }}{{ c | upper }}{{ c.strip() ~ c.split(',')[-1] }}{{ c | e }}{{ c[::-1] }}"
    "{{ '%s|%5s' | format(c, 'x') }}{{ '{}{}'.format(c, 1) }}{{ c.format() }}{{ c.startswith(' ') }}{{ 'Hi' in c }}"
    "{{ c | indent(2) }}{{ c is string }}{{ c | list }}{{ c['text'] }}{{ c.text is defined }}{{ c.runs is defined }}",
    "JSON": "{{ messages | tojson }}{{ messages[2].tool_calls | tojson(indent=4) }}{{ messages[1].content | tojson }}"
    "{{ {'b': 'ü', 'a': 1} | tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':')) }}",
    "namespaces": "{% set ns = namespace(n=0, found=false) %}{% for m in messages %}{% set ns.n = ns.n + m.content | "
    "length %}{% set ns.text = (ns.text or '') + m.content %}{% endfor %}{{ ns.n }}{{ ns.text }}"
    "{{ dict(a=1, **{'b': 2}) }}{{ dict.fromkeys(['a'], 0) }}{{ namespace(self=3).self }}",
    "white space": "{% for m in messages %}\n    {% if true %}\n  {{- m.content -}}\n    {% endif %}\n{% endfor %}\n\n",
    "recursion": "{% for a in [[1, [[2, []]]], [3, []]] recursive %}{{ a[0] }}{{ loop.depth }}{{ loop.last }}"
    "{{ loop(a[1]) }}{% endfor %}",
    "unpacking": "{% for key, value in messages[2].items() if key != 'role' %}{{ key }}{{ value }}{{ loop.revindex }}"
    "{{ loop.cycle('x', 'y') }}{% else %}none{% endfor %}{% for x in nothing %}{% else %}none{% endfor %}",
    "numbers": "{{ 7 * 6 }}{{ 2 ** 10 }}{{ -2 ** 2 }}{{ 7 % 4 }}{{ 7 // 2 }}{{ 1 + 1.5 }}{{ [1] + [2] }}{{ [0] * 3 }}"
    "{{ range(3) | list }}{{ 'ab' * 2 }}{{ [1, 2] | sum }}",
    "arguments": "{{ x }}{{ enable_thinking }}{{ tools }}{{ documents }}{{ missing }}{{ add_generation_prompt }}",
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_construct_gives_the_text_of_transformers(source: str) -> None:
    arguments = {"x": 3, "enable_thinking": False}
    wanted = by_transformers(source, TALK, **arguments)
    tracked = [
        message | {"content": Tracked.of(message["content"], Origin(n, "content"))} for n, message in enumerate(TALK)
    ]
    template = ChatTemplate(source, {}, arguments)
    assert template.render(TALK).text == wanted
    rendered = template.render(tracked)
    assert rendered.text == wanted
    for start, end, origin, place in rendered.runs:
        if place is not None:
            assert rendered.text[start:end] == TALK[origin.message]["content"][place : place + end - start]


@pytest.mark.parametrize(
    ("source", "text", "runs"),
    [
        ("<{{ m }}>", "<ab cd>", [(1, 6, 0)]),
        ("{{ m | trim }}{{ m.split()[1] }}", "ab cdcd", [(0, 5, 0), (5, 7, 3)]),
        ("{% set x %}[{{ m }}]{% endset %}{{ x }}{{ x }}", "[ab cd][ab cd]", [(1, 6, 0), (8, 13, 0)]),
        ("{% macro f(t) %}{{ t }}!{% endmacro %}{{ f(m) }}", "ab cd!", [(0, 5, 0)]),
        ("{% generation %}{{ m[:2] + m[2:] }}{% endgeneration %}", "ab cd", [(0, 5, 0)]),
        ("{{ m ~ 1 }}{{ '-'.join([m, m]) }}", "ab cd1ab cd-ab cd", [(0, 5, 0), (6, 11, 0), (12, 17, 0)]),
        ("{{ m | replace(' ', '_') }}", "ab_cd", [(0, 2, 0), (3, 5, 3)]),
        ("{{ m | upper }}{{ m | tojson }}", 'AB CD"ab cd"', [(5, 12, None)]),
    ],
)
def test_where_characters_come_from(source: str, text: str, runs: list[tuple[int, int, int | None]]) -> None:
    content = Origin(0, "content")
    rendered = ChatTemplate("{% set m = messages[0].content %}" + source).render(
        [{"role": "user", "content": Tracked.of("ab cd", content)}]
    )
    assert rendered.text == text
    assert rendered.runs == tuple(Run(start, end, content, place) for start, end, place in runs)


def test_today_is_what_the_config_says() -> None:
    source = "{{ strftime_now('%d %B %Y, %H:%M') }}"
    assert ChatTemplate(source, today=date(2026, 11, 26)).render(TALK).text == "26 November 2026, 00:00"
    with pytest.raises(TemplateRefusal) as caught:
        ChatTemplate(source).render(TALK)
    assert str(caught.value) == (
        "the chat template refuses it: it asks for today's date, and what is made tomorrow would differ; give one in "
        "`conversations.date`"
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ raise_exception('No \"tools\", please.') }}", 'refuses it: No "tools", please.'),
        ("{{ messages[0].nothing.more }}", "refuses it: 'dict object' has no attribute 'nothing'"),
        ("{{ 1 / 0 }}", "refuses it: division by zero"),
        ("{{ messages[0].content + 1 }}", "refuses it: can only concatenate str"),
        ("{% if %}", "is not one: Expected an expression, got 'end of statement block'"),
        ("{{ x", "is not one: unexpected end of template"),
        ("{% break %}", "is not one: 'break' outside loop"),
        ("{{ x | nothing }}", "is not one: No filter named 'nothing'."),
        ("{{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}", "is not one: maximum recursion depth exceeded"),
    ],
)
def test_what_is_refused_is_said(source: str, said: str) -> None:
    with pytest.raises(TemplateRefusal) as caught:
        ChatTemplate(source).render(TALK)
    assert str(caught.value).startswith(f"the chat template {said}")


def test_a_template_can_be_pickled_before_and_after_it_has_rendered() -> None:
    template = ChatTemplate("{{ messages[1].content }}{{ x }}", {"bos_token": "<s>"}, {"x": 1}, date(2026, 1, 2))
    fresh = pickle.dumps(template)
    text = template.render(TALK).text
    assert pickle.dumps(template) == fresh
    again = pickle.loads(fresh)  # noqa: S301
    assert again == template and again.render(TALK).text == text


def test_half_a_character_is_refused() -> None:
    with pytest.raises(TemplateRefusal, match="writes an unpaired surrogate"):
        ChatTemplate("{{ '\\ud83d' }}{{ messages[0].content }}").render(TALK)
