"""The web framework's side: paths to pages, forms to buttons, and the doors before both."""

from __future__ import annotations

import http
import importlib.metadata
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from flask import Blueprint, Flask, Response, redirect, request, url_for
from werkzeug.exceptions import HTTPException

from pyres.client import ResQ
from pyres.exceptions import PyresError
from pyres.inspector import UNAVAILABLE, is_down
from resweb import api, audit, csrf, filters, metrics, origin
from resweb.actions import Tasks
from resweb.auth import Door
from resweb.extents import Extent, Extents
from resweb.guesses import Guesses
from resweb.pages import POLLED, Data, Pages
from resweb.posts import BUTTONS, Outcome, Posts
from resweb.sampler import Sampler
from resweb.servers import Servers
from resweb.templates import render, render_body

#: The largest form that is read: a page of records, ticked.
FORM = 2 * 2**20

#: What the page's script sends when it asks by itself.
POLL_HEADER = "X-Resweb-Poll"

COOKIE = "resweb_visitor"

VERSION = importlib.metadata.version("pyres")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With no-referrer a browser would send its forms with `Origin: null`.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

#: Path, template, page, the tab it is under.
PAGES = [
    ("/overview", "overview", "overview", "Overview"),
    ("/working/", "working", "working", "Working"),
    ("/working/<path:worker_id>", "worker", "worker", "Working"),
    ("/failed/", "failed", "failed", "Failed"),
    ("/failed/<path:name>/", "failed", "failed", "Failed"),
    ("/failed/<path:name>/<string(length=32):digest>", "failure", "failure", "Failed"),
    ("/queues/", "queues", "queues", "Queues"),
    ("/queues/<path:name>/", "queue", "queue", "Queues"),
    ("/workers/", "workers", "workers", "Workers"),
    ("/workers/<path:worker_id>/", "worker", "worker", "Workers"),
    ("/delayed/", "delayed", "delayed", "Delayed"),
    ("/delayed/<int(signed=True):timestamp>/", "timestamp", "timestamp", "Delayed"),
    ("/schedule/", "schedule", "schedule", "Schedule"),
    ("/stats/resque", "stats", "stats", "Stats"),
    ("/stats/redis", "redis", "redis", "Stats"),
    ("/stats/keys", "keys", "keys", "Stats"),
    ("/stats/keys/<path:name>", "key", "key", "Stats"),
    ("/stat/<path:name>/", "key", "key", "Stats"),
]

TABS = {
    "Overview": "/overview",
    "Working": "/working/",
    "Failed": "/failed/",
    "Queues": "/queues/",
    "Workers": "/workers/",
    "Delayed": "/delayed/",
    "Schedule": "/schedule/",
    "Stats": "/stats/resque",
}

#: The page of one failure.
FAILURE = re.compile(r"/failed/.+/[0-9a-f]{32}")

#: Links of old pages that changed something, and where the button is now.
OLD_LINKS = {
    "/failed/delete_all/": "/failed/",
    "/failed/retry_all/": "/failed/",
    "/failed/requeue/<path:index>": "/failed/",
    "/failed/remove/<path:index>": "/failed/",
    "/failed/<path:name>/requeue/<int:index>": "/failed/",
    "/failed/<path:name>/remove/<int:index>": "/failed/",
}

#: What a page or a button may raise, and is shown.
TROUBLES: tuple[type[Exception], ...] = (HTTPException, PyresError, *UNAVAILABLE)

#: Ruby's pages without what is around them, for those who fetch them again and again.
POLL_PATHS = ["/overview", "/working", "/workers"]


def create_app(
    dsns: Sequence[str | ResQ],
    *,
    url_prefix: str = "",
    allowed_hosts: Sequence[str] = (),
    **options: Any,
) -> Flask:
    """The page over these servers as a WSGI application.

    Each of `dsns` is a DSN, `name=DSN`, or a ResQ. `allowed_hosts` are the names that requests may
    have in their Host besides localhost, this host's names and IP addresses; `*` allows all.
    Other options as of create_blueprint().
    `app.extensions["resweb"].close()` ends its threads and connections, where an application goes
    before its process does. Raises BadDSNError and BadOptionError.
    """
    app = Flask("resweb", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = FORM
    app.config["MAX_FORM_MEMORY_SIZE"] = FORM
    prefix = "/" + url_prefix.strip("/") if url_prefix.strip("/") else None
    app.register_blueprint(create_blueprint(dsns, **options), url_prefix=prefix)
    app.register_error_handler(404, _lost)
    known_hosts = origin.KnownHosts(allowed_hosts)
    health = f"{prefix or ''}/healthz"

    def check_host() -> Response | None:
        # An orchestrator asks by whatever name it has for this container.
        if request.path == health or known_hosts.knows(request.headers.get("Host", "")):
            return None
        return Response("This Host is not served here.\n", 421, HEADERS, mimetype="text/plain")

    app.before_request(check_host)
    return app


def create_blueprint(
    dsns: Sequence[str | ResQ],
    *,
    auth: str | None = None,
    read_only: bool = False,
    secret: str | None = None,
    sample: bool = True,
    password: str | None = None,
    namespace: str = "resque",
) -> Blueprint:
    """The page as a Flask blueprint named `resweb`, to be mounted in a site.

    `auth` is `user:HASH` (pyres_web --hash-password); `read_only` has no buttons; several processes
    need the same `secret`; without `sample` there are no charts. Which Host is answered is for the
    site to decide.
    """
    servers = Servers(dsns, password, namespace=namespace)
    site = _Site(servers, auth, read_only, secret or secrets.token_hex(32), sample)
    blueprint = Blueprint("resweb", __name__, static_folder="static", static_url_path="/static")
    blueprint.before_request(site.guard)
    blueprint.after_request(site.seal)
    # The 404 by its number, too: what create_app has for paths of nobody would come before.
    errors: list[type[Exception] | int] = [*TROUBLES, 404]
    for error in errors:
        blueprint.register_error_handler(error, site.trouble)
    site.route(blueprint)
    blueprint.record(lambda state: state.app.extensions.setdefault("resweb", site))
    return blueprint


class _Site:
    """What all requests of one mounted page share."""

    def __init__(
        self, servers: Servers, auth: str | None, read_only: bool, secret: str, sample: bool
    ) -> None:
        self.servers = servers
        self.tasks = Tasks()
        self.pages = Pages(servers, self.tasks, Sampler(servers) if sample else None)
        self.posts = Posts(servers, self.tasks)
        self.extents = Extents(servers, self.posts)
        self.door = Guesses(Door(auth)) if auth else None
        self.read_only = read_only
        self.secret = secret
        # Kept here and not in the URL, where anybody could make the page say anything.
        self.notices: OrderedDict[str, str] = OrderedDict()

    def close(self) -> None:
        """End the threads, and leave the servers."""
        if self.pages.sampler:
            self.pages.sampler.close()
        self.servers.close()

    def route(self, blueprint: Blueprint) -> None:
        def add(path: str, view: Callable[..., Any], method: str = "GET") -> None:
            blueprint.add_url_rule(
                path, f"{method} {path}".replace(".", "_"), view, methods=[method],
                strict_slashes=False, merge_slashes=False,
            )  # fmt: skip

        for path, template, page, tab in PAGES:
            add(path, self._html(template, getattr(self.pages, page), tab))
        for path, page in api.PATHS.items():
            add(path, self._json(getattr(self.pages, page)))
        for path, (button, question) in BUTTONS.items():
            add(path, self._button(path, button, question), "POST")
            if not path.endswith("_all"):
                add(path, self._old_link("/" + path.split("/")[1] + "/"))
        for path, where in OLD_LINKS.items():
            add(path, self._old_link(where))
        for path in POLL_PATHS:
            name = path.strip("/")
            add(f"{path}.poll", self._body(name, getattr(self.pages, name)))
        add("/", lambda: redirect(url_for("resweb.GET /overview")))
        add("/stats", lambda: redirect(url_for("resweb.GET /stats/resque")))
        add("/stats.txt", self.stats_txt)
        add("/healthz", self.healthz)
        add("/metrics", self.metrics)
        add("/api/openapi.json", lambda: api.document(_base()))

    def guard(self) -> Response | None:
        """Nobody comes past here without the password, where there is one."""
        if self.door is None:
            return None
        header, address = request.headers.get("Authorization", ""), request.remote_addr or ""
        verdict = self.door.admit(header, address)
        if verdict.admitted:
            return None
        if verdict.wait:
            said = f"Too many wrong passwords. Try again in {verdict.wait} s.\n"
            return Response(said, 429, {"Retry-After": str(verdict.wait)}, mimetype="text/plain")
        headers = {"WWW-Authenticate": 'Basic realm="resweb", charset="UTF-8"'}
        return Response("The user and the password, please.\n", 401, headers)

    def seal(self, response: Response) -> Response:
        for name, value in HEADERS.items():
            if name != "Cache-Control" or not request.path.startswith(f"{_base()}/static/"):
                response.headers[name] = value
        return response

    def _html(self, template: str, page: Callable[..., Data], tab: str) -> Callable[..., Response]:
        def view(**named: Any) -> Response:
            polled = {POLLED: "yes"} if request.headers.get(POLL_HEADER) else {}
            data = page({**request.args.to_dict(), **polled}, **named)
            # /workers/<host> is the list of a host's workers, at the path of one worker.
            chosen = "workers" if template == "worker" and "hosts" in data else template
            return self.show(chosen, tab, data)

        return view

    def _body(self, template: str, page: Callable[..., Data]) -> Callable[..., Response]:
        def view() -> Response:
            data = page(request.args.to_dict())
            # Without buttons: a form of theirs would want its visitor's cookie.
            return Response(render_body(template, self._context("", data, "") | {"may_act": False}))

        return view

    def show(self, template: str, tab: str, data: Data, status: int = 200) -> Response:
        """A page in the layout that all have."""
        visitor = request.cookies.get(COOKIE, "")
        known = 20 <= len(visitor) <= 100
        visitor = visitor if known else csrf.visitor()
        response = Response(render(template, self._context(tab, data, visitor)), status)
        if not known:
            response.set_cookie(
                COOKIE, visitor, httponly=True, samesite="Strict", secure=request.is_secure,
                path=_base() or "/",
            )  # fmt: skip
        return response

    def _context(self, tab: str, data: Data, visitor: str) -> Data:
        chosen = request.args.get("server", "")
        query = {key: value for key, value in request.args.items() if key != "start"}
        turned = "desc" if data.get("oldest_first") else "asc"
        return {
            "base": _base(),
            "csrf": csrf.token(self.secret, visitor),
            "back": _here(),
            "may_act": not self.read_only,
            # The form of the ticks is on the list of failures alone.
            "may_tick": not self.read_only and "filter" in data,
            "said": self.notices.pop(visitor, ""),
            "tabs": [{"tab": t, "path": p, "current": t == tab} for t, p in TABS.items()],
            "tab": tab,
            "servers": [
                {"name": s.name, "where": s.where, "chosen": s.name == chosen}
                for s in self.servers.all
            ],
            "several_servers": len(self.servers.all) > 1,
            "chosen_server": chosen,
            "chosen_server_url": filters.path(chosen),
            "next_query": _query({**query, "start": str(data.get("following"))}),
            "before_query": _query({**query, "start": str(data.get("before"))}),
            "has_before": data.get("before") is not None,
            "version": VERSION,
            "first_query": _query(query),
            "turned_query": _query({**query, "order": turned}),
            "started_within": bool(request.args.get("start", "0") != "0"),
            **data,
        }

    def _json(self, page: Callable[..., Data]) -> Callable[..., Any]:
        return lambda **named: page(request.args.to_dict(), **named)

    def _button(self, path: str, button: str, question: bool) -> Callable[..., Any]:
        act = getattr(self.posts, button)

        def view() -> Any:
            visitor = request.cookies.get(COOKIE, "")
            if self.read_only:
                return self.told("This page is read-only (--read-only).", 403)
            if not _is_same_origin():
                return self.told("This form was sent from another site. Nothing was done.", 403)
            if not csrf.valid(self.secret, visitor, request.form.get("csrf", "")):
                said = "This page was open too long, or the form is not from it. Nothing was done:"
                return self.told(f"{said} load the page again and press the button there.", 403)
            if question and request.form.get("confirmed") != "yes":
                return self.confirm(path, getattr(self.extents, button)(request.form))
            outcome = self._audited(path, act)
            self.notices[visitor] = outcome.said
            while len(self.notices) > 1000:
                self.notices.popitem(last=False)
            return redirect(_base() + _back(request.form.get("back", ""), outcome.page), 303)

        return view

    def _audited(self, button: str, act: Callable[..., Outcome]) -> Outcome:
        """What a button did, with a line in the log about it, or about why it did nothing."""
        try:
            outcome = act(request.form)
        except TROUBLES as error:
            outcome = Outcome(f"failed: {error}", "", [request.form.get("server", "")], 0)
            audit.note(self._actor(), button, request.form, outcome)
            raise
        audit.note(self._actor(), button, request.form, outcome)
        return outcome

    def _actor(self) -> audit.Actor:
        # Without a password of ours a name may still be known: to the site that mounts the page.
        name = request.authorization.username if self.door and request.authorization else None
        return audit.Actor(name or request.remote_user or "", request.remote_addr or "")

    def confirm(self, path: str, extent: Extent) -> Response:
        """Ask before what cannot be undone; works without any script."""
        hidden = ("csrf", "confirmed")
        fields = [
            {"name": name, "value": value}
            for name, value in request.form.items(multi=True)
            if name not in hidden
        ]
        told = [{"name": name, "value": value} for name, value in extent.told]
        tab = "/workers/" if path.startswith("/khans/") else "/" + path.split("/")[1] + "/"
        data = {
            "question": extent.question,
            "action": path,
            "fields": fields,
            "told": told,
            "where": _before(request.form.get("back", ""), tab),
            # Another server than that of the form cannot be picked here.
            "several_servers": False,
        }
        return self.show("confirm", next(name for name, at in TABS.items() if at == tab), data)

    def _old_link(self, where: str) -> Callable[..., Response]:
        def view(**named: Any) -> Response:
            said = f"A link must not change anything. The button is on the page {_base()}{where}"
            response = self.told(said, 405)
            response.headers["Allow"] = "POST"
            return response

        return view

    def trouble(self, error: Exception) -> Any:
        """What went wrong, as a page or as JSON, with its reason."""
        status = getattr(error, "code", None) or _status(error)
        if status < 400:
            return error
        said = getattr(error, "description", None) or str(error)
        response = self.told(said, status)
        if isinstance(error, HTTPException):
            for name, value in error.get_headers():
                if name == "Allow":
                    response.headers[name] = value
        return response

    def told(self, said: str, status: int) -> Response:
        if request.path.startswith(f"{_base()}/api/"):
            return Response(api.error(said), status, mimetype="application/json")
        data = {"trouble": said, "status": status, "phrase": http.HTTPStatus(status).phrase}
        return self.show("trouble", "", data, status)

    def stats_txt(self) -> Response:
        """Ruby's plain table."""
        stats = self.pages.stats({})
        total = stats["total"]
        lines = [
            f"resque.pending={total['pending']}",
            f"resque.processed+={total['processed']}",
            f"resque.failed+={total['failed']}",
            f"resque.workers={total['workers']}",
            f"resque.working={total['working']}",
        ]
        lines += [f"queues.{name}={size}" for name, size in sorted(stats["sizes"].items())]
        return Response("\n".join(lines) + "\n", mimetype="text/plain")

    def healthz(self) -> tuple[Data, int]:
        """200 while any server answers, whatever it holds."""
        answers = self.servers.ask(lambda inspector: inspector.ping())
        down = [{"server": a.server.name, "error": a.error} for a in answers if a.is_down]
        well = len(down) < len(self.servers.all)
        return {"ok": well, "down": down}, 200 if well else 503

    def metrics(self) -> Response:
        return Response(metrics.text(self.servers), mimetype="text/plain; version=0.0.4")


def _status(error: Exception) -> int:
    """503 of a server that is down, 409 of one that refuses what is asked of it."""
    if not isinstance(error, UNAVAILABLE):
        return 400
    return 503 if is_down(error) else 409


def _lost(error: HTTPException) -> Response:
    """What no page of ours is at; it has passed no door, so it tells nothing."""
    if request.path.startswith(f"{_base()}/api/"):
        return Response(api.error("there is no such page"), 404, HEADERS, "application/json")
    return Response("There is no such page.\n", 404, HEADERS, "text/plain")


def _back(given: str, page: str) -> str:
    """Where to go after a button: to the page it was on, unless that is a failure's own, which has
    none any more when it was retried or deleted.
    """
    before = _before(given, page)
    return page if FAILURE.fullmatch(urlsplit(before).path) else before


def _before(given: str, page: str) -> str:
    """The page that a button was on, with its filter and its place, if that is of the same tab;
    anything else, whoever gave it, is the tab's own page.
    """
    tab = "/" + page.split("/")[1] + "/"
    plain = given.isprintable() and "\\" not in given and len(given) < 4000
    if not plain or not given.startswith(tab):
        return page
    found = urlsplit(given)
    query = f"?{urlencode(parse_qsl(found.query))}" if found.query else ""
    return quote(found.path, safe="/%:~,;=@+") + query


def _here() -> str:
    """The path and query of this request, below the prefix."""
    query = request.query_string.decode("latin-1")
    return quote(request.path).removeprefix(_base()) + (f"?{query}" if query else "")


def _is_same_origin() -> bool:
    given = request.headers
    return origin.is_same_origin(
        given.get("Sec-Fetch-Site"), given.get("Origin"), given.get("Host", "")
    )


def _base() -> str:
    return url_for("resweb.GET /overview").removesuffix("/overview")


def _query(values: dict[str, str]) -> str:
    return api.query(values)
