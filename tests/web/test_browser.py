"""The page in a real browser: tabs, buttons, dark mode, a phone; no errors, no foreign requests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from resweb.app import create_app
from tests.servers import free_port, until
from tests.web.test_pages import fail

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
AXE = Path(__file__).parent.parent / "neighbours/node_modules/axe-core/axe.min.js"
SAMPLES = [
    {
        "at": n * 10,
        "pending": 40 + n % 17 * 3,
        "processed": n * n,
        "failed": n // 9 * 2,
        "queues": {"images": n % 17 * 3, "mail": 40 + n % 13 * 2},
    }
    for n in range(90)
]


def sampled(route: Any) -> None:
    """Respond with the samples above, as the app would."""
    queue = parse_qs(urlsplit(route.request.url).query).get("queue", [""])[0]
    samples = [
        {**sample, "queues": {k: n for k, n in sample["queues"].items() if queue in ("", k)}}
        for sample in SAMPLES
    ]
    route.fulfill(json={"samples": samples})


TABS = ["Overview", "Working", "Failed", "Queues", "Workers", "Delayed", "Schedule", "Stats"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # Only for this module: its driver has threads, and later tests fork and send signals.
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("no chromium here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, site: str) -> Iterator[Any]:
    """A page; the test fails if the browser reports an error or sends a request elsewhere."""
    context = browser.new_context(base_url=site)
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda sent: None if sent.url.startswith(site) else errors.append(f"request {sent.url}"),
    )
    yield page
    context.close()
    # Tests cause these on purpose: 403 for an old token, 404 for an object that was removed.
    expected = ("status of 403", "status of 404")
    assert [error for error in errors if not any(text in error for text in expected)] == []


@pytest.fixture
def filled(resq: Any, second: Any) -> None:
    for number in range(7):
        resq.push("mail", {"class": "app.mail.Welcome", "args": [number, {"to": "ann@example"}]})
    second.push("images", {"class": "app.images.Resize", "args": ["cat.png", 640]})
    second.push("critical", {"class": "app.Pay", "args": []})
    fail(resq.redis, error="no such address", payload={"class": "app.mail.Welcome", "args": [1]})
    fail(second.redis, error="disk full", queue="images", exception="OSError")
    for resource, pid in ((resq, 11), (second, 12)):
        worker = f"web{pid}:{pid}:mail,images"
        resource.store.workers.register(worker, "1795435269")
        resource.store.workers.beat([worker])
        resource.store.mark_in_flight(
            worker, "mail", "2026-11-23T12:01:09Z", b'{"class":"app.Pay","args":[1]}'
        )
    second.set_schedule("night", {"cron": "0 3 * * *", "class": "app.Clean", "queue": "low"})


def test_every_tab_opens_from_the_overview(page, filled):
    page.goto("/overview")

    for tab in TABS:
        page.get_by_role("link", name=tab, exact=True).first.click()
        until(lambda: page.locator("header [aria-current=page]").inner_text() == tab)  # noqa: B023
        assert page.locator("h1").count() == 1


def test_a_retry_on_the_second_server_is_reported_on_the_page(page, filled, resq, second):
    page.goto("/failed/?server=two")
    page.get_by_role("button", name="Retry", exact=True).click()

    assert page.get_by_role("status").inner_text() == "Retried 1 failure."
    assert second.redis.llen("resque:failed") == 0
    assert resq.redis.llen("resque:failed") == 1


def test_a_filter_narrows_and_delete_asks_first(page, filled, resq, second):
    page.goto("/failed/")
    page.get_by_label("Text").fill("disk")
    page.get_by_role("button", name="Filter").click()
    until(lambda: page.locator("article").count() == 1)

    page.get_by_role("button", name="Delete all that match").click()
    assert second.redis.llen("resque:failed") == 1
    page.get_by_role("button", name="Yes, do it").click()

    assert page.get_by_role("status").inner_text() == "Deleted 1 failure."
    assert [r.redis.llen("resque:failed") for r in (resq, second)] == [1, 0]


def test_a_failure_can_be_retried_at_its_own_address(page, filled, second):
    page.goto("/failed/?server=two")
    page.locator("article a").first.click()
    until(lambda: page.locator("h1").inner_text() == "A failure")
    page.get_by_role("button", name="Retry", exact=True).click()

    assert page.get_by_role("status").inner_text() == "Retried 1 failure."
    assert second.redis.llen("resque:failed") == 0
    page.go_back()
    page.reload()
    assert "no longer" in page.locator(".error").inner_text()


def test_kinds_of_failures_and_lists_filter_the_page(page, filled, second):
    second.store.failed.push_for_queue("slow", b'{"error":"in a list of its own"}')
    page.goto("/failed/")
    page.get_by_role("link", name="OSError (1)").click()
    until(lambda: page.locator("article").count() == 1)
    page.get_by_role("link", name="slow_failed of two (1)").click()

    until(lambda: page.locator("h1").inner_text() == "1 failed jobs in slow_failed")
    assert "in a list of its own" in page.locator("article").inner_text()


def test_charts_show_the_largest_queues_or_one(browser, serve, resq, second, filled):
    site = serve(create_app([f"one={resq.dsn}", f"two={second.dsn}"], sample=False))
    context = browser.new_context(base_url=site)
    page = context.new_page()
    page.route("**/api/samples*", sampled)
    both = ["images: 12", "mail: 62"]
    for path, lines, legend in (("/overview", 5, both), ("/queues/mail/", 1, ["mail: 62"])):
        page.goto(path, wait_until="networkidle")
        assert page.locator(".chart path").count() == lines
        assert page.locator(".legend li").all_inner_texts() == legend
    context.close()


def test_an_expired_token_is_reported_and_changes_nothing(page, filled, resq):
    page.goto("/failed/?server=one")
    page.locator("[name=csrf]").evaluate_all("all => all.forEach(one => one.value = '1.old')")
    page.get_by_role("button", name="Retry", exact=True).click()

    assert "open too long" in page.locator(".error").inner_text()
    assert resq.redis.llen("resque:failed") == 1


def test_the_overview_updates_until_it_is_paused(page, filled, resq):
    page.goto("/overview")
    cell = page.locator("tr", has_text="mail").first.locator(".number")
    assert cell.inner_text() == "7"

    resq.push("mail", {"class": "A", "args": []})
    page.get_by_text("10 pending jobs").wait_for()
    page.get_by_role("button", name="Pause live").click()

    assert page.get_by_role("button", name="Go live").get_attribute("aria-pressed") == "false"


@pytest.mark.parametrize("path", ["/failed/", "/workers/"])
def test_a_removed_object_is_reported_once_and_not_polled_again(page, filled, second, path):
    page.goto(f"{path}?server=two")
    page.locator("main a[href*='server=two']").last.click()
    until(lambda: page.locator("h1").inner_text() not in ("1 failed jobs", "1 workers"))
    page.mouse.move(0, 0)
    second.redis.delete("resque:failed", "resque:workers")
    page.locator(".error").wait_for()
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))

    # Two updates of another tab, which still polls: this one would have polled twice, too.
    other = page.context.new_page()
    other.goto("/overview")
    for number in (9, 10):
        second.push("critical", {"class": "app.Pay", "args": []})
        other.get_by_text(f"{number + 1} pending jobs").wait_for()

    assert asked == []
    assert "no longer" in page.locator(".error").inner_text() or path == "/workers/"
    assert page.locator("main button").count() == 0


def test_a_notice_and_a_server_that_is_down_are_announced_once(browser, serve, resq, filled):
    gone = free_port()
    site = serve(create_app([f"one={resq.dsn}", f"gone=127.0.0.1:{gone}"], sample=False))
    context = browser.new_context(base_url=site)
    page = context.new_page()
    page.goto("/failed/?server=one")
    page.get_by_role("button", name="Retry", exact=True).click()
    assert page.get_by_role("status").inner_text() == "Retried 1 failure."
    page.goto("/overview")
    assert "gone is down" in page.get_by_role("alert").inner_text()
    page.evaluate(
        """() => {
            window.changes = 0;
            const seen = new MutationObserver((all) => { window.changes += all.length; });
            const deep = {childList: true, subtree: true};
            for (const region of document.querySelectorAll("[role=alert], [role=status]"))
                seen.observe(region, deep);
        }"""
    )
    for number in (9, 10):
        resq.push("mail", {"class": "A", "args": []})
        page.get_by_text(f"{number} pending jobs").wait_for()

    assert page.locator("[role=alert], [role=status]").count() == 2
    assert page.evaluate("window.changes") == 0
    assert "gone is down" in page.get_by_role("alert").inner_text()
    context.close()


def test_dark_mode_is_dark_and_a_phone_needs_no_horizontal_scrolling(browser, site, filled):
    context = browser.new_context(
        base_url=site, color_scheme="dark", viewport={"width": 360, "height": 740}
    )
    page = context.new_page()
    failure = page.request.get("/api/failed").json()["rows"][0]["path"]
    paths = ["/overview", "/working/", "/failed/", f"/failed/{failure}", "/queues/", "/workers/"]
    paths += ["/queues/mail/", "/schedule/", "/delayed/", "/stats/resque", "/stats/keys"]
    for path in paths:
        page.goto(path)
        background = page.evaluate(
            "getComputedStyle(document.querySelector('main')).backgroundColor"
        )
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")

        assert background == "rgb(27, 27, 31)"
        assert wide <= 0, path
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_accessibility_violation(browser, site, filled, scheme):
    if not AXE.exists():
        pytest.skip("no axe-core: npm install --prefix tests/neighbours")
    # Read here: playwright reads a path in a thread that outlives the test.
    axe = AXE.read_text("utf-8")
    context = browser.new_context(base_url=site, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    paths = ["/overview", "/working/", "/failed/", "/queues/", "/queues/mail/", "/workers/"]
    paths.append(f"/failed/{page.request.get('/api/failed').json()['rows'][0]['path']}")
    for path in [*paths, "/delayed/", "/schedule/", "/stats/resque", "/stats/keys"]:
        page.goto(path)
        page.add_script_tag(content=axe)
        violations = page.evaluate("axe.run()")["violations"]

        summary = [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in violations]
        assert summary == [], path
    context.close()


def test_pictures_of_the_page(browser, serve, resq, second, filled):
    folder = os.environ.get("PYRES_SCREENSHOTS")
    if not folder:
        pytest.skip("PYRES_SCREENSHOTS is not set to a folder")
    app = create_app([f"mail-1=127.0.0.1:{resq.port}", f"shop-2=127.0.0.1:{second.port}"])
    site = serve(app)
    for number in range(40):
        second.push("images", {"class": "app.images.Resize", "args": [f"{number}.png", 640]})
    for name, path, scheme, width in (
        ("overview", "/overview", "light", 1100),
        ("failed-dark", "/failed/", "dark", 1100),
        ("queue", "/queues/images/", "light", 1100),
        ("schedule", "/schedule/", "light", 1100),
        ("workers-phone", "/workers/", "light", 390),
        ("failed-phone", "/failed/", "dark", 390),
    ):
        context = browser.new_context(
            base_url=site, color_scheme=scheme, viewport={"width": width, "height": 800}
        )
        page = context.new_page()
        page.route("**/api/samples*", sampled)
        page.goto(path, wait_until="networkidle")
        page.screenshot(path=f"{folder}/web-{name}.png")
        context.close()
