"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const form = $("filters"), text = $("text"), image = $("image"), cause = $("cause"), shown = $("shown");
  const boxes = [...form.querySelectorAll("input[name=verdict]")];
  const results = [...document.querySelectorAll("details.result")];
  const chips = [...document.querySelectorAll(".chip")];
  const rows = [...document.querySelectorAll(".matrix tbody tr")];
  const visible = () => results.filter((r) => !r.hidden);

  // The address keeps the filters, so that a link shows what its sender saw.
  const read = () => {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (!["text", "image", "cause", "verdict"].some((name) => wanted.has(name))) return;
    text.value = wanted.get("text") ?? "";
    image.value = wanted.get("image") ?? "";
    cause.value = wanted.get("cause") ?? "";
    const verdicts = wanted.get("verdict")?.split(",");
    for (const box of boxes) box.checked = !verdicts || verdicts.includes(box.value);
  };
  const write = () => {
    const chosen = new URLSearchParams();
    if (text.value) chosen.set("text", text.value);
    if (image.value) chosen.set("image", image.value);
    if (cause.value) chosen.set("cause", cause.value);
    if (boxes.some((box) => !box.checked)) chosen.set("verdict", boxes.filter((b) => b.checked).map((b) => b.value).join(","));
    history.replaceState(null, "", "#" + chosen);
  };
  const apply = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const verdicts = new Set(boxes.filter((b) => b.checked).map((b) => b.value));
    for (const item of [...results, ...chips]) {
      const d = item.dataset;
      item.hidden = !(verdicts.has(d.verdict) && (!image.value || d.image === image.value)
        && (!cause.value || d.cause.split(" ").includes(cause.value)) && words.every((w) => d.text.includes(w)));
    }
    for (const row of rows) row.hidden = !row.querySelector(".chip:not([hidden])");
    shown.textContent = `${visible().length} of ${results.length} results`;
  };
  const step = (by) => {
    const all = visible().map((r) => r.querySelector("summary"));
    const now = all.indexOf(document.activeElement);
    const next = all[now < 0 ? (by > 0 ? 0 : all.length - 1) : now + by];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  };

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { apply(); write(); });
  $("open").addEventListener("click", () => { for (const r of visible()) r.open = true; });
  $("close").addEventListener("click", () => { for (const r of visible()) r.open = false; });
  const chosen = document.documentElement.dataset, system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (chosen.theme ? chosen.theme === "dark" : system.matches);
  const pressed = () => $("theme").setAttribute("aria-pressed", String(isDark()));
  $("theme").addEventListener("click", () => {
    chosen.theme = isDark() ? "light" : "dark";
    pressed();
  });
  system.addEventListener("change", pressed);
  pressed();
  for (const chip of chips) chip.addEventListener("click", () => {
    const target = $(chip.hash.slice(1));
    if (target) { target.open = true; target.querySelector("summary").focus(); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
    if (event.key === "/") { event.preventDefault(); text.focus(); }
    else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
  });
  addEventListener("hashchange", () => { read(); apply(); });
  const goal = location.hash.startsWith("#result-") && $(location.hash.slice(1));
  if (goal) goal.open = true;
  read();
  apply();
})();
