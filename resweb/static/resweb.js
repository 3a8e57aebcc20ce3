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
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const draw = (chart, samples) => {
    const field = chart.dataset.field;
    let points = samples.map((one) => [one.at, one[field]]);
    if (chart.dataset.rate) points = points.slice(1).map((point, at) =>
      [point[0], Math.max(0, point[1] - points[at][1]) / Math.max(1, point[0] - points[at][0])]);
    chart.setAttribute("viewBox", "0 0 300 110");
    chart.replaceChildren();
    if (points.length < 2) { chart.append(svg("text", { x: 4, y: 60 }, "collecting samples…")); return; }
    const most = Math.max(...points.map((point) => point[1]), 1e-9);
    const from = points[0][0], width = Math.max(1, points.at(-1)[0] - from);
    const path = points.map(([at, value], index) =>
      `${index ? "L" : "M"}${((at - from) / width * 300).toFixed(1)} ${(104 - value / most * 86).toFixed(1)}`);
    const last = points.at(-1)[1];
    chart.append(svg("path", { d: path.join("") }),
      svg("text", { x: 4, y: 11 }, `now ${+last.toFixed(2)} · most ${+(most < 1e-6 ? 0 : most).toFixed(2)}`));
  };
  let samples = [];
  const drawAll = () => document.querySelectorAll(".chart").forEach((one) => draw(one, samples));
  const charts = async () => {
    if (!document.querySelector(".chart")) return;
    const query = new URLSearchParams({ seconds: span, server: body.dataset.server });
    const answer = await fetch(`${base}/api/samples?${query}`);
    if (answer.ok) { samples = (await answer.json()).samples; drawAll(); }
  };
  document.addEventListener("click", (event) => {
    const picked = event.target.closest("[data-span]");
    if (picked) { span = Number(picked.dataset.span); keep("span", span); charts(); }
  });

  let on = read("live") !== "off";
  const main = document.getElementById("main");
  const label = () => {
    live.textContent = on ? "❚❚ Pause live" : "▶ Go live";
    live.setAttribute("aria-pressed", String(on));
  };
  live.addEventListener("click", () => { on = !on; keep("live", on ? "on" : "off"); label(); });
  // Nothing may move while someone points at it, types, ticks or reads an opened backtrace.
  const busy = () => main.querySelector("table:hover, article:hover, form:hover, details[open], :checked:not(option)")
    || (main.contains(document.activeElement) && document.activeElement !== main)
    || String(getSelection()).length || document.hidden || location.search.includes("start=");
  const refresh = async () => {
    if (!on || busy() || document.querySelector(".trouble, [name=confirmed]")) return;
    const answer = await fetch(location.href);
    if (!answer.ok || busy()) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
    const said = main.querySelector(".said");
    if (said && !fresh.querySelector(".said")) fresh.prepend(said);
    main.replaceChildren(...fresh.childNodes);
    localTimes(); drawAll();
  };
  const every = (seconds, act) => setInterval(() => act().catch(() => { /* the next one may come through */ }), seconds * 1000);
  label(); localTimes();
  charts().catch(() => {});
  every(2, refresh); every(10, charts);
})();
