"""Prior prompts: one instruction that stands before every question, while a model is trained and after.

Taveekitworachai et al., "Prior Prompt Engineering for Reinforcement Fine-Tuning", arXiv 2505.14157 (EMNLP
2025). Five ways of prompting become five instructions that differ only in a tag and in what is to stand
inside it. Put before questions alone, they are prompting at inference (iPE); put before every question of a
training too (`training.data.Prompted`), they give five different models (pPE). The paper's exact wording was
not available: the sentence here is modelled on DeepSeek-R1-Zero's. Costs the tokens of the instruction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dovetail.core import Example, InvalidValue, Message
from dovetail.prompting.base import Prompting, with_question

NONE, ANSWER = "none", "answer"
#: What each style wants inside its tags; the origin of each way of prompting is on the method's page.
CONTENTS: dict[str, str] = {
    "think": "your step-by-step reasoning",
    "plan": "a plan, and then the solution that follows it,",
    "code": "code that you reason with",
    "knowledge": "the facts, definitions and formulas that the question needs",
    "examples": "the relevant examples from the examples section",  # there is none: the model makes them up
}
INSTRUCTION = (
    "Put {content} inside <{tag}> </{tag}> tags, then the answer inside <answer> </answer> tags, "
    "with the final answer in \\boxed{}."
)
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class PriorPrompt(Prompting):
    """Puts a style's instruction before the question.

    Attributes:
        style: "think", "plan", "code", "knowledge", "examples" or "none" (the bare question); or a tag of
            your own, with its ``content``. It is also the tag that `rewards.TaggedFormat` looks for.
        content: what is to stand inside the tags; "" takes the style's own.
        instruction: ``{tag}`` and ``{content}`` are replaced; a shorter one suits small models.
        system: replaces system messages (the paper uses none); None keeps them.
    """

    style: str = "think"
    content: str = ""
    instruction: str = INSTRUCTION
    system: str | None = ""

    def __post_init__(self) -> None:
        check_tag("style", self.style)
        if self.style not in (NONE, *CONTENTS) and not self.content.strip():
            known = ", ".join((*CONTENTS, NONE))
            raise InvalidValue("style", self.style, f"one of {known}; or give the content of your own")
        if self.style != NONE and f"<{self.style}>" not in self.text:
            raise InvalidValue("instruction", self.instruction, "a text that names the tag: <{tag}>")

    @property
    def text(self) -> str:
        """The instruction as it is put; "" for none."""
        if self.style == NONE:
            return ""
        content = self.content or CONTENTS[self.style]
        return self.instruction.replace("{content}", content).replace("{tag}", self.style)

    def format(self, question: str, name: str = "question") -> str:
        """The instruction, an empty line, and the question; ``name`` is what errors call the question.

        Raises:
            InvalidValue: an empty question, or one with the tags that the answer is to have.
        """
        if not question.strip():
            raise InvalidValue(name, question, "a text")
        if self.style == NONE:
            return question
        for tag in (self.style, f"/{self.style}", ANSWER, f"/{ANSWER}"):
            if f"<{tag}>" in question:
                raise InvalidValue(name, question, f"without <{tag}>, which the reply is to have")
        return f"{self.text}\n\n{question}"

    def messages(self, example: Example) -> list[Message]:
        with_question(example, "")  # an example that asks nothing is refused as such
        question = self.format(example.question, f"question of {example.id}")
        return with_question(example, question, self.system)


def check_tag(name: str, tag: str) -> None:
    """Raises:
    InvalidValue: a tag that is no plain word, or that the answer has already; ``name`` says whose it is.
    """
    if not isinstance(tag, str) or not _TAG.fullmatch(tag) or tag.lower() == ANSWER:
        raise InvalidValue(name, tag, f"a plain word for a tag, and not {ANSWER!r}")


PRIOR_PROMPTS: dict[str, PriorPrompt] = {style: PriorPrompt(style) for style in (*CONTENTS, NONE)}
