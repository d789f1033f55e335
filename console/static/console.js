// Brings a page up to date while it is looked at. Without it every page works, and is as old as its last loading.
"use strict";
(() => {
  const live = document.querySelector("[data-live]");
  const button = document.querySelector("[data-pause]");
  if (!live || !button || !window.EventSource) return;
  const kept = "dpj-paused";
  const said = document.querySelector("[data-said]");
  let source = null;

  const stop = () => {
    if (source) source.close();
    source = null;
  };
  const start = () => {
    stop();
    source = new EventSource(live.dataset.live);
    source.addEventListener("page", (event) => {
      // What somebody reads with the keyboard, or has open, is not taken from under him.
      const open = new Set([...live.querySelectorAll("details[open][id]")].map((one) => one.id));
      const focused = live.contains(document.activeElement) ? document.activeElement.id : "";
      if (live.contains(document.activeElement) && !focused) return;
      live.innerHTML = event.data;
      for (const id of open) {
        const found = document.getElementById(id);
        if (found) found.open = true;
      }
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    });
    source.addEventListener("over", () => {
      stop();
      location.reload();
    });
  };
  const show = (paused) => {
    button.textContent = paused ? button.dataset.resume : button.dataset.pause;
    if (said) said.textContent = paused ? said.dataset.paused : said.dataset.running;
    paused ? stop() : start();
  };
  let paused = sessionStorage.getItem(kept) === "yes";
  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    sessionStorage.setItem(kept, paused ? "yes" : "no");
    show(paused);
  });
  document.addEventListener("visibilitychange", () => {
    if (!paused) document.hidden ? stop() : start();
  });
  window.addEventListener("pagehide", stop);
  show(paused);
})();
