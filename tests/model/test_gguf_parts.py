"""Files in several parts, names in capitals, folders that hold one .gguf file, and what Git leaves in their place."""

import shutil
from pathlib import Path

import gguf
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from explorer.model import opening
from explorer.model.gguf_parts import check_gguf, gguf_bytes, gguf_sha256, joined, parts_of
from explorer.model.preflight import ModelRejected, check_folder
from tests.model import ggufs
from tests.model.test_opening import rejected

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n"


@pytest.fixture
def whole(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    ggufs.write(folder / "model.gguf", "llama", ggufs.tiny("llama"), tokenizer, kind=gguf.GGMLQuantizationType.Q4_0)
    return folder / "model.gguf"


@pytest.fixture
def parts(whole: Path) -> list[Path]:
    """The same in three, as gguf-split makes them: the first says everything."""
    reader = gguf.GGUFReader(whole)
    names = [f"model-{place:05}-of-00003.gguf" for place in (1, 2, 3)]
    shares = [reader.tensors[place::3] for place in range(3)]
    for place, (name, share) in enumerate(zip(names, shares, strict=True)):
        writer = gguf.GGUFWriter(whole.with_name(name), "llama")
        for key, field in reader.fields.items() if place == 0 else ():
            if not key.startswith(("GGUF.", "general.architecture")):
                kind = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(key, field.contents(), field.types[0], sub_type=kind)
        writer.add_uint16("split.no", place)
        writer.add_uint16("split.count", 3)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in share:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return [whole.with_name(name) for name in names]


def test_any_part_opens_the_whole(whole: Path, parts: list[Path]) -> None:
    state = opening.load(str(whole)).model.state_dict()
    for part in parts:
        found = opening.load(str(part)).model.state_dict()
        assert state.keys() == found.keys() and all(torch.equal(state[name], found[name]) for name in state)
    assert parts_of(parts[1]) == parts and parts_of(whole) == [whole]
    assert gguf_bytes(parts[1]) == sum(part.stat().st_size for part in parts) > gguf_bytes(whole)
    assert len({gguf_sha256(part) for part in parts}) == 1


def test_parts_are_counted_together_and_joined_to_one_file(whole: Path, parts: list[Path], tmp_path: Path) -> None:
    all_parts, one_file = check_gguf(parts[2]), check_gguf(whole)
    assert (all_parts.parameters, all_parts.tensor_bytes) == (one_file.parameters, one_file.tensor_bytes)
    assert all_parts.tensors.keys() == one_file.tensors.keys()
    joined(parts[0], tmp_path / "joined.gguf")
    one, other = gguf.GGUFReader(whole), gguf.GGUFReader(tmp_path / "joined.gguf")
    found = {tensor.name: tensor.data.tobytes() for tensor in other.tensors}
    assert found == {tensor.name: tensor.data.tobytes() for tensor in one.tensors}


def test_a_missing_part_is_one_sentence(parts: list[Path]) -> None:
    parts[1].unlink()
    assert f"one of 3 parts, and {parts[1].name} is not beside it" in rejected(parts[0])


def test_parts_in_another_order_are_refused(parts: list[Path]) -> None:
    spare = parts[0].with_name("spare")
    for source, goal in ((parts[0], spare), (parts[1], parts[0]), (spare, parts[1])):
        source.rename(goal)
    assert "not named as that part" in rejected(parts[0])


def test_a_part_under_another_name_is_refused(parts: list[Path]) -> None:
    assert "not named as that part" in rejected(Path(shutil.copy(parts[1], parts[1].with_name("alone.gguf"))))


def test_a_part_of_another_model_is_refused(parts: list[Path]) -> None:
    shutil.copy(parts[1], parts[2])
    with pytest.raises(ModelRejected):
        check_gguf(parts[0])


def test_a_name_in_capitals_opens(whole: Path) -> None:
    assert opening.load(str(whole.rename(whole.with_name("MODEL.GGUF")))).source == "the file MODEL.GGUF"


def test_a_folder_that_holds_one_gguf_file_opens_it(whole: Path) -> None:
    assert opening.load(str(whole.parent)).source == "the file model.gguf"


def test_a_folder_that_holds_the_parts_of_one_opens_them(whole: Path, parts: list[Path]) -> None:
    whole.unlink()
    assert opening.load(str(whole.parent)).source == f"the file {parts[0].name}"


def test_a_folder_that_holds_several_asks_for_one(whole: Path) -> None:
    shutil.copy(whole, whole.with_name("other.gguf"))
    assert "holds 2 .gguf files; name one of them" in rejected(whole.parent)


def test_a_folder_with_a_config_is_opened_as_ever(whole: Path, copy: Path) -> None:
    shutil.copy(whole, copy)
    assert opening.load(str(copy)).source == f"the folder {copy.name}"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer_config.json"])
def test_what_git_left_in_place_of_a_file_is_called_so(copy: Path, name: str) -> None:
    (copy / name).write_text(POINTER)
    with pytest.raises(ModelRejected, match=f"{name} is a Git LFS pointer, not the file itself; fetch it with git lfs"):
        check_folder(copy)


def test_what_git_left_in_place_of_a_gguf_file_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text(POINTER)
    assert "model.gguf is a Git LFS pointer" in rejected(tmp_path / "model.gguf")
