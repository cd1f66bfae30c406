"""The API as a program asks it, and as an assistant does: names, types, answers, refusals, an end with its listener."""

import ast
import asyncio
import importlib.util
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from explorer.ui import endpoints
from explorer.ui.page import build
from explorer.ui.serving import launch
from explorer.ui.standing import Standing
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench
from tests.conftest import TEXTS

NAMES = {"/predict_size", "/apply", "/measure", "/generate", "/compare"}
MCP = importlib.util.find_spec("mcp") is not None


@pytest.fixture(scope="module")
def bench(folders: dict[str, Path]) -> Workbench:
    return Workbench(str(folders["llama"]), texts=TEXTS).load()


@pytest.fixture(scope="module")
def address(bench: Workbench) -> Iterator[str]:
    page = build(bench)
    yield launch(page, Standing(tools=MCP))
    page.close()


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False)


def ask(client: Client, name: str, **values: Any) -> Any:
    return client.predict(api_name=name, **values)


def test_the_api_view_lists_these_and_no_other_with_their_types(address: str) -> None:
    with urllib.request.urlopen(address + "gradio_api/info", timeout=10) as answer:
        named = json.load(answer)["named_endpoints"]
    assert named.keys() == NAMES
    kinds = {each["parameter_name"]: each["type"]["type"] for each in named["/measure"]["parameters"][:4]}
    assert kinds == {"sparsity": "number", "bits": "integer", "keep": "number", "head_bits": "integer"}
    assert all(each["returns"][0]["type"]["type"] == "object" for each in named.values())
    assert "calculated" in named["/predict_size"]["description"]


def test_predicted_bytes_are_those_of_the_model_that_is_made(client: Client) -> None:
    setting = {"sparsity": 0.5, "bits": 4, "more": {"quant": "rtn", "prune": "magnitude"}}
    told, made = ask(client, "/predict_size", **setting), ask(client, "/apply", **setting)
    assert told["size"]["file_bytes"] == made["size"]["file_bytes"] > 0 and "seconds" not in told
    assert Recipe.from_dict(made["recipe"]) == Recipe(sparsity=0.5, bits=4, quant="rtn", prune="magnitude")
    assert made["size"]["resident_bytes"] > 0 and made["seconds"]["apply"] > 0


def test_a_measurement_is_the_record_of_the_command_line(client: Client, bench: Workbench) -> None:
    found = ask(client, "/measure", bits=3, more={"quant": "rtn"}, tokens=20, rounds=1)
    known = bench.measured(Recipe(bits=3, quant="rtn"))
    assert known and found == json.loads(json.dumps(known.to_dict()))
    assert found["questions"]["asked"] == 132 and found["quality"]["tokens"] >= 20 and found["speed"]


def test_both_texts_come_and_the_original_s_is_that_of_the_original(client: Client) -> None:
    found = ask(client, "/generate", prompt="the cat", bits=2, more={"quant": "rtn"}, new_tokens=6)
    same = ask(client, "/generate", prompt="the cat", new_tokens=6)
    assert found["original"] == same["original"] == same["compressed"] != found["compressed"]


def test_settings_are_compared_on_the_same_tokens_the_original_first(client: Client) -> None:
    rows = ask(client, "/compare", settings=[{"bits": 8, "quant": "rtn"}, {"bits": 2, "quant": "rtn"}], tokens=30)[
        "rows"
    ]
    assert [row["recipe"]["bits"] for row in rows] == [16, 8, 2]
    assert len({row["quality"]["tokens"] for row in rows}) == 1 and rows[0]["quality"]["kl"] == 0
    assert rows[1]["quality"]["kl"] < rows[2]["quality"]["kl"]


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("/predict_size", {"bits": 5.5}, "bits"),
        ("/predict_size", {"sparsity": 3}, "sparsity"),
        ("/apply", {"more": {"colour": "red"}}, "Unknown setting: colour"),
        ("/measure", {"tokens": 0}, "tokens must be"),
        ("/measure", {"rounds": "x"}, "rounds"),
        ("/compare", {"settings": []}, "1 to 16 settings"),
        ("/compare", {"settings": [3]}, "object of a recipe"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(client: Client, name: str, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AppError, match=sentence):
        ask(client, name, **values)
    assert ask(client, "/predict_size", bits=8)["size"]["file_bytes"] > 0


def test_work_ends_with_who_listened(client: Client, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def endless(*_: Any) -> Iterator[dict[str, Any]]:
        while True:
            steps.append(len(steps))
            time.sleep(0.02)
            yield {}

    monkeypatch.setattr(endpoints.Endpoints, "_applied", endless)
    job = client.submit(bits=4, api_name="/apply")
    while not steps:
        time.sleep(0.02)
    job.cancel()
    time.sleep(0.5)
    before = len(steps)
    time.sleep(0.5)
    assert len(steps) == before > 0


@pytest.mark.skipif(not MCP, reason="mcp is not installed")
def test_an_assistant_finds_the_same_tools_and_uses_one(address: str) -> None:
    from mcp import ClientSession  # noqa: PLC0415
    from mcp.client.streamable_http import streamablehttp_client  # noqa: PLC0415

    async def visit() -> tuple[list[Any], Any, Any]:
        async with (
            streamablehttp_client(address + "gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as one,
        ):
            await one.initialize()
            tools = (await one.list_tools()).tools
            size = await one.call_tool("predict_size", {"bits": 8})
            return tools, size, await one.call_tool("predict_size", {"bits": 99})

    tools, size, wrong = asyncio.run(visit())
    assert {f"/{tool.name}" for tool in tools} == NAMES
    schema = next(tool.inputSchema for tool in tools if tool.name == "generate")
    assert schema["properties"]["bits"]["type"] == "integer" and "bits of a weight" in str(schema["properties"]["bits"])
    assert ast.literal_eval(size.content[0].text)["size"]["file_bytes"] > 0 and not size.isError
    assert wrong.isError and "bits" in wrong.content[0].text
