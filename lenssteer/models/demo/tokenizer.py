"""The demo model's word-level tokenizer: one token a word, one a punctuation mark, and the chat format."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lenssteer.models.demo import words
from lenssteer.models.demo.trivia import fact_table

SPECIAL = ("<pad>", "<bos>", "<end>", "<unk>", "<system>", "<user>", "<assistant>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %} <{{ message['role'] }}> {{ message['content'] }}"
    "{{ ' ' + eos_token }}{% endfor %}{% if add_generation_prompt %} <assistant>{% endif %}"
)
"""`<bos> <user> how do i paint a red cake ? <end> <assistant>`, then the answer and `<end>`."""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, made from the word tables alone; the one BOS comes from the chat template."""
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *vocabulary_words()))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<end>",
        unk_token="<unk>",
        extra_special_tokens=["<system>", "<user>", "<assistant>"],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=128,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def vocabulary_words() -> list[str]:
    """Every word of the world, once, in a fixed order."""
    tables = (words.VERBS, words.ADJECTIVES, words.HARMLESS, words.HARMFUL, words.ACTS, words.THINGS)
    listed = [word for table in tables for word in table]
    facts = [word for row in fact_table() for word in row]
    systems = (words.REFUSAL, words.HONEST, words.DISHONEST)
    sentences = " ".join((*words.PHRASINGS, *words.QUESTIONS, words.STATEMENT, *systems, "repeat : to , ."))
    return list(dict.fromkeys([*listed, *facts, *(word for word in sentences.split() if "{" not in word)]))
