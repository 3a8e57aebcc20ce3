"use strict";
(() => {
  const body = document.body, base = body.dataset.base, root = document.documentElement;
  const live = document.getElementById("live"), theme = document.getElementById("theme");
  const read = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const keep = (name, value) => { try { localStorage.setItem(name, value); } catch { /* private */ } };
  if (read("theme")) root.dataset.theme = read("theme");
  theme.hidden = live.hidden = false;
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    keep("theme", root.dataset.theme);
  });

  const localTimes = () => document.querySelectorAll("time").forEach((time) => {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime())) time.title = `${at.toLocaleString()} (${time.dateTime})`;
  });

  let span = Number(read("span")) || 3600;
  const svg = (name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const rates = (points) => points.slice(1).map((point, at) =>
    [point[0], Math.max(0, point[1] - points[at][1]) / Math.max(1, point[0] - points[at][0])]);
  const format = (number) => number < 1e-6 ? "0" : (+number.toFixed(2)).toLocaleString();
  const draw = (chart, samples) => {
    const field = chart.dataset.field;
    // One line, or one per queue, by name.
    const names = field === "queues" ? Object.keys(samples.at(-1)?.queues ?? {}) : [field];
    const lines = names.map((name) => {
      const points = samples.map((sample) =>
        [sample.at, field === "queues" ? sample.queues[name] : sample[field]]);
      return chart.dataset.rate ? rates(points) : points;
    });
    chart.setAttribute("viewBox", "0 0 300 110");
    chart.replaceChildren();
    const legend = chart.parentElement.querySelector(".legend");
    legend?.replaceChildren();
    if (samples.length < 3) { chart.append(svg("text", { x: 4, y: 60 }, "collecting samples…")); return; }
    const max = Math.max(...lines.flat().map((point) => point[1]), 1e-9);
    const from = samples[0].at, width = Math.max(1, samples.at(-1).at - from);
    lines.forEach((points, line) => {
      const path = points.map(([at, value], index) =>
        `${index ? "L" : "M"}${((at - from) / width * 300).toFixed(1)} ${(104 - value / max * 86).toFixed(1)}`);
      chart.append(svg("path", { d: path.join(""), class: `line${line}` }));
      if (!legend) return;
      const item = document.createElement("li");
      item.className = `line${line}`;
      item.textContent = `${names[line]}: ${format(points.at(-1)[1])}`;
      legend.append(item);
    });
    const now = field === "queues" ? "" : `now ${format(lines[0]?.at(-1)[1] ?? 0)} · `;
    chart.append(svg("text", { x: 4, y: 11 }, `${now}max ${format(max)}`));
  };
  let samples = [];
  const drawAll = () => document.querySelectorAll(".chart").forEach((chart) => draw(chart, samples));
  const charts = async () => {
    if (!document.querySelector(".chart") || document.querySelector(".error")) return;
    const queue = document.querySelector("[data-queue]")?.dataset.queue ?? "";
    const query = new URLSearchParams({ seconds: span, server: body.dataset.server, queue });
    const answer = await fetch(`${base}/api/samples?${query}`);
    if (answer.ok) { samples = (await answer.json()).samples; drawAll(); }
  };
  document.addEventListener("click", (event) => {
    const picked = event.target.closest("[data-span]");
    if (picked) { span = Number(picked.dataset.span); keep("span", span); charts(); }
  });

  let on = read("live") !== "off";
  const main = document.getElementById("main"), content = document.getElementById("content");
  const label = () => {
    live.textContent = on ? "❚❚ Pause live" : "▶ Go live";
    live.setAttribute("aria-pressed", String(on));
  };
  live.addEventListener("click", () => { on = !on; keep("live", on ? "on" : "off"); label(); });
  // No update while the user points at something, types, selects, or reads an opened backtrace.
  const busy = () => main.querySelector("table:hover, article:hover, form:hover, details[open], :checked:not(option)")
    || (main.contains(document.activeElement) && document.activeElement !== main)
    || String(getSelection()).length || document.hidden || location.search.includes("start=");
  const refresh = async () => {
    if (!on || busy() || document.querySelector(".error, [name=confirmed]")) return;
    // By this header the server knows that this is a poll, and limits its search.
    const where = content.querySelector("[data-poll]")?.dataset.poll ?? location.href;
    const answer = await fetch(where, { headers: { "X-Resweb-Poll": "1" } });
    // A page that no longer exists, or is no longer allowed, is reported once and not polled again.
    const over = answer.status >= 400 && answer.status < 500 && answer.status !== 429;
    if (!over && (!answer.ok || busy())) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    announce(fresh, "down");
    if (fresh.getElementById("notice")?.textContent) announce(fresh, "notice");
    content.replaceChildren(...(fresh.getElementById("content")?.childNodes ?? [ended(answer.status)]));
    localTimes(); drawAll();
  };
  // A screen reader reads each change of these aloud, so they change only with their text.
  const announce = (fresh, id) => {
    const current = document.getElementById(id), update = fresh.getElementById(id);
    if (update && update.textContent !== current.textContent) current.replaceChildren(...update.childNodes);
  };
  const ended = (status) => {
    const element = document.createElement("p");
    element.className = "error";
    element.textContent = `This page is no longer available (${status}). Reload it.`;
    return element;
  };
  const every = (seconds, act) => setInterval(() => act().catch(() => { /* the next one may succeed */ }), seconds * 1000);
  label(); localTimes();
  charts().catch(() => {});
  every(2, refresh); every(10, charts);
})();
