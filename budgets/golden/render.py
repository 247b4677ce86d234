"""Writes tokenizer.json and render.json: conversations as tokens with loss masks, by transformers.

    python render.py SHARED

Run with transformers 5.24.0, tokenizers 0.23 and fschat 0.2.36, without a network. SHARED is the folder of
large real data, of which data/models/tokenizers is read: LLaMA's vocabulary and GPT-2's. What they give
is kept as SHA-256 alone, and only tokenizer.json, trained here on the text below, is in the repository.

The templates are the published ones of the models with {% generation %} around what the assistant
says and the end of its turn; of the text of Vicuna it is checked that FastChat writes the same.
apply_chat_template gives the tokens and the mask. It marks every token that touches what is learned;
a conversation in which such a token also holds something else is "border", which we refuse.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import tokenizers
import transformers
from fastchat.conversation import get_conv_template
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
# meta-llama/Llama-2-7b-chat-hf
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}"
    "{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{% generation %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
)
# meta-llama/Meta-Llama-3-8B-Instruct
LLAMA3 = (
    "{{ '<|begin_of_text|>' }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] | trim + '<|eot_id|>' }}{% endgeneration %}{% else %}"
    "{{ message['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"
)
# The loop of Qwen/Qwen2-VL-7B-Instruct and of ChatML.
CHATML_LOOP = (
    "{{ '<|im_start|>' + message['role'] + '\\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}"
    "{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
)
CHATML = "{% for message in messages %}" + CHATML_LOOP
QWEN = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}" + CHATML_LOOP
)
# FastChat's vicuna_v1.1, ADD_COLON_TWO.
VICUNA_LOOP = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + ' ' }}{% else %}"
    "{{ '" + VICUNA.replace("'", "\\'") + " ' }}{% endif %}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}{% elif message['role'] == 'assistant' %}"
    "{{ 'ASSISTANT:' }}{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
)
LYNX = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ 'User: ' + message['content'] }}{% else %}{{ '\\nBot:' }}"
    "{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
)
TEMPLATES = {"vicuna": VICUNA_LOOP, "llama2": LLAMA2, "llama3": LLAMA3, "chatml": CHATML, "qwen": QWEN, "lynx": LYNX}
LLAMA_LIKE, CHAT_LIKE = ["vicuna", "llama2", "lynx"], ["llama3", "chatml", "qwen"]
MARKS = ["<s>", "</s>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>"]

TEXTS = [
    "What is in the picture?", "A brown dog lies on a red sofa.", "How many dogs are there?", "One.",
    "Where is the cat? It is under the table, next to the window.", "Describe the image briefly.",
    "1. first\n2. second\n\nThat is all.", "naïve café 中文 😀", "one\n\n\ntwo\n\n\nthree\n\n\nfour", "    indented code\n        more of it",
]


def talk(*texts, system=None):
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts)]
    return ([{"role": "system", "content": system}] if system else []) + messages


CONVERSATIONS = [
    talk("What is in the picture?", "A brown dog lies on a red sofa."),
    talk("How many dogs are there?", "One.", "Where?", "On the sofa, in the middle.", "Sure?", "Yes"),
    talk("Describe the image briefly.", "1. first\n2. second\n\nThat is all.\n", system="Answer in a list."),
    talk("<image>\nWhat does the sign say?", "naïve café — 中文 😀 \u0300x"),
    talk("  spaces around  ", "  two spaces in front and behind  "),
    talk("A line feed in front?", "\nyes, one"),
    talk("Line feeds in front?", "\n\nyes, two"),
    talk("Tabs\tand\r\nreturns", "\ttabbed\r\n"),
    talk("", "An answer to nothing."),
    talk("An answer of one space?", " "),
    talk("Code?", "```python\nfor x in range(10):\n    print(x)\n```"),
    talk("x" * 300, "y" * 300 + " " + "z " * 50),
    talk("What is it?", "a", "And?", "\u2581b", "Then?", "c\u00a0"),
]


def own():
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True)
    plain.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=MARKS + ["<image>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False)
    plain.train_from_iterator(TEXTS * 3 + [VICUNA] * 2, trainer)
    return plain


def gpt2(folder):
    merges = (folder / "gpt2_vocab.bpe").read_text().split("\n")[1:]
    merges = [tuple(line.split(" ")) for line in merges if line]
    vocabulary = json.loads((folder / "gpt2_encoder.json").read_text())
    plain = Tokenizer(models.BPE(vocabulary, merges))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True)
    plain.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in MARKS])
    return plain


def keep_spaces(settings):
    if isinstance(settings, dict):
        return {key: False if key == "trim_offsets" else keep_spaces(value) if key != "model" else value
                for key, value in settings.items()}
    return [keep_spaces(value) for value in settings] if isinstance(settings, list) else settings


def outcome(words, template, messages):
    text = words.apply_chat_template(messages, chat_template=TEMPLATES[template], tokenize=False)
    if template == "vicuna":
        official = get_conv_template("vicuna_v1.1")
        for message in messages:
            if message["role"] == "system":
                official.set_system_message(message["content"])
            else:
                official.append_message(official.roles[message["role"] == "assistant"], message["content"])
        # FastChat leaves an empty message out.
        if all(message["content"] for message in messages):
            assert text == "<s>" + official.get_prompt(), (text, official.get_prompt())
    told = words.apply_chat_template(
        messages, chat_template=TEMPLATES[template], tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    ids, mask = list(told["input_ids"]), [int(learned) for learned in told["assistant_masks"]]
    # The border: a marked token that reaches beyond what is learned, found anew from the offsets.
    _, spans = transformers.utils.chat_template_utils.render_jinja_template(
        conversations=[messages], chat_template=TEMPLATES[template], return_assistant_tokens_mask=True,
        **words.special_tokens_map)
    encoding = words.backend_tokenizer.encode(text, add_special_tokens=False)
    assert encoding.ids == ids
    for (start, end), learned in zip(encoding.offsets, mask):
        inside = any(first <= start and end <= last for first, last in spans[0])
        if learned and not inside:
            return {"border": text[start:end]}
    return {"ids": ids, "mask": mask}


def main():
    folder = Path(sys.argv[1]) / "data/models/tokenizers"
    here = Path(__file__).parent
    small = own()
    small.save(str(here / "tokenizer.json"))
    llama = Tokenizer.from_file(str(folder / "llama_tokenizer_dolma_test.json"))
    tried = {"tokenizer.json": (small, LLAMA_LIKE + CHAT_LIKE), "llama": (llama, LLAMA_LIKE), "gpt2": (gpt2(folder), CHAT_LIKE)}
    result = {"made_by": f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}; see render.py",
              "conversations": CONVERSATIONS, "tokens": {}}
    for name, (plain, templates) in tried.items():
        untrimmed = Tokenizer.from_str(json.dumps(keep_spaces(json.loads(plain.to_str()))))
        words = PreTrainedTokenizerFast(tokenizer_object=untrimmed, bos_token="<s>", eos_token="</s>")
        for template in templates:
            rows = []
            for messages in CONVERSATIONS:
                if template == "lynx" and messages[0]["role"] == "system":
                    rows.append(None)
                    continue
                told = outcome(words, template, messages)
                if name != "tokenizer.json" and "ids" in told:
                    text = json.dumps([told["ids"], told["mask"]], separators=(",", ":"))
                    told = {"tokens": len(told["ids"]), "sha256": hashlib.sha256(text.encode()).hexdigest()}
                rows.append(told)
            result["tokens"].setdefault(name, {})[template] = rows
    lines = json.dumps(result, ensure_ascii=False, separators=(",", ":"))
    (here / "render.json").write_text(lines.replace('{"ids"', '\n{"ids"').replace('{"tokens":', '\n{"tokens":') + "\n")


main()
