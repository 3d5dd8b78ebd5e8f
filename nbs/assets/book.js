// What a page of the book does beyond what a page of Quarto does. Nothing here is needed to read it.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, attributes, text = "") => Object.assign(document.createElement(tag), attributes, { textContent: text });
  const place = document.currentScript.src;

  // ---- all the code of a lesson, with one click
  const folds = all("main details.code-fold");
  const offers = document.querySelector(".lesson-bar ul");
  if (folds.length && offers) {
    const button = make("button", { type: "button" }, "Show all code");
    button.addEventListener("click", () => {
      const open = button.textContent === "Show all code";
      folds.forEach((fold) => { fold.open = open; });
      button.textContent = open ? "Fold the code again" : "Show all code";
    });
    const item = make("li", {});
    item.append(button);
    offers.append(item);
  }

  // ---- what is wider than the screen: reached and scrolled by keyboard, and a figure opens at its full size
  const WIDE = "main .cell-output-display, main .sd-table, main .math.display, main pre, #rate-films table";
  const markWide = () => all(WIDE).forEach((e) => {
    const wide = e.scrollWidth > e.clientWidth + 1;
    if (wide === e.hasAttribute("tabindex")) return;
    if (wide) {
      e.tabIndex = 0;
      e.setAttribute("role", "group");
      e.setAttribute("aria-label", `${e.tagName === "PRE" ? "Code" : "Table or formula"}, wider than the screen`);
    } else ["tabindex", "role", "aria-label"].forEach((name) => e.removeAttribute(name));
  });

  const enlarge = (figure) => {
    const dialog = make("dialog", { className: "figure-dialog" });
    dialog.setAttribute("aria-label", figure.getAttribute("aria-label") || "Figure");
    const close = make("button", { type: "button" }, "Close");
    const sheet = make("div", { tabIndex: 0 });
    const gap = make("div", { className: "figure-gap" });
    gap.style.height = `${figure.clientHeight}px`;
    figure.replaceWith(gap);
    sheet.append(figure);
    dialog.append(close, sheet);
    document.body.append(dialog);
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => { gap.replaceWith(figure); dialog.remove(); });
    dialog.showModal();
  };
  const figures = all("main .cell-output-display svg");
  const markFigures = () => figures.forEach((figure) => {
    const next = figure.nextElementSibling;
    const button = next && next.matches(".figure-button") ? next : null;
    const shrunk = innerWidth < 992 && figure.clientWidth < .9 * figure.width.baseVal.value;
    if (!shrunk && button) button.remove();
    if (!shrunk || button) return;
    const larger = make("button", { type: "button", className: "figure-button" }, "Larger");
    larger.addEventListener("click", () => enlarge(figure));
    figure.after(larger);
  });
  const mark = () => { markWide(); markFigures(); };
  addEventListener("load", mark);
  addEventListener("resize", mark);
  addEventListener("formulas", markWide);
  document.addEventListener("toggle", markWide, true);

  // ---- a newer version of the book: the file version.json beside the site names the newest
  const own = (document.querySelector("footer") || document.body).textContent.match(/Version (\d[\d.]*\d)/);
  const isNewer = (a, b) => {
    const [one, other] = [a, b].map((version) => version.split(".").map(Number));
    const at = one.findIndex((part, i) => part !== (other[i] || 0));
    return at >= 0 && one[at] > (other[at] || 0);
  };
  const askVersion = async () => {
    try {
      const answer = await fetch(new URL("../version.json", place), { cache: "no-cache" });
      const { version, address } = await answer.json();
      if (!isNewer(version, own[1])) return;
      const note = make("p", { className: "newer" }, `This is version ${own[1]} of the book. Version ${version} is out: `);
      note.setAttribute("role", "status");
      note.append(make("a", { href: address }, "read that one"), ".");
      document.querySelector("main").prepend(note);
    } catch (e) { /* no network: the page stays as it is */ }
  };
  if (own && location.protocol.startsWith("http")) addEventListener("load", askVersion);
})();
