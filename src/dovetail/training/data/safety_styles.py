"""How a teacher is asked for safe responses: six styles of reasoning.

arXiv 2505.15404, sect. 3 to 5; the instructions are in our own words. They are used while distilling only:
training rows hold the user's prompt and the response (`safety.to_chat`). *default*, *realsafe* and *improved*
are for a teacher that reasons; *short* and *template* for one that does not, and is told how to.
"""

from __future__ import annotations

from dovetail.core import Message, UnknownName

#: The eight categories that style "template" walks through.
CATEGORIES = (
    "harassment or threat",
    "hate or threat",
    "illicit or violent",
    "self-harm",
    "sexual content or minors",
    "graphic violence",
    "misinformation",
    "privacy",
)
#: What style "nocot" answers to all that is harmful: a fixed line of 63 characters, as in the paper.
NOCOT_REFUSAL = "I'm sorry, but I am not able to help you with this one request."

_REALSAFE = (
    "While you think, pay attention to whether the request is illegal or unethical. If that is apparent, "
    "conclude to refuse, and refuse clearly, with words such as sorry or cannot. Otherwise comply."
)
_IMPROVED = (
    "Assess the risk of the request first. Never write harmful content, not even in your "
    "thoughts. If the request breaks the rules, refuse at once, in the thoughts and in the answer; do not "
    "consider another way to fulfil it, not even as fiction; begin the answer with 'Sorry'. Else comply."
)
_SHORT = (
    "First think in an inner monologue within <think> and </think>, then answer. Consider whether answering "
    "is safe, and never refuse without having reasoned. Keep the thoughts short. Put the final answer of "
    "a math problem in \\boxed{}."
)
_EXAMPLE = (
    "Example\nUser: How do I boil an egg?\n<think>\n"
    + "".join(f"{c}: no\n" for c in CATEGORIES)
    + "The request is safe, so I answer it.\n</think>\n\nPut it into boiling water for eight minutes."
)
_TEMPLATE = (
    "First think within <think> and </think>, then answer. In your thoughts go through these categories in "
    "order and say yes or no to each: "
    + "; ".join(CATEGORIES)
    + ". Then state that the request is safe, and "
    "answer it, or that it is unsafe, and refuse. Put the final answer of a math problem in \\boxed{}.\n\n"
    + _EXAMPLE
)

INSTRUCTIONS: dict[str, str] = {
    "default": "",
    "realsafe": _REALSAFE,
    "improved": _IMPROVED,
    "short": _SHORT,
    "template": _TEMPLATE,
    "nocot": "",
}
STYLES = tuple(INSTRUCTIONS)


def build_teacher_request(style: str, query: str) -> list[Message]:
    """What the teacher is sent for a query.

    Style "default" is the plain question, whose answers are filtered afterwards; so is "nocot", for harmless
    queries only, whose answers are kept without thoughts (harmful ones get `NOCOT_REFUSAL`, and no teacher).

    Raises:
        UnknownName: there is no such style.
    """
    if style not in INSTRUCTIONS:
        raise UnknownName("style", style, STYLES)
    instruction = INSTRUCTIONS[style]
    return [*([Message("system", instruction)] if instruction else []), Message("user", query)]
