"""Rendering of mustache templates."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any

import pystache

from resweb.filters import TIMES

TIME_HTML = (
    '{{#%s_shown}}<time datetime="{{iso}}" title="{{iso}}">{{ago}}</time>{{/%s_shown}}'
    "{{^%s_shown}}{{%s_text}}{{^%s_text}}-{{/%s_text}}{{/%s_shown}}"
)
#: Text used in many templates; replaced when they are read, since a partial is parsed per row.
MACROS = {
    # A macro that contains others comes before them.
    "[[failure]]": (files("resweb.templates") / "failure_card.mustache").read_text("utf-8"),
    "[[place]]": '<input type="hidden" name="failed_job" value="{{record}}">'
    '<input type="hidden" name="list" value="{{list_handle}}">'
    '<input type="hidden" name="index" value="{{index}}">',
    "[[row-form]]": '[[form]]<input type="hidden" name="server" value="{{server}}">',
    "[[form]]": '<input type="hidden" name="csrf" value="{{csrf}}">'
    '<input type="hidden" name="back" value="{{back}}">',
    "[[server]]": '{{#several_servers}}<td><span class="tag">{{server}}</span></td>'
    "{{/several_servers}}",
    "[[server-head]]": '{{#several_servers}}<th scope="col">Server</th>{{/several_servers}}',
    "[[pages]]": '<nav class="pages" aria-label="Pages">{{#is_later_page}}'
    '<a href="{{first_query}}">first page</a>{{/is_later_page}}{{#has_before}}'
    '<a rel="prev" href="{{before_query}}">previous page</a>{{/has_before}}{{#has_following}}'
    '<a rel="next" href="{{next_query}}">next page</a>{{/has_following}}'
    "{{#span}}<span>Showing {{first}} to {{last}} of {{of}}</span>{{/span}}</nav>",
    **{f"[[time {field}]]": TIME_HTML.replace("%s", field) for field in TIMES},
}


def render(name: str, context: dict[str, Any]) -> str:
    """The page in its layout as HTML; every value is escaped."""
    layout = {**context, "body": render_body(name, context)}
    return pystache.Renderer(missing_tags="ignore").render(_parsed("layout"), layout)


def render_body(name: str, context: dict[str, Any]) -> str:
    """The page without its layout."""
    return str(pystache.Renderer(missing_tags="ignore").render(_parsed(name), context))


@functools.cache
def _parsed(name: str) -> Any:
    source = (files("resweb.templates") / f"{name}.mustache").read_text("utf-8")
    for macro, text in MACROS.items():
        source = source.replace(macro, text)
    return pystache.parse(source)
