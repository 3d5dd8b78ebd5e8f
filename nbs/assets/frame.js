// The frame of a page: colors, menu, copying, formulas, the place in the page, and the search.
"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const one = (selector, from = document) => from.querySelector(selector);
  const offset = one('meta[name="smalldocs:offset"]').content;

  // ---- light or dark: the reader's choice, or else the system's
  const schemeButton = one(".scheme-button");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => { try { return localStorage.getItem("book-scheme"); } catch (e) { return null; } };
  const paint = (scheme) => {
    root.dataset.bsTheme = scheme;
    root.classList.toggle("quarto-dark", scheme === "dark");
    schemeButton.setAttribute("aria-pressed", String(scheme === "dark"));
  };
  paint(root.dataset.bsTheme);
  schemeButton.addEventListener("click", () => {
    const scheme = root.dataset.bsTheme === "dark" ? "light" : "dark";
    try { localStorage.setItem("book-scheme", scheme); } catch (e) { /* a private window */ }
    paint(scheme);
  });
  system.addEventListener("change", (e) => { if (!chosen()) paint(e.matches ? "dark" : "light"); });

  // ---- the menu of a narrow screen
  const menu = one(".menu-button"), sidebar = one("#quarto-sidebar");
  const openMenu = (open) => {
    sidebar.classList.toggle("show", open);
    menu.setAttribute("aria-expanded", String(open));
    if (open) (one("[aria-current]", sidebar) || one("a", sidebar)).focus();
  };
  const menuIsOpen = () => sidebar.classList.contains("show");
  menu.addEventListener("click", () => openMenu(!menuIsOpen()));
  document.addEventListener("click", (e) => {
    if (menuIsOpen() && !sidebar.contains(e.target) && !menu.contains(e.target)) openMenu(false);
  });
  document.addEventListener("keydown", (e) => {
    if (e.key === "Escape" && menuIsOpen()) { openMenu(false); menu.focus(); }
  });
  const current = one("[aria-current]", sidebar);
  if (current) sidebar.scrollTop = current.offsetTop - sidebar.clientHeight / 2;

  // ---- copy a cell's code
  all(".code-copy-button").forEach((button) => {
    button.setAttribute("aria-label", "Copy this code");
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(one("code", button.parentElement).textContent);
      button.classList.add("copied");
      setTimeout(() => button.classList.remove("copied"), 1500);
    });
  });

  // ---- a heading's own address, for a mouse; by keyboard it is under "On this page"
  all("main .anchored[data-anchor-id]").forEach((heading) => {
    const link = document.createElement("a");
    Object.assign(link, { className: "anchorjs-link", href: `#${heading.dataset.anchorId}`, tabIndex: -1 });
    link.setAttribute("aria-hidden", "true");
    heading.append(link);
  });

  // ---- "On this page" follows the reader, and keeps the entry in sight
  const entries = all("#TOC a");
  const targets = entries.map((entry) => document.getElementById(decodeURIComponent(entry.hash.slice(1))));
  let active = null;
  const follow = () => {
    const line = 100;      // pixels from the top of the window: what has come above it is being read
    const passed = targets.filter((target) => target && target.getBoundingClientRect().top < line);
    const entry = entries[Math.max(0, passed.length - 1)];
    if (entry === active) return;
    if (active) active.classList.remove("active");
    active = entry;
    active.classList.add("active");
    const box = one("#quarto-margin-sidebar");
    const middle = active.offsetTop - box.clientHeight / 2;
    if (Math.abs(box.scrollTop - middle) > box.clientHeight / 3) box.scrollTop = middle;
  };
  if (entries.length && one("#quarto-margin-sidebar")) {
    let waiting = false;
    addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; follow(); });
    }, { passive: true });
    follow();
  }

  // ---- formulas: KaTeX is asked for when the words are there, and sets what comes near the window first
  const formulas = all(".math");
  const set = (formula) => {
    if (formula.dataset.set) return;
    formula.dataset.set = "yes";
    const tex = formula.textContent.trim().slice(2, -2);      // without \( and \), or \[ and \]
    window.katex.render(tex, formula, { displayMode: formula.classList.contains("display"), throwOnError: false });
  };
  const setRest = (deadline) => {
    const left = formulas.filter((formula) => !formula.dataset.set);
    for (const formula of left) {
      set(formula);
      if (deadline.timeRemaining() < 5) break;      // milliseconds
    }
    if (left.length) requestIdleCallback(setRest);
    else dispatchEvent(new Event("formulas"));      // book.js looks which ones are wide
  };
  const setFormulas = () => {
    formulas.filter((formula) => formula.getBoundingClientRect().top < innerHeight).forEach(set);
    requestIdleCallback(setRest);
    const near = new IntersectionObserver((seen) => seen.forEach((e) => e.isIntersecting && set(e.target)), { rootMargin: "600px" });
    formulas.forEach((formula) => near.observe(formula));
    addEventListener("beforeprint", () => formulas.forEach(set));
  };
  if (formulas.length) {
    const script = document.createElement("script");
    script.src = `${offset}assets/katex/katex.min.js`;
    script.addEventListener("load", setFormulas);
    document.head.append(script);
  }

  // ---- search: what is found
  const plain = (text) => text.toLowerCase().normalize("NFKD").replace(/[\u0300-\u036f]/g, "").replace(/[-–]/g, " ");
  const singular = (word) => (word.length > 3 && !word.endsWith("ss") ? word.replace(/s$/, "") : word);
  const wordsOf = (text) => (plain(text).match(/[a-z0-9_]+/g) || []).map(singular);
  const SMALL = new Set("a an and are as at by do for from how i in is it k my of on or the to what with".split(" "));
  const WEIGHT = { lesson: 1, detail: .8, page: .7, reference: .05 };
  const isCode = (query) => /[_.(]|[a-z][A-Z]/.test(query);      // somebody asks for a definition

  const readIndex = async () => {
    const answer = await fetch(`${offset}search.json`);
    const { terms, entries } = await answer.json();
    entries.forEach((entry) => {
      entry.title = wordsOf(entry.section || entry.page);
      entry.pageWords = wordsOf(entry.page);
      entry.body = ` ${wordsOf(entry.text).join(" ")} `;
    });
    const known = new Set(entries.flatMap((entry) => entry.title).concat(Object.keys(terms).flatMap(wordsOf)));
    const lessons = new Map(Object.entries(terms).map(([term, pages]) => [wordsOf(term).join(" "), pages]));
    return { entries, lessons, known };
  };
  let index = null;
  const ask = () => (index = index || readIndex().catch((error) => { index = null; throw error; }));

  const wordScore = (entry, word) => {
    const times = entry.body.split(` ${word}`).length - 1;
    const inText = times ? 1 + Math.min(times, 10) / 3 : 0;
    if (entry.title.includes(word)) return 10 + inText;
    if (entry.title.some((w) => w.startsWith(word))) return 5 + inText;
    if (entry.pageWords.includes(word)) return 3 + inText;
    return inText;
  };
  const scoreOf = (entry, words, lessons, code) => {
    const phrase = words.join(" "), title = entry.title.join(" ");
    const large = words.filter((word) => !SMALL.has(word));
    const scores = (large.length ? large : words).map((word) => wordScore(entry, word));
    const place = lessons.indexOf(entry.href);      // of the lessons of a term, the first teaches it
    if (scores.includes(0) && place < 0) return 0;
    let sum = scores.reduce((a, b) => a + b, 0) / scores.length;
    if (title === phrase) sum += 30;
    else if (title.includes(phrase)) sum += 8;
    else if (entry.body.includes(` ${phrase} `)) sum += 3;
    return sum * (code ? 1 : WEIGHT[entry.kind]) + (place < 0 ? 0 : 100 - 10 * place);
  };

  const editsBetween = (a, b) => {      // Levenshtein's distance
    let row = [...Array(b.length + 1).keys()];
    for (const [i, sign] of [...a].entries()) {
      const next = [i + 1];
      for (let j = 0; j < b.length; j++) {
        next.push(Math.min(row[j + 1] + 1, next[j] + 1, row[j] + (sign !== b[j])));
      }
      row = next;
    }
    return row[b.length];
  };
  const mended = (word, known) => {
    const near = [...known].map((other) => [editsBetween(word, other), other]).sort((a, b) => a[0] - b[0])[0];
    return near[0] <= Math.ceil(word.length / 5) ? near[1] : word;
  };

  const find = async (query) => {
    const { entries, lessons, known } = await ask();
    const findWords = (words) => {
      const large = words.filter((word) => !SMALL.has(word));
      const taught = lessons.get(words.join(" ")) || lessons.get(large.join(" ")) || [];
      return entries.map((entry) => ({ entry, score: scoreOf(entry, words, taught, isCode(query)) }))
        .filter((hit) => hit.score > 0).sort((a, b) => b.score - a.score).map((hit) => hit.entry);
    };
    const words = wordsOf(query);
    if (!words.length) return [];
    const hits = findWords(words);
    return hits.length ? hits : findWords(words.map((word) => mended(word, known)));
  };
  window.bookSearch = find;

  // ---- search: how it is shown
  const field = one(".book-search input"), list = one("#book-found");
  const escape = (text) => text.replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" }[sign]));
  const excerpt = (text, query) => {
    const words = query.split(/\s+/).filter((word) => word.length > 1).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const pattern = new RegExp(`(${words.join("|")})`, "gi");
    const phrase = text.toLowerCase().indexOf(query.toLowerCase());
    const start = Math.max(0, (phrase < 0 ? text.search(pattern) : phrase) - 50);
    const shown = (start ? "…" : "") + text.slice(start, start + 160);
    return words.length ? escape(shown).replace(pattern, "<mark>$1</mark>") : escape(shown);
  };
  const row = (entry, i, query) => `<a role="option" id="found-${i}" tabindex="-1" aria-selected="false" href="${offset}${entry.href}">` +
    `<b>${escape(entry.section || entry.page)}</b>${entry.section ? ` <span>${escape(entry.page)}</span>` : ""}` +
    `<small>${excerpt(entry.text, query)}</small></a>`;
  const SHOWN = 12;
  let selected = -1;
  const show = (open) => { list.hidden = !open; field.setAttribute("aria-expanded", String(open)); };
  const select = (i) => {
    const rows = all("a", list);
    selected = (i + rows.length) % rows.length;
    rows.forEach((r, at) => r.setAttribute("aria-selected", String(at === selected)));
    field.setAttribute("aria-activedescendant", rows[selected].id);
    rows[selected].scrollIntoView({ block: "nearest" });
  };
  const search = async () => {
    const query = field.value.trim();
    selected = -1;
    field.removeAttribute("aria-activedescendant");
    if (query.length < 2) return show(false);
    const tell = (html) => { list.innerHTML = html; show(true); };
    const say = (words) => tell(`<div role="option" aria-disabled="true" aria-selected="false">${words}</div>`);
    try {
      const hits = (await find(query)).slice(0, SHOWN);
      if (query !== field.value.trim()) return;      // the reader has typed on
      if (hits.length) tell(hits.map((hit, i) => row(hit, i, query)).join(""));
      else say("No page has these words.");
    } catch (error) {
      say("The list of pages did not come. Type on to ask for it again.");
    }
  };
  field.addEventListener("input", search);
  field.addEventListener("focus", () => { ask().catch(() => {}); if (field.value) search(); });
  field.addEventListener("keydown", (e) => {
    const rows = all("a", list);
    if (e.key === "Escape") { show(false); field.value = ""; }
    if (!rows.length || list.hidden) return;
    if (e.key === "ArrowDown") { e.preventDefault(); select(selected + 1); }
    if (e.key === "ArrowUp") { e.preventDefault(); select(selected < 0 ? -1 : selected - 1); }
    if (e.key === "Enter") rows[Math.max(0, selected)].click();
  });
  document.addEventListener("click", (e) => { if (!one(".book-search").contains(e.target)) show(false); });
  document.addEventListener("keydown", (e) => {
    const writes = e.target.matches("input, textarea, select, [contenteditable]");
    if ((e.key === "/" && !writes) || (e.key === "k" && (e.ctrlKey || e.metaKey))) { e.preventDefault(); field.focus(); }
  });
})();
