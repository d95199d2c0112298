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

  // Tables: words and a format that a row must hold, and the rows as CSV.
  const save = (name, blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const csv = (table) => {
    const line = (cells) => cells.map((cell) => quoted((cell.dataset.value ?? cell.textContent).trim())).join(",");
    const heads = [...table.tHead.rows[0].cells].map((cell) => quoted(cell.textContent.trim())).join(",");
    return [heads, ...[...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => line([...row.cells]))].join("\n");
  };
  document.querySelectorAll(".tools").forEach((tools) => {
    const table = document.getElementById(tools.dataset.table);
    const rows = [...table.tBodies[0].rows];
    const find = tools.querySelector("input"), format = tools.querySelector("select");
    const filter = () => {
      const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((row) => {
        const text = row.textContent.toLowerCase();
        const fits = !format?.value || row.querySelector(`.chip.${format.value}`);
        row.hidden = !(fits && words.every((word) => text.includes(word)));
      });
      tools.querySelector("output").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
    };
    find.addEventListener("input", filter);
    format?.addEventListener("change", filter);
    tools.querySelector(".csv").addEventListener("click", () => {
      save(`${tools.dataset.table}.csv`, new Blob([csv(table)], {type: "text/csv"}));
    });
    tools.hidden = false;
    filter();
  });

  // Pictures: as PNG, with the styles of the page inside and twice as many pixels.
  const DRAWN = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "opacity",
    "font", "text-anchor", "paint-order", "shape-rendering"];
  const picture = (svg, name) => {
    const {width, height} = svg.getBoundingClientRect(), air = 72;
    const copy = svg.cloneNode(true);
    const [from, to] = [svg, copy].map((one) => [one, ...one.querySelectorAll("*")]);
    from.forEach((node, i) => {
      const style = getComputedStyle(node);
      DRAWN.forEach((key) => to[i].style.setProperty(key, style.getPropertyValue(key)));
    });
    const set = (node, values) => Object.entries(values).forEach(([key, value]) => node.setAttribute(key, value));
    set(copy, {x: air, y: 20, width, height, overflow: "visible"});
    const sheet = document.createElementNS(svg.namespaceURI, "svg");
    set(sheet, {width: width + 2 * air, height: height + 40});
    const ground = sheet.appendChild(document.createElementNS(svg.namespaceURI, "rect"));
    set(ground, {width: "100%", height: "100%", fill: getComputedStyle(document.body).backgroundColor});
    sheet.append(copy);
    const image = new Image();
    image.addEventListener("load", () => {
      const canvas = document.createElement("canvas");
      Object.assign(canvas, {width: 2 * image.width, height: 2 * image.height});
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => save(`${name}.png`, blob));
    });
    image.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(sheet))}`;
  };
  document.querySelectorAll(".chart").forEach((chart) => {
    const svg = chart.querySelector("svg");
    const title = chart.closest("section").querySelector("h2").textContent;
    const button = document.createElement("button");
    Object.assign(button, {type: "button", className: "small png", textContent: "PNG"});
    button.setAttribute("aria-label", `${title} as PNG`);
    button.addEventListener("click", () => picture(svg, title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")));
    chart.append(button);
  });

  // Commands: a button that copies, or selects where a page may not write to the clipboard.
  const copyable = (command) => {
    const box = document.createElement("div");
    const button = document.createElement("button");
    Object.assign(button, {type: "button", className: "copy", textContent: "Copy"});
    box.className = "copyable";
    button.addEventListener("click", () => {
      const select = () => { getSelection().selectAllChildren(command); button.textContent = "Selected"; };
      if (!navigator.clipboard) return select();
      navigator.clipboard.writeText(command.textContent).then(() => { button.textContent = "Copied"; }, select);
    });
    box.append(command, button);
    return box;
  };
  document.querySelectorAll("pre.command").forEach((command) => {
    if (command.closest(".copyable")) return;
    const place = document.createComment("");
    command.replaceWith(place);
    place.replaceWith(copyable(command));
  });

  // Tables that are wider than their place say so.
  const measure = () => document.querySelectorAll(".scroll").forEach((box) => {
    box.classList.toggle("wide", box.scrollWidth > box.clientWidth + 1);
  });
  addEventListener("resize", measure);
  measure();

  // Plans: one is chosen on the chart or in the list; what it holds is shown, and the command that writes it.
  const choosePlans = ({formats, plans}) => {
    const panel = document.getElementById("choice");
    const names = [...document.querySelectorAll("#groups tbody tr")]
      .sort((a, b) => a.dataset.group - b.dataset.group).map((row) => row.querySelector(".id").textContent);
    const axis = document.getElementById("axis");
    axis?.addEventListener("change", () => document.querySelectorAll("[data-axis]").forEach((chart) => {
      chart.hidden = chart.dataset.axis !== axis.value;
    }));
    const delivered = plans.find((plan) => plan.delivered);
    const formatOf = (plan, group) => formats[plan.codes.charCodeAt(group) - 97];
    const cell = (plan, group) => {
      const part = document.createElement("span");
      const format = formatOf(plan, group);
      part.className = format;
      part.dataset.group = group;
      part.dataset.tip = `${group + 1}. ${names[group]}\n${format.toUpperCase()}`;
      return part;
    };
    const choose = (digest) => {
      const plan = plans.find((one) => one.digest === digest);
      panel.querySelector("select").value = digest;
      document.querySelectorAll("[data-plan]").forEach((mark) => mark.classList.toggle("picked", mark.dataset.plan === digest));
      const figures = [plan.score, plan.verdict, plan.latency, plan.energy, plan.size].filter(Boolean);
      panel.querySelector(".figures").textContent = figures.join(" · ");
      const groups = plan.codes ? names.map((_, group) => group) : [];
      panel.querySelector(".strip").replaceChildren(...groups.map((group) => cell(plan, group)));
      const other = groups.filter((group) => plan.codes[group] !== delivered.codes[group]);
      const listed = other.slice(0, 12).map((group) => `${names[group]} in ${formatOf(plan, group).toUpperCase()}`);
      const more = other.length > listed.length ? ` and ${other.length - listed.length} more` : "";
      panel.querySelector(".difference").textContent = plan.delivered ? "typed.onnx of the run folder holds it."
        : other.length ? `It differs from the plan that is delivered in ${other.length} of ${names.length} groups: ${listed.join(", ")}${more}.`
        : "Its groups run as in the plan that is delivered, which has its own corrections beside.";
      const command = document.createElement("pre");
      Object.assign(command, {className: "command", tabIndex: 0, textContent: `trt-mpq emit RUN_DIR --plan ${plan.digest}`});
      panel.querySelector(".take").replaceChildren(...(plan.delivered ? [] : [copyable(command)]));
    };
    plans.forEach((plan) => {
      panel.querySelector("select").add(new Option(`${plan.title}: ${plan.score}, ${plan.latency}`, plan.digest));
    });
    panel.querySelector("select").addEventListener("change", (event) => choose(event.target.value));
    document.addEventListener("click", (event) => {
      const mark = event.target.closest("[data-plan]");
      if (mark) choose(mark.dataset.plan);
    });
    panel.hidden = false;
    choose(delivered.digest);
  };
  const tried = document.getElementById("plans");
  if (tried) choosePlans(JSON.parse(tried.textContent));

  root.dataset.ready = "";
})();
