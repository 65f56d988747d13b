"""The documentation page says what the document says, and can be trusted with it."""

from odea_gateway.page import render_page

DOCUMENT = {
    "info": {"title": "T<i>", "version": "1", "summary": "S"},
    "paths": {
        "/v1/thing/{id}": {
            "post": {
                "description": "Makes <b>things</b>.",
                "parameters": [{"name": "id", "in": "path", "description": "which"}],
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "required": ["kind"],
                                "properties": {
                                    "kind": {"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]},
                                    "speed": {"type": "number", "minimum": 1, "maximum": 2},
                                },
                            }
                        }
                    }
                },
                "responses": {"200": {"description": "made"}, "404": {"description": "no such"}},
            }
        }
    },
}


def test_everything_is_told() -> None:
    page = render_page(DOCUMENT)
    for told in ("POST", "/v1/thing/{id}", "which", "required", "a, b", "1 to 2", "made", "no such"):
        assert told in page, told


def test_what_is_written_is_text() -> None:
    page = render_page(DOCUMENT)
    assert "<b>things" not in page
    assert "T<i>" not in page


def test_nothing_is_loaded_and_nothing_runs() -> None:
    page = render_page(DOCUMENT)
    assert "<script" not in page
    assert "//" not in page
