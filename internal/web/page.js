"use strict";
// Without this script the page reloads itself. With it, it asks for itself and takes over what has changed: scrolling, the focus and
// an order of the table stay.
const interval = 1000 * document.body.dataset.interval;
let timer, asking = 0;

async function refresh() {
  clearTimeout(timer);
  const turn = ++asking;
  let failure = "";
  try {
    const answer = await fetch(location.href, {signal: AbortSignal.timeout(2 * interval)});
    if (!answer.ok) throw new Error(answer.status + " " + answer.statusText);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (turn !== asking) return; // another request is on its way
    if (!getSelection().toString()) take(next);
  } catch (error) {
    failure = "Out of date: the daemon does not answer (" + error.message + ")";
  }
  if (turn !== asking) return;
  document.getElementById("stale").textContent = failure;
  timer = setTimeout(refresh, interval);
}

function take(next) {
  const styleOf = (page) => page.querySelector("style").textContent;
  if (styleOf(next) !== styleOf(document)) return location.reload(); // of another version of twill
  const focus = document.activeElement && document.activeElement.id;
  const left = document.getElementById("table")?.scrollLeft;
  document.title = next.title;
  document.getElementById("live").replaceWith(document.adoptNode(next.getElementById("live")));
  const table = document.getElementById("table");
  if (table && left) table.scrollLeft = left;
  if (focus) document.getElementById(focus)?.focus({preventScroll: true});
}

// A link to another order of this page only exchanges the table.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || !link.getAttribute("href").startsWith("?") || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  history.replaceState(null, "", link.href);
  link.focus({preventScroll: true});
  refresh();
});
document.addEventListener("visibilitychange", () => document.hidden ? clearTimeout(timer) : refresh());
timer = setTimeout(refresh, Math.min(interval, 2500)); // soon, as rates take two looks
