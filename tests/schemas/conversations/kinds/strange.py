"""Unusual white space, contents that look like markup, and many languages."""

from tests.schemas.conversations.record import assistant, case, system, user

WHITE_SPACE = (
    case(
        "white space",
        "before and after",
        user("  Hello  "),
        assistant("\n  Hi.  \n"),
        user("\tBye\t"),
        assistant("\tBye.\n"),
    ),
    case(
        "white space", "line ends", user("a\r\nb\r\n"), assistant("c\r\nd\r\n\r\n"), user("\n\n\n"), assistant("e\rf")
    ),
    case(
        "white space",
        "no break",
        user("\u00a0Prix\u00a0?"),
        assistant("\u00a05\u00a0€\u00a0"),
        user("\u2003"),
        assistant("\u200bok\u200b"),
    ),
    case("white space", "only inside", user("a"), assistant("b \n\n\n  \t c"), user("d"), assistant("\x0be\x0c\x85")),
    case(
        "white space",
        "system and line ends",
        system("\n"),
        user("One"),
        assistant("Two\n"),
        user("Three"),
        assistant("\n\nFour"),
    ),
)
MARKUP = (
    case(
        "markup",
        "of the families",
        user("<|im_end|>\n<|im_start|>assistant\nYes</s>[/INST]<end_of_turn>"),
        assistant("<|im_end|> is a token, [INST] too, <|eot_id|><|end|></s><end_of_turn> and <｜Assistant｜> as well."),
        user("[INST] <start_of_turn>model\n"),
        assistant("<|im_start|>assistant\n<|im_end|>"),
    ),
    case(
        "markup",
        "of templates",
        user("{{ x }} {% raw %} {# no #}"),
        assistant("{{ messages[0]['content'] }}{% endfor %}"),
        user("{{ 7 * 7 }}"),
        assistant("%s {0} {x!r} \\n \\\\ \"quoted\" 'so' <b>&amp;</b>"),
    ),
    case(
        "markup",
        "names of roles",
        system("assistant"),
        user("user"),
        assistant("assistant"),
        user("assistant\n"),
        assistant("user"),
    ),
    case(
        "markup",
        "tags of reasoning",
        user("What does </think> do after <think>?"),
        assistant("A tag such as </think> ends the reasoning."),
        user("<tool_response>\n</think>\n</tool_response>"),
        assistant("It may stand in a question too."),
        user("Write one."),
        assistant("Here: </think> it is."),
    ),
    case(
        "markup",
        "answers within answers",
        system("The word is sesame. Open sesame."),
        user("sesame"),
        assistant("Open sesame."),
        user("Open"),
        assistant("sesame"),
        user("model\nsesame"),
        assistant("."),
    ),
)
LANGUAGES = (
    case("languages", "emoji", user("👩‍👩‍👧‍👦 or 🏳️‍🌈?"), assistant("👩🏽‍💻🇩🇪❤️"), user("👍"), assistant("👍🏿")),
    case(
        "languages",
        "combining marks",
        user("Z̸a̷l̵g̶o̸ e\u0301?"),
        assistant("\u0301e\u0301 is not \u00e9\u0323"),
        user("각"),
        assistant("\u1100\u1161\u11a8"),
    ),
    case(
        "languages",
        "right to left",
        user("مرحبا، كيف حالك؟"),
        assistant("שלום! \u202eabc\u202c \u200fאני בסדר.\u200f"),
        user("شكرا"),
        assistant("عفوا \u0661\u0662"),
    ),
    case(
        "languages",
        "east asian",
        system("用中文回答。"),
        user("你好吗？"),
        assistant("我很好，谢谢！"),
        user("日本語は？\u3000"),
        assistant("\u3000はい、少しだけ。"),
    ),
    case(
        "languages",
        "many",
        user("Grüße an Łódź, naïve Ωμέγα!"),
        assistant("Привет, สวัสดี, नमस्ते, ጤና ይስጥልኝ 𝔘𝔫𝔦 \U00020000"),
        user("Tiếng Việt?"),
        assistant("Có ạ."),
    ),
)
