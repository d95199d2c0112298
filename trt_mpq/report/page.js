"use strict";
(() => {
  const root = document.documentElement;
  const darkSystem = matchMedia("(prefers-color-scheme: dark)");

  // Theme: the address remembers it (#dark, #light), because a file on disk has no other memory.
  const toggle = document.getElementById("theme");
  const isDark = () => (root.dataset.theme || (darkSystem.matches ? "dark" : "light")) === "dark";
  const nameToggle = () => { toggle.textContent = isDark() ? "Light" : "Dark"; };
  const readTheme = () => {
    const wish = location.hash.slice(1);
    if (wish === "dark" || wish === "light") root.dataset.theme = wish;
    nameToggle();
  };
  toggle.hidden = false;
  toggle.addEventListener("click", () => { location.replace(isDark() ? "#light" : "#dark"); });
  addEventListener("hashchange", readTheme);
  darkSystem.addEventListener("change", nameToggle);
  readTheme();

  // Hover: a note beside the pointer, and the same group lit in every chart and in the table.
  const tip = document.getElementById("tip");
  let lit = [];
  const light = (group) => {
    lit.forEach((mark) => mark.classList.remove("lit"));
    lit = group === undefined ? [] : [...document.querySelectorAll(`[data-group="${CSS.escape(group)}"]`)];
    lit.forEach((mark) => mark.classList.add("lit"));
  };
  const say = (text) => {
    tip.replaceChildren(...text.split("\n").map((line, i) => {
      const part = document.createElement(i ? "span" : "b");
      part.textContent = line;
      return part;
    }));
    tip.hidden = false;
  };
  const place = (event) => {
    const box = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, innerWidth - box.width - 12);
    const below = event.clientY + 18;
    const top = below + box.height > innerHeight ? event.clientY - box.height - 14 : below;
    tip.style.left = `${Math.max(left, 12)}px`;
    tip.style.top = `${Math.max(top, 12)}px`;
  };
  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest("[data-tip]");
    light(event.target.closest("[data-group]")?.dataset.group);
    if (mark) say(mark.dataset.tip);
    else tip.hidden = true;
  });
  document.addEventListener("pointermove", (event) => { if (!tip.hidden) place(event); });
  document.addEventListener("pointerleave", () => { tip.hidden = true; light(); });

  // Sorting: missing values stay last whichever way.
  const compare = (a, b) => (a !== "" && b !== "" && !isNaN(a) && !isNaN(b) ? a - b : a.localeCompare(b));
  const sortBy = (heading) => {
    const column = heading.cellIndex;
    const body = heading.closest("table").tBodies[0];
    const down = heading.getAttribute("aria-sort") === "ascending";
    const value = (row) => row.cells[column].dataset.value;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return down ? compare(y, x) : compare(x, y);
    });
    heading.parentNode.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  };
  document.querySelectorAll("th[data-sort]").forEach((heading) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortBy(heading));
    heading.append(button);
  });

  // Commands: a button that copies, or selects where a page may not write to the clipboard.
  document.querySelectorAll("pre.command").forEach((command) => {
    const box = document.createElement("div");
    box.className = "copyable";
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    const select = () => {
      getSelection().selectAllChildren(command);
      button.textContent = "Selected";
    };
    button.addEventListener("click", () => {
      if (!navigator.clipboard) return select();
      navigator.clipboard.writeText(command.textContent).then(() => { button.textContent = "Copied"; }, select);
    });
    command.replaceWith(box);
    box.append(command, button);
  });

  root.dataset.ready = "";
})();
