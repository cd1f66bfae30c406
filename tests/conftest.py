"""Tiny random models and a tiny tokenizer, saved in folders so that every test opens them through the real path."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

# huggingface_hub reads its environment when it is imported, so this stands before every import of it.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="size-explorer-test-hf-")

import pytest  # noqa: E402
import torch  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from transformers import (  # noqa: E402
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from explorer.files import cache_folder  # noqa: E402
from explorer.layers.storage import Spec, Stored, encode  # noqa: E402
from explorer.methods import prune  # noqa: E402
from explorer.model import opening  # noqa: E402
from explorer.model.facts import Facts  # noqa: E402
from explorer.model.opening import Loaded  # noqa: E402
from explorer.native import llvm  # noqa: E402
from explorer.values.performance import Speed  # noqa: E402
from explorer.values.reading import Reading  # noqa: E402
from explorer.values.recipe import Recipe  # noqa: E402
from explorer.workbench.workbench import Workbench  # noqa: E402

WORDS = "the cat sat on the mat and the dog ran to the river where the water was cold and the stones were round "
TEXTS = {
    "story": [
        "The cat sat on the mat and waited for the rain to stop.",
        "A dog ran to the river where the water was cold.",
    ],
    "code": ["for i in range(10): print(i * i)  # squares of small numbers", "def add(a, b): return a + b"],
}


@pytest.fixture(scope="session", autouse=True)
def _session_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ.setdefault("SIZE_EXPLORER_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own for every test, but for those that need the real default model."""
    if request.node.get_closest_marker("model") or request.node.get_closest_marker("browser"):
        monkeypatch.delenv("SIZE_EXPLORER_CACHE", raising=False)
    else:
        monkeypatch.setenv("SIZE_EXPLORER_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """256 bytes, a few merges, <s> and </s>: 300 tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, min_frequency=1, show_progress=False
    )
    core.train_from_iterator([WORDS] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> dict[str, Path]:
    """Saved models by name. Tied: llama, llama32 (float32), gpt2 (Conv1D, biases). Untied: neox (biases, float32)."""
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
    llama = LlamaConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        **ends,
    )
    gpt2 = GPT2Config(vocab_size=300, n_embd=64, n_layer=2, n_head=4, n_positions=512, initializer_range=0.2, **ends)
    neox = GPTNeoXConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=100,  # ragged on purpose: no multiple of 8, 16 or 64
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.2,
        **ends,
    )
    built = {
        "llama": LlamaForCausalLM(llama).bfloat16(),
        "llama32": LlamaForCausalLM(llama),
        "gpt2": GPT2LMHeadModel(gpt2),
        "neox": GPTNeoXForCausalLM(neox),
    }
    home = tmp_path_factory.mktemp("models")
    for name, model in built.items():
        for parameter in (p for n, p in model.named_parameters() if n.endswith("bias")):
            torch.nn.init.normal_(parameter, std=0.1)  # so that a lost bias shows
        model.save_pretrained(home / name)
        tokenizer.save_pretrained(home / name)
    return {name: home / name for name in built}


@pytest.fixture(scope="session")
def llama(folders: dict[str, Path]) -> Loaded:
    return opening.load(str(folders["llama"]))


@pytest.fixture(scope="session")
def llama32(folders: dict[str, Path]) -> Loaded:
    return opening.load(str(folders["llama32"]))


@pytest.fixture(scope="session")
def gpt2(folders: dict[str, Path]) -> Loaded:
    return opening.load(str(folders["gpt2"]))


@pytest.fixture(scope="session", params=["llama", "llama32", "gpt2", "neox"])
def any_model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Loaded:
    return opening.load(str(folders[request.param]))


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(2, 300, (1, 24), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def facts_of() -> Callable[[torch.nn.Module], Facts]:
    """Facts of a model that has seen 480 random tokens and felt its outputs, worked out once a session."""
    known: dict[int, tuple[torch.nn.Module, Facts]] = {}

    def find(model: torch.nn.Module) -> Facts:
        if id(model) not in known:
            facts, noise = Facts(), torch.Generator().manual_seed(5)
            windows = [torch.randint(2, 300, (1, 48), generator=noise) for _ in range(10)]
            list(facts.calibrate(model, windows)), list(facts.prepare(model))
            known[id(model)] = model, facts
        return known[id(model)][1]

    return find


@pytest.fixture(scope="session")
def everything() -> list[Recipe]:
    """Recipes over every field: each method by itself, and methods in turn with one another."""
    zeros = [
        {"sparsity": 0.5, "prune": prune, "scope": scope}
        for prune in ("magnitude", "wanda", "ria", "sparsegpt")
        for scope in ("row", "layer", "global")
    ]
    zeros += [{"pattern": n, "prune": p} for n in ("2:4", "4:8") for p in ("magnitude", "wanda", "sparsegpt")]
    rounds = [
        {"bits": bits, "quant": quant, "group": group}
        for quant in ("rtn", "search", "hqq", "gptq", "awq")
        for bits, group in ((4, "auto"), (3, "32"), (7, "0"))
    ]
    formats = [{"quant": quant, "double": double} for quant in ("nf4", "fp4") for double in (False, True)]
    formats += [{"quant": "int8"}]
    found_by = [(factorize, share) for factorize in ("svd", "asvd", "covariance") for share in ("uniform", "global")]
    factors = [{"keep": 0.5, "factorize": factorize, "allocate": share} for factorize, share in found_by]
    cuts = [{"depth": 0.5}, {"depth": 0.5, "depth_by": "angular"}, {"heads": 0.5}]
    cuts += [{"width": 0.25, "width_by": method} for method in ("nystrom", "flap")]
    others = [
        {"bits": 3, "residual_rank": 8},
        {"sparsity": 0.5, "residual_rank": 8, "bits": 4, "quant": "awq"},
        {"keep": 0.5, "bits": 4, "residual_rank": 16},
        {"bits": 4, "layers": ("mlp=bits:3,sparsity:0.5", "first=group:32", "head=bits:8")},
        {"layers": ("attention=keep:0.5",), "residual_rank": 8},
        {"bits": 4, "quant": "gptq", "sparsity": 0.5, "protect": ("last", "attention")},
        {"head_bits": 6, "quant": "nf4", "protect": ("mlp",)},
        {"head_bits": 4, "quant": "nf4", "double": True},
        {"bits": 4, "head_bits": 5, "protect": ("embedding", "head")},
        {"depth": 0.5, "width": 0.25, "keep": 0.6, "allocate": "global", "sparsity": 0.35, "bits": 4, "head_bits": 4},
        {"sparsity": 0.9, "scope": "global", "layers": ("mlp=sparsity:0.2",), "bits": 2, "quant": "gptq"},
    ]
    both = [zero | rounds[i % len(rounds)] for i, zero in enumerate(zeros)]
    both += [cut | rounds[3 * i] | {"head_bits": 4} for i, cut in enumerate(cuts)]
    both += [cut | format for cut, format in zip(cuts, formats, strict=True)]
    both += [factor | zeros[i] | rounds[2 * i] for i, factor in enumerate(factors)]
    found = [Recipe(**each) for each in [*zeros, *rounds, *formats, *factors, *cuts, *others, *both]]  # type: ignore[arg-type]
    return list(dict.fromkeys(found))


@pytest.fixture(scope="session")
def known_facts(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that preparing the tiny llama leaves, worked out once a session."""
    bench = Workbench(str(folders["llama"]), texts=TEXTS).load()
    list(bench.prepare())
    folder = cache_folder() / "facts" / bench.fingerprint
    return Path(shutil.copytree(folder, tmp_path_factory.mktemp("known") / folder.name))


@pytest.fixture
def unprepared(folders: dict[str, Path]) -> Workbench:
    return Workbench(str(folders["llama"]), texts=TEXTS).load()


@pytest.fixture
def workbench(folders: dict[str, Path], known_facts: Path, cache: Path) -> Workbench:
    """Prepared before."""
    shutil.copytree(known_facts, cache / "facts" / known_facts.name)
    bench = Workbench(str(folders["llama"]), texts=TEXTS).load()
    assert bench.prepared == 1
    return bench


@pytest.fixture
def timed() -> Speed:
    """A speed as if it had been measured."""
    ms = Reading(value=2, unit="ms", how="measured", low=2, high=2, n=1)
    rate = Reading(value=500, unit="tokens/s", how="measured")
    about = {"kernel": "k", "loop": "own step", "prompt_tokens": 8, "threads": 2}
    return Speed(prefill_ms=ms, ms_per_token=ms, tokens_per_second=rate, **about)  # type: ignore[arg-type]


@pytest.fixture
def stored_of() -> Callable[..., Stored]:
    """(rows, columns), spec and dtype → random weights in that form, the same ones every time."""

    def made(shape: tuple[int, int], spec: Spec, dtype: torch.dtype = torch.bfloat16) -> Stored:
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(4)) * 0.1
        mask = None if spec.kept is None else prune.mask_from_keys(prune.keys(weight.abs()), spec.kept)
        return encode(weight.to(dtype), spec, mask)

    return made


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only kernels that come with libraries."""
    monkeypatch.setattr(llvm, "available", lambda: False)
