"""A tiny policy made on the spot: random weights and a small tokenizer, for tests and the smoke workflow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rtt.policy.pretrained import save_policy

# As in SmolLM2-Instruct, at the same ids: unknown, start of a message, end of a message (also the padding).
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

TEXTS = (
    "Write a short letter to a friend who has just moved to a town by the sea.",
    "Describe how bread is baked, from the flour and the water to the warm loaf on the table.",
    "Do not use any commas in your entire response. Finish your response with this exact phrase.",
    "Your answer must contain a title, wrapped in double angular brackets, such as <<poem of joy>>.",
    "Answer in lowercase letters only; no capital letters are allowed in the whole response.",
    "Your entire response should be in English, and in all capital letters.",
    "Include the keywords garden and winter. Do not include the words never, always or because.",
    "Your response should contain at least 3 sentences and fewer than 120 words.",
    "At the end of your response, please explicitly add a postscript starting with P.S.",
    "Wrap your entire response with double quotation marks. Highlight at least 2 sections with *asterisks*.",
    "Here are three reasons:\n\n1. It is cheap.\n2. It is quiet.\n3. It can be mended with simple tools.",
    "* The first point is about time.\n* The second point is about money.\n* The third point is about people.",
    "The library opens at nine in the morning and closes at seven in the evening, except on Sundays.",
    "A river carries sand and stones from the mountains, and lays them down where the water slows.",
    "She said, \"I've kept the old map,\" and he answered that it wouldn't help them after dark.",
    "Bees find flowers by colour and scent, then dance to tell the others how far they must fly.",
    "To grow tomatoes, choose a sunny place, water them at the root, and tie the stems to a stick.",
    "The museum's new hall shows clocks, compasses and telescopes made by hand 300 years ago.",
    "What would you pack for a week of walking in the hills? Think about rain, food and good shoes.",
    "Dear neighbour, thank you for the plums. We made jam from half of them and a cake from the rest.",
    "In summary, the plan is simple: start early, rest often, and tell someone where you are going.",
    "The train was late, so the players shared an umbrella and sang until the lights came on.",
    "Children learn a language by listening, guessing, and being understood before they are correct.",
    "Please give me a recipe for soup with lentils, onions, carrots and a little lemon.",
    "First heat the oil. Then add the onions and stir until they are soft. Finally pour in the stock.",
    "My favourite season is autumn, when the leaves turn red and the air smells of smoke and apples.",
    "Could you explain how a bicycle stays upright? I would like an answer that a child can follow.",
    "The committee will meet on Thursday to discuss the budget, the roof and the summer festival.",
    "An honest review should say what works, what does not, and who might enjoy the product anyway.",
    "Once upon a time there was a fox who collected buttons, and nobody in the forest knew why.",
)


def make_tiny_model(destination: Path, seed: int = 0, texts: Iterable[str] = TEXTS) -> None:
    """Writes a Llama of about 280,000 parameters with a byte-level tokenizer; no network, well under a second.

    The tokenizer follows SmolLM2-Instruct: the same special tokens, message format and splitting of digits. Any text
    survives it unchanged. The weights are random, so its answers are noise. Equal arguments give equal files.

    Args:
        destination: folder, replaced if it exists.
        seed: of the weights; the caller's random state is left as it was.
        texts: what the tokenizer learns its merges from.
    """
    tokenizer = _tokenizer(texts)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,  # tied, random weights repeat the last token for ever
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    save_policy(model, tokenizer, destination)


def _tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,  # at most: it has fewer when `texts` has no more pairs to merge
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),  # every byte, so that no text is unknown
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    unknown, start, end = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=start,
        eos_token=end,
        pad_token=end,
        unk_token=unknown,
        chat_template=CHAT_TEMPLATE,
    )
