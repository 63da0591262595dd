"use strict";
(() => {
  const PAGE = 20; // examples put on the page at a time
  const $ = (id) => document.getElementById(id);

  function make(tag, className, ...children) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children.filter((c) => c !== null && c !== undefined)); // strings become text nodes
    return node;
  }

  // ---- tables: a click (or Enter) on a column's head sorts by it
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.firstElementChild.addEventListener("click", () => {
        const numeric = column > 0;
        const now = head.getAttribute("aria-sort");
        const up = now ? now !== "ascending" : !numeric; // figures start with the largest
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => {
          const v = row.cells[column].dataset.v;
          return v === "" ? NaN : Number(v);
        };
        const rows = [...table.tBodies[0].rows].sort((a, b) => {
          const x = value(a), y = value(b);
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
          return up ? x - y : y - x;
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  // ---- accuracy against cost
  for (const input of document.querySelectorAll("input[name=cost]")) {
    const show = () => {
      if (!input.checked) return;
      for (const plot of document.querySelectorAll(".plot")) plot.hidden = plot.dataset.cost !== input.value;
    };
    input.addEventListener("change", show);
    show(); // a reloaded page may come back with another choice
  }

  // ---- examples
  if (!$("examples")) return;

  async function unpack() {
    const packed = Uint8Array.from(atob($("data").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  const kind = (row) => (row === null ? "none" : row.v >= 1 ? "right" : row.v > 0 ? "part" : "wrong");
  const word = { none: "missing", right: "right", part: "in part", wrong: "wrong" };

  const filters = {
    all: () => true,
    disagree: (rows) => new Set(rows.filter(Boolean).map((r) => r.v)).size > 1,
    right: (rows) => rows.every((r) => r === null || r.v >= 1),
    wrong: (rows) => rows.every((r) => r === null || r.v <= 0),
    cut: (rows) => rows.some((r) => r !== null && (r.f !== "stop" || r.e)),
  };

  // Thinking may begin in the completion or, put there by the template, at the prompt's end.
  function parts(text, prompt) {
    const open = text.indexOf("<think>"), close = text.lastIndexOf("</think>");
    const given = /<think>\s*$/.test(prompt);
    if (open < 0 && close < 0 && !given) return { before: "", thinking: "", rest: text };
    const start = open < 0 ? 0 : open + 7;
    return {
      before: open > 0 ? text.slice(0, open) : "",
      thinking: text.slice(start, close < start ? undefined : close).trim(),
      rest: close < start ? "" : text.slice(close + 8).trim(),
    };
  }

  function pre(text) {
    const node = make("pre", "", text);
    node.tabIndex = 0; // long text scrolls; the keyboard must reach it
    return node;
  }

  function fold(title, text, open) {
    const node = make("details", "fold", make("summary", "", title), pre(text));
    node.open = Boolean(open);
    return node;
  }

  function side(name, row, data) {
    const mark = make("b", `m ${kind(row)}`);
    mark.title = word[kind(row)];
    const head = make("header", "", mark, make("span", "arm", name));
    const card = make("div", "side", head);
    if (row === null) {
      card.append(make("div", "meta", "no outcome"));
      return card;
    }
    head.append(row.a === "" ? make("span", "answer none-found", "no answer found") : make("span", "answer", row.a));
    if (row.e) card.append(make("div", "error", row.e));
    const { before, thinking, rest } = parts(row.t, data.prompts[row.p]);
    if (before.trim()) card.append(pre(before));
    if (thinking) {
      const count = thinking.split(/\s+/).length.toLocaleString("en");
      card.append(fold(`Thinking, ${count} words`, thinking, !rest));
    }
    if (rest) card.append(pre(rest));
    const meta = make("div", "meta", `${row.n.toLocaleString("en")} tokens, ${row.w.toLocaleString("en")} passes`);
    if (row.v > 0 && row.v < 1) meta.append(`, score ${row.v}`);
    if (row.u) meta.append(", not in the asked-for form");
    if (row.f === "length") meta.append(", ", make("b", "", "hit the token limit"));
    else if (row.f !== "stop") meta.append(`, ${row.f}`);
    card.append(meta);
    if (row.c) {
      const lines = Object.entries(row.c).map(([k, v]) => `${k}: ${v}`).join("\n");
      card.append(fold("Details", lines));
    }
    return card;
  }

  function body(example, data) {
    const rows = example.arms.filter(Boolean);
    const asked = make("div", "asked");
    const distinct = [...new Set(rows.map((r) => r.p))];
    if (distinct.length === 1) asked.append(fold("Prompt", data.prompts[distinct[0]], true));
    else
      for (const p of distinct) {
        const names = data.arms.filter((_, i) => example.arms[i] && example.arms[i].p === p);
        asked.append(fold(`Prompt of ${names.join(", ")}`, data.prompts[p]));
      }
    if (example.ref !== null) asked.append(make("div", "reference", "Reference: ", make("b", "", example.ref)));
    const sides = make("div", "sides", ...data.arms.map((name, i) => side(name, example.arms[i], data)));
    return make("div", "body", asked, sides);
  }

  function item(example, data) {
    const marks = make("span", "marks", ...example.arms.map((row, i) => {
      const mark = make("b", `m ${kind(row)}`);
      mark.title = `${data.arms[i]}: ${word[kind(row)]}`;
      return mark;
    }));
    marks.setAttribute("role", "img");
    marks.setAttribute("aria-label", example.arms.map((r, i) => `${data.arms[i]} ${word[kind(r)]}`).join(", "));
    const id = make("span", "id", example.id);
    id.title = example.id;
    const node = make("details", "ex", make("summary", "", id, make("span", "q", example.q), marks));
    node.addEventListener("toggle", () => {
      if (node.open && node.childElementCount === 1) node.append(body(example, data));
    });
    return node;
  }

  function browse(data) {
    const list = $("list"), more = $("more"), count = $("count"), filter = $("filter"), search = $("search");
    const haystacks = new Map(); // made when first searched
    const haystack = (e) => {
      if (!haystacks.has(e)) {
        const texts = e.arms.filter(Boolean).flatMap((r) => [data.prompts[r.p], r.t, r.a]);
        haystacks.set(e, [e.id, e.ref ?? "", ...new Set(texts)].join("\n").toLowerCase());
      }
      return haystacks.get(e);
    };
    let found = [], shown = 0;

    function extend() {
      const next = found.slice(shown, shown + PAGE);
      list.append(...next.map((e) => item(e, data)));
      shown += next.length;
      more.hidden = shown >= found.length;
    }
    function update() {
      const words = search.value.toLowerCase().trim();
      const keep = filters[filter.value];
      found = data.examples.filter((e) => keep(e.arms) && (!words || haystack(e).includes(words)));
      shown = 0;
      list.replaceChildren();
      count.textContent = `${found.length.toLocaleString("en")} of ${data.examples.length.toLocaleString("en")}`;
      if (!found.length) list.append(make("p", "", "No example fits. Another filter or search may."));
      extend();
    }
    let waiting = 0;
    search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(update, 120);
    });
    filter.addEventListener("change", update);
    document.querySelector(".tools").addEventListener("submit", (event) => event.preventDefault());
    more.addEventListener("click", extend);
    update();
  }

  unpack().then(browse, (error) => {
    $("list").replaceChildren(
      make("p", "", `This browser cannot unpack the examples (${error.message}); examples.parquet holds all of them.`),
    );
  });
})();
