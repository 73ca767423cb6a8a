"""One turn, many turns, system messages, empty answers."""

from tests.schemas.conversations.record import assistant, case, system, user

ONE_TURN = (
    case("one turn", "a fact", user("What is the capital of France?"), assistant("Paris.")),
    case("one turn", "a list", user("Name three fruits."), assistant("1. Apple\n2. Banana\n3. Cherry")),
    case("one turn", "code", user("Double x."), assistant("```python\ndef double(x):\n    return 2 * x\n```")),
    case("one turn", "one letter", user("B"), assistant("A")),
    case("one turn", "the answer is the question", user("Echo!"), assistant("Echo!")),
)
MANY_TURNS = (
    case("many turns", "two", user("Hello"), assistant("Hi, what can I do?"), user("Nothing."), assistant("Fine.")),
    case(
        "many turns",
        "the same answer three times",
        *(message for number in "123" for message in (user(f"Is {number} a number?"), assistant("Yes."))),
    ),
    case(
        "many turns",
        "the same question twice",
        user("And now?"),
        assistant("Not yet."),
        user("And now?"),
        assistant("Now."),
    ),
    case("many turns", "the user has the last word", user("Hello"), assistant("Good day."), user("Bye")),
    case(
        "many turns",
        "two answers in a row",
        user("Tell me a joke."),
        assistant("Why did the chicken cross the road?"),
        assistant("To get to the other side."),
        user("Old."),
        assistant("As the road."),
    ),
)
SYSTEM = (
    case("system", "short", system("Be brief."), user("How are you?"), assistant("Well.")),
    case(
        "system",
        "the answer stands in it",
        system("Answer yes or no. If you do not know, answer no."),
        user("Do pigs fly?"),
        assistant("no"),
        user("Do birds?"),
        assistant("yes"),
    ),
    case(
        "system",
        "several lines",
        system("  You are a pirate.\n\nNever say 'hello'.\n"),
        user("Hello"),
        assistant("Ahoy!"),
    ),
    case(
        "system",
        "a second one later",
        system("Speak English."),
        user("Bonjour"),
        assistant("Good morning."),
        system("Speak French."),
        user("Hello"),
        assistant("Bonjour."),
    ),
    case(
        "system",
        "of a developer",
        {"role": "developer", "content": "Use the metric system."},
        user("How far is the moon?"),
        assistant("384 400 km."),
    ),
)
EMPTY = (
    case(
        "empty answers", "first", user("Say nothing."), assistant(""), user("Say something."), assistant("Something.")
    ),
    case("empty answers", "last", user("One?"), assistant("Two."), user("Three?"), assistant("")),
    case("empty answers", "the only one", user("Say nothing."), assistant("")),
    case("empty answers", "blank", user("Say little."), assistant("Hm."), user("Say less."), assistant(" \n\t")),
    case(
        "empty answers",
        "null",
        user("Say nothing.") | {"tool_calls": None, "name": None},
        assistant(None) | {"tool_calls": None, "reasoning_content": None},
        user("Thanks.") | {"tool_calls": None, "name": None},
        assistant("You are welcome.") | {"tool_calls": None, "reasoning_content": None},
    ),
)
