"""The setting in the browser's address, so that a reload or a copied link brings it back."""

from explorer import assets
from explorer.ui.stage import Stage, html
from explorer.ui.view import View


def place(stage: Stage) -> None:
    """A part that shows nothing; its script writes the address."""
    script = assets.read("address.js")
    stage.follow(html("", html_template="<i></i>", js_on_load=script, elem_id="address"), draw)


def draw(view: View) -> str | None:
    """The setting as a query."""
    return view.query
