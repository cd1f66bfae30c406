"""Tiny random models and a tiny tokenizer, saved in folders so that every test opens them through the real path."""

import os
import tempfile
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

from explorer.model import hub  # noqa: E402
from explorer.model.hub import Loaded  # noqa: E402
from explorer.workbench import Workbench  # noqa: E402

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
    return hub.load(str(folders["llama"]))


@pytest.fixture(scope="session")
def llama32(folders: dict[str, Path]) -> Loaded:
    return hub.load(str(folders["llama32"]))


@pytest.fixture(scope="session")
def gpt2(folders: dict[str, Path]) -> Loaded:
    return hub.load(str(folders["gpt2"]))


@pytest.fixture(scope="session", params=["llama", "llama32", "gpt2", "neox"])
def any_model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Loaded:
    return hub.load(str(folders[request.param]))


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(2, 300, (1, 24), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def workbench(folders: dict[str, Path]) -> Workbench:
    return Workbench(str(folders["llama"]), texts=TEXTS).load()
