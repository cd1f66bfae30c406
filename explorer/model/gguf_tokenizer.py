"""What a .gguf file says of its tokens and transformers leaves out: how texts are cut before they become tokens, what
is put in front, and which tokens end an answer. The rules are those of llama.cpp's llama-vocab.cpp."""

import json
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from explorer.model.gguf_header import Header

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
ENDINGS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
LLAMA3, QWEN2 = (
    ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for digits in ("{1,3}", "")
)
QWEN35 = ENDINGS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = r"[^\r\n\p{L}\p{N}]?" + UPPER + "*" + LOWER + r"+{0}|[^\r\n\p{L}\p{N}]?" + UPPER + "+" + LOWER + "*{0}"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = CASED.replace("{0}", "") + r"|\p{N}" + REST
GPT4O = CASED.replace("{0}", f"{ENDINGS}?") + r"|\p{N}{1,3}" + REST
BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
HAN, MARKS = r"[一-龥぀-ゟ゠-ヿ]+", r"[\p{P}\$\+<=>\^~\|]+"
LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽ"
    "ᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-"
    "Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-"
    "ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (r"[\r\n]", rf"\s?[{LETTERS}]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", "[一-龥ࠀ-一가-퟿]+", r"\p{N}+")
# What a text is cut by, one after the other, and the names that files have for it in tokenizer.ggml.pre.
CUTS: dict[tuple[str, ...], str] = {
    (LLAMA3,): "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano dbrx smaug-bpe"
    " chatglm-bpe glm4",
    (GPT2,): "gpt-2 phi-2 gigachat a.x-4.0 mellum modern-bert mpt olmo jais trillion granite-docling exaone4",
    (r"\p{N}", GPT2): "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
    (QWEN2,): "qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 hunyuan megrez solar-open grok-2",
    (QWEN35,): "qwen35",
    (TEKKEN,): "tekken",
    (GPT4O,): "gpt-4o llama4 kanana2 talkie minimax-m2",
    (MARKS.replace(r"\|", r"\|`"), GPT2, "[0-9][0-9][0-9]"): "falcon",
    (r"\p{N}{1,3}", HAN, DEEPSEEK3): "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
    (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"): "deepseek-coder",
    (
        r"[\r\n]",
        rf"\s?[{LETTERS}]+",
        r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
        r"\s+$",
        "[一-龥ࠀ-一가-퟿]+",
        r"\p{N}+",
    ): "deepseek-llm",
    (BLOOM,): "bloom poro-chat gpt3-finnish",
    (BLOOM, r"\p{N}"): "viking",
    (MARKS, GPT2, r"\p{N}+", "[0-9][0-9][0-9]"): "default",
}
BY_NAME = {name: cuts for cuts, names in CUTS.items() for name in names.split()}
WHOLE_FIRST = set("llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano tekken glm4".split())
STARTED = WHOLE_FIRST - {"glm4"}  # a text begins with the first token, where the file does not say
END_KEYS = [f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom")]
END_TEXTS = set("<|eot_id|> <|im_end|> <|end|> <end_of_turn> <|endoftext|> <|end_of_text|> <EOT> <|eom_id|>".split())


def complete_tokenizer(tokenizer: Any, header: Header) -> list[str]:
    """Make transformers' tokenizer cut and begin texts as the file says; what stays in doubt, in words."""
    says, notes = header.values, list[str]()
    kind, name = says.get("tokenizer.ggml.model"), says.get("tokenizer.ggml.pre") or "default"
    backend = _only_own_tokens(tokenizer.backend_tokenizer)
    tokenizer._tokenizer = backend
    if kind == "gpt2" and name in BY_NAME:
        _cut(backend, BY_NAME[str(name)], name in WHOLE_FIRST)
    elif kind == "gpt2":
        notes.append(f"its pre-tokenizer {name} is not known here, so a text may become other tokens")
    if kind == "llama":
        (_with_first_space if says.get("tokenizer.ggml.add_space_prefix", True) else _without_first_space)(backend)
    first = says.get("tokenizer.ggml.add_bos_token", kind == "llama" or (kind == "gpt2" and name in STARTED))
    tokenizer.add_bos_token = bool(first) and tokenizer.bos_token_id is not None
    return notes


def end_tokens(tokenizer: Any, header: Header) -> list[int]:
    """The ids of all tokens that end an answer: those that the file names, and control tokens that are called so."""
    named = [header.values.get(key) for key in END_KEYS]
    control = {each.content for each in tokenizer.added_tokens_decoder.values() if each.special}
    called = [tokenizer.convert_tokens_to_ids(text) for text in sorted(END_TEXTS & control)]
    ids = [each for each in [*named, *called] if isinstance(each, int) and 0 <= each < len(tokenizer)]
    return list(dict.fromkeys(ids))


def _only_own_tokens(backend: Tokenizer) -> Tokenizer:
    """Without tokens that transformers' classes add to a vocabulary: the model has no rows for them."""
    core = json.loads(backend.to_str())
    own = core["model"]["vocab"]
    core["added_tokens"] = [token for token in core["added_tokens"] if token["content"] in own]
    return Tokenizer.from_str(json.dumps(core))


def cut(cuts: tuple[str, ...]) -> pre_tokenizers.Sequence:
    """What cuts texts so before they become tokens."""
    splits = [pre_tokenizers.Split(Regex(each), "isolated") for each in cuts]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _cut(backend: Tokenizer, cuts: tuple[str, ...], whole_first: bool) -> None:
    backend.pre_tokenizer = cut(cuts)
    model = backend.model
    model.ignore_merges = whole_first  # a piece that is a token becomes it, whatever its merges say
    backend.model = model


def _with_first_space(backend: Tokenizer) -> None:
    """A space in front of each text, also of one that begins with a space."""
    if isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace):
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.pre_tokenizer = None


def _without_first_space(backend: Tokenizer) -> None:
    """No space in front of a text, and none taken away when it is decoded."""
    core = json.loads(backend.to_str())
    if (core["pre_tokenizer"] or {}).get("type") == "Metaspace":
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=False)
    steps = (core["normalizer"] or {}).get("normalizers", [])
    if any(step["type"] == "Prepend" for step in steps):
        core["normalizer"]["normalizers"] = [step for step in steps if step["type"] != "Prepend"]
        backend.normalizer = Tokenizer.from_str(json.dumps(core)).normalizer
    steps = (core["decoder"] or {}).get("decoders", [])
    if any(step["type"] == "Strip" for step in steps):
        core["decoder"]["decoders"] = [step for step in steps if step["type"] != "Strip"]
        backend.decoder = Tokenizer.from_str(json.dumps(core)).decoder
