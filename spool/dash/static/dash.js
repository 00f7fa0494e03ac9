// Keeps a page up to date: when the server says that something is new, the page is asked for again and the
// parts marked data-live are replaced where they differ. Without it every page works, and is as of its loading.
"use strict";

const PAUSE = 1000; // ms between two updates at least
let wanted = false;
let busy = false;

function fresh(found) {
  for (const part of found.querySelectorAll("[data-live]")) {
    const here = document.getElementById(part.id);
    if (!here || here.innerHTML === part.innerHTML) continue;
    const inside = here.contains(document.activeElement);
    if (inside && /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) continue;
    const open = [...here.querySelectorAll("details")].map((one) => one.open);
    const href = inside ? document.activeElement.getAttribute("href") : null;
    here.innerHTML = part.innerHTML;
    here.querySelectorAll("details").forEach((one, at) => { one.open = open[at] || false; });
    if (href) here.querySelector(`a[href="${CSS.escape(href)}"]`)?.focus({ preventScroll: true });
  }
}

async function update() {
  if (busy || document.hidden || location.pathname === "/act") { wanted = true; return; }
  busy = true;
  wanted = false;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.ok) fresh(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch { /* the next signal tries again */ }
  setTimeout(() => { busy = false; if (wanted) update(); }, PAUSE);
}

function listen() {
  const seen = document.documentElement.dataset.version;
  const signals = new EventSource("/changes");
  signals.onmessage = (event) => { if (event.data !== seen || wanted) update(); };
  signals.onerror = () => document.body.classList.add("away");
  signals.onopen = () => document.body.classList.remove("away");
  document.addEventListener("visibilitychange", () => { if (!document.hidden) update(); });
  addEventListener("pagehide", () => signals.close());
}

async function follow(place) {
  let next = 0;
  place.textContent = "";
  for (;;) {
    let part = "";
    try {
      const answer = await fetch(`${place.dataset.log}?from=${next}`);
      if (!answer.ok) return;
      part = await answer.text();
      next = Number(answer.headers.get("X-Next"));
    } catch { /* again in a moment */ }
    if (part) {
      const atEnd = place.scrollTop + place.clientHeight >= place.scrollHeight - 4;
      place.append(part);
      if (atEnd) place.scrollTop = place.scrollHeight;
      continue;
    }
    await new Promise((done) => setTimeout(done, PAUSE));
  }
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const pages = document.querySelectorAll("nav a");
  const rows = [...document.querySelectorAll("main tbody tr")].filter((row) => row.querySelector("a"));
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  if (event.key >= "1" && event.key <= String(pages.length)) pages[event.key - 1].click();
  else if (event.key === "/") document.querySelector("main input:not([type=hidden])")?.focus();
  else if (event.key === "j") rows[Math.min(at + 1, rows.length - 1)]?.querySelector("a").focus();
  else if (event.key === "k") rows[Math.max(at - 1, 0)]?.querySelector("a").focus();
  else return;
  event.preventDefault();
}

document.addEventListener("keydown", keys);
const log = document.getElementById("log");
if (log) follow(log);
listen();
