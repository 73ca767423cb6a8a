"""What became of the conversations of a corpus, in words."""

from collections import Counter

from jobs.report.conversations import describe_losses
from pipeline.corpus.conversations import ConversationCounts


def test_what_is_lost_is_said_with_its_kinds() -> None:
    counts = ConversationCounts(
        refused=1200,
        first_refusal="c.jsonl:7: the chat template refuses it: roles must alternate",
        dropped=Counter({"tool_calls": 3, "reasoning": 1200}),
        rewritten=Counter({"content": 1}),
    )
    assert describe_losses(counts) == {
        "refused": "1,200, the first of them c.jsonl:7: the chat template refuses it: roles must alternate",
        "not shown": "reasoning of 1,200 messages, tool calls of 3, which the chat template does not show",
        "rewritten": "contents of 1 message, which the chat template shows otherwise",
    }


def test_where_nothing_is_lost_nothing_is_said() -> None:
    assert describe_losses(ConversationCounts(turns=4, targets=2)) == {} == describe_losses(None)
