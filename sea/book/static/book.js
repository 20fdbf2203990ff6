"use strict";
// The switch between light and dark, the search, and boxes that scroll, for the keyboard.
(() => {
  const root = document.currentScript.dataset.root;
  const page = document.documentElement;
  const $ = (id) => document.getElementById(id);

  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (page.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const button = $("theme");
  const label = () => { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Switch to ${dark() ? "light" : "dark"} colours`); };
  button.hidden = false;
  label();
  system.addEventListener("change", label);
  button.addEventListener("click", () => {
    page.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("theme", page.dataset.theme); } catch (error) { /* a browser that keeps nothing */ }
    label();
  });

  if (window.matchMedia("(max-width: 50rem)").matches) $("contents").open = false;
  const current = document.querySelector(".contents [aria-current]");
  if (current && $("contents").open) $("contents").scrollTop = current.offsetTop - $("contents").clientHeight / 3;

  // a run may lie in a list that is closed
  const open = () => {
    const target = location.hash && $(decodeURIComponent(location.hash.slice(1)));
    const closed = target && target.closest("details:not([open])");
    if (closed) { closed.open = true; target.scrollIntoView(); }
  };
  window.addEventListener("hashchange", open);
  open();

  // what scrolls can be reached by the keyboard
  const reach = () => document.querySelectorAll(".scroll").forEach((box) => {
    const needed = box.scrollWidth > box.clientWidth + 1 || (box.scrollHeight > box.clientHeight + 1 && box.classList.contains("table"));
    if (needed) { box.tabIndex = 0; box.setAttribute("role", "group"); box.setAttribute("aria-label", "scrolls sideways"); }
    else { box.removeAttribute("tabindex"); box.removeAttribute("role"); box.removeAttribute("aria-label"); }
  });
  reach();
  window.addEventListener("resize", reach);
  window.addEventListener("load", reach);
  document.addEventListener("toggle", reach, true);

  let loaded;
  const index = () => loaded ??= new Promise((resolve) => {
    const script = document.createElement("script"); // no fetch: a browser refuses it on file://
    script.src = `${root}_static/search.js`;
    script.onload = () => resolve(window.bookIndex.map((entry) => [...entry, entry.slice(1).join(" ").toLowerCase()]));
    document.head.append(script);
  });
  const found = (entries, words) => entries
    .filter((entry) => words.every((word) => entry[4].includes(word)))
    .map((entry) => [words.filter((word) => `${entry[1]} ${entry[2]}`.toLowerCase().includes(word)).length, entry])
    .sort((one, other) => other[0] - one[0])
    .map(([, entry]) => entry);
  const snippet = (text, word) => {
    const at = text.toLowerCase().indexOf(word);
    const part = document.createElement("p");
    if (at < 0) { part.textContent = text.slice(0, 120); return part; }
    const mark = document.createElement("mark");
    mark.textContent = text.slice(at, at + word.length);
    part.append(text.slice(Math.max(0, at - 60), at), mark, text.slice(at + word.length, at + 90));
    return part;
  };
  const show = (hits, words) => {
    $("count").textContent = hits.length ? `${hits.length} places${hits.length > 30 ? ", the first 30" : ""}` : "Nothing found";
    $("hits").replaceChildren(...hits.slice(0, 30).map(([address, title, section, text]) => {
      const item = document.createElement("li"), link = document.createElement("a");
      link.href = root + address;
      link.textContent = section && section !== title ? `${title}: ${section}` : title;
      item.append(link, snippet(text.trim(), words[0]));
      return item;
    }));
    $("results").hidden = false;
  };
  const search = async () => {
    const words = $("query").value.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length === 0) { $("results").hidden = true; return; }
    const hits = found(await index(), words);
    show(hits, words);
  };
  $("query").addEventListener("focus", index);
  $("query").addEventListener("input", search);
  $("search").addEventListener("submit", (event) => { event.preventDefault(); const first = $("hits").querySelector("a"); if (first) first.focus(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") { $("results").hidden = true; } });
  document.addEventListener("click", (event) => { if (!$("search").contains(event.target)) $("results").hidden = true; });
})();
