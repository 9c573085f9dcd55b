// Every page works without this: it copies commands, refreshes numbers, and sends the playground by Ctrl+Enter.
"use strict";

const REFRESH_MS = 5000;
const REST_MS = 5 * 60_000;
const isSignedIn = document.querySelector("form.viewer") !== null;
let touched = Date.now();

function addCopyButton(block) {
  const command = block.textContent;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  block.append(button);
}

// Asking counts as use of a session, which must end where nobody is: a page that nobody touches asks no more.
function rests() {
  return document.hidden || (isSignedIn && Date.now() - touched > REST_MS);
}

// Replaces what changed of the page's live parts by what the server says now; never where somebody is at work.
async function refresh() {
  if (rests()) return;
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelectorAll("[data-live]");
  const shown = document.querySelectorAll("[data-live]");
  if (fresh.length !== shown.length) return;
  shown.forEach((part, number) => {
    const isBusy = part.contains(document.activeElement);
    if (!isBusy && part.innerHTML !== fresh[number].innerHTML) part.replaceWith(document.adoptNode(fresh[number]));
  });
}

function keepFresh() {
  refresh().catch(() => {}).finally(() => setTimeout(keepFresh, REFRESH_MS));
}

for (const sign of ["keydown", "pointerdown", "pointermove", "wheel"]) {
  document.addEventListener(sign, () => { touched = Date.now(); }, { passive: true });
}
document.querySelectorAll("[data-copy]").forEach(addCopyButton);
document.querySelectorAll("form[data-submit]").forEach((form) => {
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
});
if (document.querySelector("[data-live]")) setTimeout(keepFresh, REFRESH_MS);
