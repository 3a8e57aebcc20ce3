"""The Flask application: routes of pages and buttons, authentication and security headers."""

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
from resweb.auth import BasicAuth
from resweb.extents import Confirmation, Confirmations
from resweb.guesses import AuthThrottle
from resweb.pages import POLLED, Data, Pages
from resweb.posts import BUTTONS, Outcome, Posts
from resweb.sampler import Sampler
from resweb.servers import Servers
from resweb.templates import render, render_body

#: The largest form that is read: a page of selected records.
MAX_FORM_BYTES = 2 * 2**20

#: The header of the page's script when it updates the page by itself.
POLL_HEADER = "X-Resweb-Poll"

SESSION_COOKIE = "resweb_visitor"

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

#: Path, template, method of Pages, tab.
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

#: The path of one failure's page.
FAILURE_PATH = re.compile(r"/failed/.+/[0-9a-f]{32}")

#: Paths of resque-web's links that changed something, and the page that now has the button.
OLD_PATHS = {
    "/failed/delete_all/": "/failed/",
    "/failed/retry_all/": "/failed/",
    "/failed/requeue/<path:index>": "/failed/",
    "/failed/remove/<path:index>": "/failed/",
    "/failed/<path:name>/requeue/<int:index>": "/failed/",
    "/failed/<path:name>/remove/<int:index>": "/failed/",
}

#: The errors of pages and buttons that are shown to the user.
SHOWN_ERRORS: tuple[type[Exception], ...] = (HTTPException, PyresError, *UNAVAILABLE)

#: Pages also served without their layout at `<path>.poll`, for polling, as in resque-web.
POLL_PATHS = ["/overview", "/working", "/workers"]


def create_app(
    dsns: Sequence[str | ResQ],
    *,
    url_prefix: str = "",
    allowed_hosts: Sequence[str] = (),
    **options: Any,
) -> Flask:
    """The page for these servers as a WSGI application.

    Each of `dsns` is a DSN, `name=DSN`, or a ResQ. `allowed_hosts` are the names accepted in the
    Host header besides localhost, this host's names and IP addresses; `*` allows all. The other
    options are those of create_blueprint(). `app.extensions["resweb"].close()` ends its threads and
    connections, if the process continues without the application. Raises BadDSNError and
    BadOptionError.
    """
    app = Flask("resweb", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_FORM_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_FORM_BYTES
    prefix = "/" + url_prefix.strip("/") if url_prefix.strip("/") else None
    app.register_blueprint(create_blueprint(dsns, **options), url_prefix=prefix)
    app.register_error_handler(404, _not_found)
    known_hosts = origin.KnownHosts(allowed_hosts)
    health = f"{prefix or ''}/healthz"

    def check_host() -> Response | None:
        # An orchestrator may use any name for this container.
        if request.path == health or known_hosts.knows(request.headers.get("Host", "")):
            return None
        return Response(
            "This page is not served for this Host.\n", 421, HEADERS, mimetype="text/plain"
        )

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
    need the same `secret`; without `sample` there are no charts. The site must check the Host
    header itself.
    """
    servers = Servers(dsns, password, namespace=namespace)
    site = _Site(servers, auth, read_only, secret or secrets.token_hex(32), sample)
    blueprint = Blueprint("resweb", __name__, static_folder="static", static_url_path="/static")
    blueprint.before_request(site.require_auth)
    blueprint.after_request(site.add_security_headers)
    # 404 also by its number, or create_app()'s handler for unknown paths would take precedence.
    errors: list[type[Exception] | int] = [*SHOWN_ERRORS, 404]
    for error in errors:
        blueprint.register_error_handler(error, site.show_error)
    site.route(blueprint)
    blueprint.record(lambda state: state.app.extensions.setdefault("resweb", site))
    return blueprint


class _Site:
    """The state shared by all requests of one mounted page."""

    def __init__(
        self, servers: Servers, auth: str | None, read_only: bool, secret: str, sample: bool
    ) -> None:
        self.servers = servers
        self.tasks = Tasks()
        self.pages = Pages(servers, self.tasks, Sampler(servers) if sample else None)
        self.posts = Posts(servers, self.tasks)
        self.confirmations = Confirmations(servers, self.posts)
        self.auth = AuthThrottle(BasicAuth(auth)) if auth else None
        self.read_only = read_only
        self.secret = secret
        # The message for each session. In the URL, a link could show any text on the page.
        self.notices: OrderedDict[str, str] = OrderedDict()

    def close(self) -> None:
        """End the threads and close the connections."""
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
                add(path, self._method_not_allowed("/" + path.split("/")[1] + "/"))
        for path, where in OLD_PATHS.items():
            add(path, self._method_not_allowed(where))
        for path in POLL_PATHS:
            name = path.strip("/")
            add(f"{path}.poll", self._body(name, getattr(self.pages, name)))
        add("/", lambda: redirect(url_for("resweb.GET /overview")))
        add("/stats", lambda: redirect(url_for("resweb.GET /stats/resque")))
        add("/stats.txt", self.stats_txt)
        add("/healthz", self.healthz)
        add("/metrics", self.metrics)
        add("/api/openapi.json", lambda: api.document(_base()))

    def require_auth(self) -> Response | None:
        """Require the password, if one is set: else a response with 401 or 429."""
        if self.auth is None:
            return None
        header, address = request.headers.get("Authorization", ""), request.remote_addr or ""
        verdict = self.auth.admit(header, address)
        if verdict.admitted:
            return None
        if verdict.wait:
            message = f"Too many wrong passwords. Try again in {verdict.wait} s.\n"
            return Response(message, 429, {"Retry-After": str(verdict.wait)}, mimetype="text/plain")
        headers = {"WWW-Authenticate": 'Basic realm="resweb", charset="UTF-8"'}
        return Response("Authentication required.\n", 401, headers)

    def add_security_headers(self, response: Response) -> Response:
        for name, value in HEADERS.items():
            if name != "Cache-Control" or not request.path.startswith(f"{_base()}/static/"):
                response.headers[name] = value
        return response

    def _html(self, template: str, page: Callable[..., Data], tab: str) -> Callable[..., Response]:
        def view(**path_values: Any) -> Response:
            polled = {POLLED: "yes"} if request.headers.get(POLL_HEADER) else {}
            data = page({**request.args.to_dict(), **polled}, **path_values)
            # /workers/<host>, the list of a host's workers, has the route of one worker.
            name = "workers" if template == "worker" and "hosts" in data else template
            return self.show(name, tab, data)

        return view

    def _body(self, template: str, page: Callable[..., Data]) -> Callable[..., Response]:
        def view() -> Response:
            data = page(request.args.to_dict())
            # Without buttons: their forms would need the session's cookie.
            return Response(render_body(template, self._context("", data, "") | {"may_act": False}))

        return view

    def show(self, template: str, tab: str, data: Data, status: int = 200) -> Response:
        """A page in the layout, with the session's cookie if it is new."""
        session_id = request.cookies.get(SESSION_COOKIE, "")
        is_known = 20 <= len(session_id) <= 100
        session_id = session_id if is_known else csrf.new_session_id()
        response = Response(render(template, self._context(tab, data, session_id)), status)
        if not is_known:
            response.set_cookie(
                SESSION_COOKIE, session_id, httponly=True, samesite="Strict",
                secure=request.is_secure, path=_base() or "/",
            )  # fmt: skip
        return response

    def _context(self, tab: str, data: Data, session_id: str) -> Data:
        chosen = request.args.get("server", "")
        query = {key: value for key, value in request.args.items() if key != "start"}
        other_order = "desc" if data.get("oldest_first") else "asc"
        return {
            "base": _base(),
            "csrf": csrf.token(self.secret, session_id),
            "back": _current_url(),
            "may_act": not self.read_only,
            # Only the list of failures has a form for selected ones.
            "may_select": not self.read_only and "filter" in data,
            "notice": self.notices.pop(session_id, ""),
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
            "other_order_query": _query({**query, "order": other_order}),
            "is_later_page": bool(request.args.get("start", "0") != "0"),
            **data,
        }

    def _json(self, page: Callable[..., Data]) -> Callable[..., Any]:
        return lambda **path_values: page(request.args.to_dict(), **path_values)

    def _button(self, path: str, button: str, question: bool) -> Callable[..., Any]:
        act = getattr(self.posts, button)

        def view() -> Any:
            session_id = request.cookies.get(SESSION_COOKIE, "")
            if self.read_only:
                return self.error_response("This page is read-only (--read-only).", 403)
            if not _is_same_origin():
                return self.error_response(
                    "This form was sent from another site. Nothing was done.", 403
                )
            if not csrf.valid(self.secret, session_id, request.form.get("csrf", "")):
                return self.error_response(
                    "This page was open too long, or the form is not from it. Nothing was done: "
                    "load the page again and press the button there.",
                    403,
                )
            if question and request.form.get("confirmed") != "yes":
                return self.confirm(path, getattr(self.confirmations, button)(request.form))
            outcome = self._audited(path, act)
            self.notices[session_id] = outcome.message
            while len(self.notices) > 1000:
                self.notices.popitem(last=False)
            return redirect(_base() + _back(request.form.get("back", ""), outcome.page), 303)

        return view

    def _audited(self, button: str, act: Callable[..., Outcome]) -> Outcome:
        """The outcome of a button, which is logged; so is an error."""
        try:
            outcome = act(request.form)
        except SHOWN_ERRORS as error:
            outcome = Outcome(f"failed: {error}", "", [request.form.get("server", "")], 0)
            audit.note(self._actor(), button, request.form, outcome)
            raise
        audit.note(self._actor(), button, request.form, outcome)
        return outcome

    def _actor(self) -> audit.Actor:
        # Without a password of ours, the site that mounts the page may know the user's name.
        name = request.authorization.username if self.auth and request.authorization else None
        return audit.Actor(name or request.remote_user or "", request.remote_addr or "")

    def confirm(self, path: str, confirmation: Confirmation) -> Response:
        """The page that asks for confirmation; it works without JavaScript."""
        hidden = ("csrf", "confirmed")
        fields = [
            {"name": name, "value": value}
            for name, value in request.form.items(multi=True)
            if name not in hidden
        ]
        details = [{"name": name, "value": value} for name, value in confirmation.details]
        tab = "/workers/" if path.startswith("/khans/") else "/" + path.split("/")[1] + "/"
        data = {
            "question": confirmation.question,
            "action": path,
            "fields": fields,
            "details": details,
            "where": _previous_page(request.form.get("back", ""), tab),
            # The picker is hidden here: the server is the form's.
            "several_servers": False,
        }
        return self.show("confirm", next(name for name, at in TABS.items() if at == tab), data)

    def _method_not_allowed(self, where: str) -> Callable[..., Response]:
        def view(**path_values: Any) -> Response:
            message = f"A link must not change anything. The button is on the page {_base()}{where}"
            response = self.error_response(message, 405)
            response.headers["Allow"] = "POST"
            return response

        return view

    def show_error(self, error: Exception) -> Any:
        """An error as a page or as JSON."""
        status = getattr(error, "code", None) or _status(error)
        if status < 400:
            return error
        message = getattr(error, "description", None) or str(error)
        response = self.error_response(message, status)
        if isinstance(error, HTTPException):
            for name, value in error.get_headers():
                if name == "Allow":
                    response.headers[name] = value
        return response

    def error_response(self, message: str, status: int) -> Response:
        if request.path.startswith(f"{_base()}/api/"):
            return Response(api.error(message), status, mimetype="application/json")
        data = {"message": message, "status": status, "phrase": http.HTTPStatus(status).phrase}
        return self.show("trouble", "", data, status)

    def stats_txt(self) -> Response:
        """resque-web's totals as plain text."""
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
        """200 while any server answers PING, else 503."""
        answers = self.servers.ask(lambda inspector: inspector.ping())
        down = [{"server": a.server.name, "error": a.error} for a in answers if a.is_down]
        is_ok = len(down) < len(self.servers.all)
        return {"ok": is_ok, "down": down}, 200 if is_ok else 503

    def metrics(self) -> Response:
        return Response(metrics.text(self.servers), mimetype="text/plain; version=0.0.4")


def _status(error: Exception) -> int:
    """503 for a server that is down, 409 for one that refuses a request, else 400."""
    if not isinstance(error, UNAVAILABLE):
        return 400
    return 503 if is_down(error) else 409


def _not_found(error: HTTPException) -> Response:
    """404 for unknown paths, before authentication: reveals nothing."""
    if request.path.startswith(f"{_base()}/api/"):
        return Response(api.error("there is no such page"), 404, HEADERS, "application/json")
    return Response("There is no such page.\n", 404, HEADERS, "text/plain")


def _back(back: str, page: str) -> str:
    """Where to go after a button: back to its page, unless that is one failure's page, which no
    longer exists after a retry or a deletion.
    """
    previous = _previous_page(back, page)
    return page if FAILURE_PATH.fullmatch(urlsplit(previous).path) else previous


def _previous_page(back: str, page: str) -> str:
    """The page in a form's `back`, with its filter and position, if it is of the same tab as
    `page`; else `page`, so that a forged form cannot redirect elsewhere.
    """
    tab = "/" + page.split("/")[1] + "/"
    is_safe = back.isprintable() and "\\" not in back and len(back) < 4000
    if not is_safe or not back.startswith(tab):
        return page
    url = urlsplit(back)
    query = f"?{urlencode(parse_qsl(url.query))}" if url.query else ""
    return quote(url.path, safe="/%:~,;=@+") + query


def _current_url() -> str:
    """The path and query of this request, without the prefix."""
    query = request.query_string.decode("latin-1")
    return quote(request.path).removeprefix(_base()) + (f"?{query}" if query else "")


def _is_same_origin() -> bool:
    headers = request.headers
    return origin.is_same_origin(
        headers.get("Sec-Fetch-Site"), headers.get("Origin"), headers.get("Host", "")
    )


def _base() -> str:
    return url_for("resweb.GET /overview").removesuffix("/overview")


def _query(values: dict[str, str]) -> str:
    return api.query(values)
