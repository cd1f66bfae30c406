"""A tokenizer as a .gguf file says it: its tokens with their kinds, how texts are cut before they become tokens, what
is put in front, which tokens end an answer. The other way of `model.gguf_tokenizer`; the rules are llama.cpp's."""

import json
import re
from collections.abc import Mapping
from typing import Any

from explorer.model.gguf_tokenizer import BY_NAME, CUTS, END_TEXTS, WHOLE_FIRST, cut
from explorer.model.tokens import front

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # llama.cpp's kinds of tokens
A_BYTE = re.compile("<0x[0-9A-F]{2}>")
SPACE = "▁"
ADDED = -1000.0  # score of a token that no merge makes
# Whatever cuts texts differently cuts this one differently; spaces, cases, digits, scripts and signs, each in company.
PROBE = (
    "It's IT'S we'Ll  a   b\t\tc \n\n  d\r\n\r\ne 1 12 123 1234 12345678 x1y2 3.14 5,000 "
    "__init__(self, *args):\n    return {'a': [1]}  # no!!! ... ?? <a/b> \\n //\n/* "
    "c */ Straße ÉTÉ cafe\u0301 naïve ЖИЗНЬ жизнь 東京は2024年 你好，世界。 안녕 하세요 हिन्दी नमस्ते "
    "١٢٣ مرحبا، שלום 🙂🚀👩‍💻 a😀b $5 €6 x+y=z a|b `c` ~d^e camelCaseWord HTTPServer "
    "McDonald’s “q” – — \u00a0\u3000z "
)
Values = Mapping[str, Any]


def vocabulary(tokenizer: Any, rows: int, ends: list[int]) -> Values:
    """Values by key. `rows`: of the embedding, which may be more than there are tokens; `ends`: tokens that end an
    answer. ValueError in one sentence for a tokenizer that llama.cpp has no kind for."""
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    model = core["model"]
    if model["type"] != "BPE":
        raise ValueError(f"Tokenizers of the kind {model['type']} are not written as GGUF here.")
    pieces = bool(model.get("byte_fallback"))
    found: dict[str, Any] = _pieces(tokenizer, core) if pieces else _bytes(tokenizer, core)
    texts, kinds = _tokens(tokenizer, rows, pieces)
    found |= {"tokenizer.ggml.tokens": texts, "tokenizer.ggml.token_type": kinds}
    if pieces:
        found["tokenizer.ggml.scores"] = _scores(model, texts, kinds)
    start = front(tokenizer)
    found["tokenizer.ggml.add_bos_token"] = bool(start) and start[0] == tokenizer.bos_token_id
    return found | _special(tokenizer, ends) | _template(tokenizer)


def pre_tokenizer_of(tokenizer: Any) -> str:
    """llama.cpp's name for how a byte-level tokenizer cuts texts. ValueError where it has none."""
    backend = tokenizer.backend_tokenizer
    whole_first = bool(getattr(backend.model, "ignore_merges", False))
    if backend.pre_tokenizer is not None:
        right = backend.pre_tokenizer.pre_tokenize_str(PROBE)
        for cuts, names in CUTS.items():
            fitting = [name for name in names.split() if (name in WHOLE_FIRST) == whole_first]
            if fitting and cut(cuts).pre_tokenize_str(PROBE) == right:
                usual = [name for name in ("llama-bpe", "smollm") if name in fitting]  # the best known of several
                return (usual or fitting)[0]
    raise ValueError("llama.cpp does not know how this tokenizer cuts texts, so the model is not written as GGUF.")


def _bytes(tokenizer: Any, core: Any) -> dict[str, Any]:
    """GPT-2's way: bytes as letters, merged by rank."""
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in core["model"]["merges"]]
    found = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre_tokenizer_of(tokenizer)}
    assert found["tokenizer.ggml.pre"] in BY_NAME
    return found | {"tokenizer.ggml.merges": [" ".join(pair) for pair in merges]} if merges else found


def _pieces(tokenizer: Any, core: Any) -> dict[str, Any]:
    """SentencePiece's: what scores best is merged first."""
    begun = tokenizer.backend_tokenizer.encode("x", add_special_tokens=False).tokens
    spaced = bool(begun) and begun[0].startswith(SPACE)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.add_space_prefix": spaced,
    }


def _tokens(tokenizer: Any, rows: int, pieces: bool) -> tuple[list[str], list[int]]:
    """A text and a kind for each row."""
    texts, kinds = [f"[PAD{place}]" for place in range(rows)], [UNUSED] * rows
    for token, place in tokenizer.get_vocab().items():
        if place < rows:
            byte = pieces and A_BYTE.fullmatch(token)
            texts[place], kinds[place] = token, BYTE if byte else NORMAL
    for place, token in tokenizer.added_tokens_decoder.items():
        if place < rows:
            text = token.content if token.special else token.content.replace(SPACE, " ")
            texts[place], kinds[place] = text, CONTROL if token.special else USER_DEFINED
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown < rows and pieces:
        kinds[unknown] = UNKNOWN
    return texts, kinds


def _scores(model: Any, texts: list[str], kinds: list[int]) -> list[float]:
    """Minus the rank of the first merge that makes a token; merges of one token must lie together, as SentencePiece
    has them, or the same merges would not come first. ValueError otherwise."""
    ranks: dict[str, int] = {}
    last = ""
    for rank, pair in enumerate(model["merges"]):
        token = "".join(pair.split(" ") if isinstance(pair, str) else pair)
        if token != last and token in ranks:
            raise ValueError("This tokenizer merges in an order that llama.cpp cannot follow: not written as GGUF.")
        ranks.setdefault(token, rank)
        last = token
    single = float(len(ranks))  # letters, which no merge makes, behind all others
    return [
        -float(ranks.get(text, single)) if kind == NORMAL else ADDED if kind != BYTE else 0.0
        for text, kind in zip(texts, kinds, strict=True)
    ]


def _special(tokenizer: Any, ends: list[int]) -> dict[str, Any]:
    ids = {"bos": tokenizer.bos_token_id, "unknown": tokenizer.unk_token_id, "padding": tokenizer.pad_token_id}
    first = tokenizer.eos_token_id if tokenizer.eos_token_id in ends or not ends else ends[0]
    others = [each for each in ends if each != first]
    turn = [each for each in others if tokenizer.convert_ids_to_tokens(each) in END_TEXTS] or others
    ids |= {"eos": first, "eot": turn[0] if turn else None}
    rest = [each for each in others if each != ids["eot"]]
    ids["eom"] = rest[0] if rest else None
    return {f"tokenizer.ggml.{name}_token_id": each for name, each in ids.items() if each is not None}


def _template(tokenizer: Any) -> dict[str, Any]:
    given = tokenizer.chat_template
    if isinstance(given, dict):  # several by name
        given = given.get("default")
    return {"tokenizer.chat_template": given} if given else {}
