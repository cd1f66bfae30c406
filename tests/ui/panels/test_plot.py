from dataclasses import replace

from explorer.ui.panels import plot
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench


def figure(workbench: Workbench, now: Recipe) -> dict[str, dict[str, object]]:
    data = plot.size_and_quality(workbench.history(), now).data
    return {trace["name"]: trace for trace in data}


def test_an_empty_session_gives_an_empty_plot() -> None:
    assert plot.size_and_quality([], Recipe()).data == []


def test_every_measured_setting_is_a_point_at_its_measured_size(workbench: Workbench) -> None:
    recipes = [Recipe(bits=8), Recipe(bits=4), Recipe(sparsity=0.5)]
    measured = [workbench.measure(recipe, tokens=10, rounds=1) for recipe in recipes]
    traces = figure(workbench, recipes[-1])
    xs = {*traces["tried"]["x"], *traces["now"]["x"]}  # type: ignore[misc]
    assert xs == {m.size.file_bytes.value / 1e6 for m in measured}
    assert traces["now"]["x"] == [measured[-1].size.file_bytes.value / 1e6]
    assert traces["original"]["x"] == [workbench.preview(Recipe()).file_bytes.value / 1e6]


def test_names_that_visitors_write_are_text(workbench: Workbench) -> None:
    recipe = Recipe(bits=8, protect=("<b>mlp</b>",))
    workbench.measure(recipe, tokens=10, rounds=1)
    (text,) = figure(workbench, recipe)["now"]["text"]  # type: ignore[misc]
    assert "&lt;b&gt;mlp&lt;/b&gt; protected" in text and text.count("<b>") == 1


def test_the_front_line_only_falls(workbench: Workbench) -> None:
    for bits in (8, 6, 4, 3, 2):
        workbench.measure(Recipe(bits=bits, head_bits=bits), tokens=40, rounds=1)
    line = figure(workbench, Recipe())["best so far"]
    assert line["y"] == sorted(line["y"], reverse=True)  # type: ignore[type-var, arg-type]
    assert line["x"] == sorted(line["x"])  # type: ignore[type-var, arg-type]


def test_what_is_off_the_scale_is_drawn_at_the_edge_as_a_triangle(workbench: Workbench) -> None:
    measured = workbench.measure(Recipe(bits=2), tokens=10, rounds=1)
    assert measured.quality
    broken = replace(
        measured,
        quality=replace(measured.quality, perplexity=replace(measured.quality.perplexity, value=1e12)),
    )
    traces = plot.size_and_quality([broken], Recipe(bits=2)).data
    now = next(t for t in traces if t["name"] == "now")
    assert now["marker"]["symbol"] == ["triangle-up"]
    assert now["y"][0] <= plot.OFF_SCALE * measured.quality.perplexity_original.value


def test_points_of_more_and_of_fewer_tokens_are_drawn_on_one_text(workbench: Workbench) -> None:
    """The same setting compared on 10 and on 40 tokens lies nearly where it lay; the original always does."""
    short = workbench.measure(Recipe(bits=8), tokens=10, rounds=1)
    long = workbench.measure(Recipe(bits=4), tokens=40, rounds=1)
    assert short.quality and long.quality
    assert short.quality.perplexity_original.value != long.quality.perplexity_original.value
    traces = {t["name"]: t for t in plot.size_and_quality([short, long], Recipe(bits=8)).data}
    ratio = short.quality.perplexity.value / short.quality.perplexity_original.value
    assert traces["original"]["y"] == [long.quality.perplexity_original.value]
    assert abs(traces["now"]["y"][0] / traces["original"]["y"][0] - ratio) < 1e-9


def test_the_axis_makes_no_cliff_of_a_small_loss_and_the_last_budget_is_a_line(workbench: Workbench) -> None:
    workbench.measure(Recipe(bits=8), tokens=10, rounds=1)
    layout = plot.size_and_quality(workbench.history(), Recipe(bits=8), budget=90e6).layout
    low, high = layout["yaxis"]["range"]
    assert 10 ** (high - low) >= plot.LEAST * 0.999
    assert [shape["x0"] for shape in layout["shapes"]] == [90.0] and "90 MB" in layout["annotations"][0]["text"]


def test_the_table_behind_the_plot_has_its_numbers(workbench: Workbench) -> None:
    for bits in (8, 4):
        workbench.measure(Recipe(bits=bits), tokens=10, rounds=1)
    drawn, table = plot.size_and_quality(workbench.history(), Recipe(bits=4)), plot.settings(workbench.history())
    points = {
        (x, y)
        for trace in drawn.data
        if trace["name"] in ("tried", "now")
        for x, y in zip(trace["x"], trace["y"], strict=True)
    }
    assert len(points) == 2 and all(f">{x:,.1f} MB<" in table and f">{y:,.2f}<" in table for x, y in points)
