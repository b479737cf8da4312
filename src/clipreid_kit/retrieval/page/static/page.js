// The search page: one search at a time, which the address bar shows.

import { emptySearch, isWhole, readAddress, writeAddress } from "./address.js";
import { byId, counted, element, icon, ICONS } from "./elements.js";
import { conditions, showFilters } from "./filters.js";
import { describe, nameOf, showAnswers, showError, showLarge, showStart } from "./results.js";
import * as server from "./server.js";

const HITS = [12, 24, 48, 96, 192];

let facts = null;
let search = emptySearch();
let running = null;
let answers = [];

async function start() {
  try {
    facts = await server.readInfo();
  } catch (error) {
    showError(error.message);
    return;
  }

  const [index] = facts.indexes;
  const isEmpty = facts.indexes.every((one) => one.num_images === 0);
  document.title = `Search ${index.name}`;
  byId("about").replaceChildren(...about());
  byId("k").replaceChildren(...HITS.filter((k) => k <= facts.max_hits).map((k) => element("option", { value: k }, String(k))));
  byId("marks-file").textContent = `Marks are kept in ${facts.marks_file}.`;
  byId("query").hidden = byId("panel").hidden = isEmpty;
  byId("choose").hidden = !index.takes_images;
  byId("sentence").hidden = !facts.indexes.some((one) => one.takes_texts);
  byId("obstacle").hidden = !index.obstacle;
  byId("obstacle").textContent = index.obstacle ?? "";
  byId("other-row").hidden = !index.columns.some(({ name }) => name === "camera");
  if (matchMedia("(max-width: 760px)").matches) byId("panel").open = false;

  search = isEmpty ? emptySearch() : readAddress(location.search);
  listen();
  await run();
}

function about() {
  return facts.indexes.flatMap((index, place) => [
    place > 0 && element("span", { class: "against" }, "against"),
    element("b", {}, index.name),
    element("span", {}, counted(index.num_images, "image")),
    index.model && element("span", { class: "model" }, index.model),
    index.is_calibrated && element("span", { class: "badge", title: `Threshold ${index.threshold.toFixed(3)}` }, "calibrated"),
  ]).filter(Boolean);
}

/** Run the search of the page, and show what it finds. */
async function run() {
  running?.abort();
  running = new AbortController();
  const { signal } = running;

  showControls();
  if (search.query === null) {
    answers = [];
    showQuery(null);
    showStart(facts, actions);
    byId("results").setAttribute("aria-busy", "false");
    return;
  }

  const results = byId("results");
  results.setAttribute("aria-busy", "true");
  try {
    if (!isWhole(search.query)) throw new Error("A part of this link is missing. Copy it again, or begin a new search.");
    const found = await server.search(body(), signal);
    answers = found.answers;
    showQuery(found.query);
    showAnswers(facts, answers, actions);
    say(summary());
  } catch (error) {
    if (error.name === "AbortError") return;
    answers = [];
    showQuery(search.query);
    showError(error.message);
  }
  results.setAttribute("aria-busy", "false");
}

function body() {
  return {
    query: search.query,
    k: search.k,
    group_by: search.group ? "identity" : null,
    other_cameras: search.other && search.query.key !== undefined,
    where: conditions(facts.indexes[0].columns, search.where),
  };
}

/** Change the search, put it into the address bar, and run it. */
function go(change) {
  search = { ...search, ...change };
  const text = writeAddress(search);
  history.pushState(null, "", text ? `?${text}` : location.pathname);
  return run();
}

function showControls() {
  byId("group").checked = search.group;
  byId("other").checked = search.other;
  byId("other").disabled = search.query?.key === undefined;
  byId("k").value = String(search.k);
  byId("text").value = search.query?.text ?? "";
  byId("copy").disabled = search.query === null;
  showFilters(facts.indexes[0], search.where, () => go({}));
}

function showQuery(query) {
  const shown = byId("shown");
  byId("query").classList.toggle("empty", query === null);
  byId("open").classList.toggle("primary", query === null);
  if (query === null) {
    shown.replaceChildren();
  } else if (query.text) {
    shown.replaceChildren(element("blockquote", {}, query.text));
  } else {
    const isDropped = Boolean(query.image);
    const source = isDropped ? server.dropped(query.image) : server.thumbnail(query.key, query.index ?? 0);
    const picture = element("img", { src: source, alt: "The query image" });
    picture.addEventListener("error", () => picture.replaceWith(element("span", { class: "gone" }, icon(ICONS.none), "no image")));
    const title = isDropped ? "Your image" : nameOf(query);
    const camera = query.camera === undefined || query.camera === null ? null : element("span", { class: "camera" }, `cam ${query.camera}`);
    shown.replaceChildren(
      picture,
      element("p", { class: "who" }, element("b", {}, title), camera),
    );
  }
  if (query !== null) {
    shown.append(element("button", { type: "button", class: "reset", "aria-label": "Clear the query", on: { click: () => go({ query: null }) } }, "×"));
  }
}

function summary() {
  return answers
    .map(({ hits, unknown, error, index }) => {
      const name = answers.length > 1 ? `${facts.indexes[index].name}: ` : "";
      if (error) return `${name}${error}`;
      if (hits.length === 0) return `${name}No image meets the conditions.`;
      const start = unknown ? "Unknown: no image is similar enough. " : "";
      return `${name}${start}${counted(hits.length, "image")}. ${describe(hits[0])}.`;
    })
    .join(" ");
}

const actions = {
  searchBy(key, index) {
    window.scrollTo({ top: 0 });
    return go({ query: { key, index } });
  },

  view(hit, index) {
    showLarge(hit, index);
  },

  async mark(hit, index, isMatch) {
    try {
      await server.mark({ query: search.query, key: hit.key, index, is_match: isMatch });
    } catch (error) {
      toast(error.message);
      return false;
    }
    say(isMatch === null ? "Mark taken back" : `Hit ${hit.rank} marked as ${isMatch ? "right" : "wrong"}`);
    return true;
  },
};

async function searchByFile(file) {
  if (!facts.indexes[0].takes_images) return toast(facts.indexes[0].obstacle);
  if (file.size > facts.max_upload_bytes) {
    const most = Math.round(facts.max_upload_bytes / 2 ** 20);
    return toast(`${file.name} is too large: at most ${most} MB are accepted.`);
  }

  byId("results").setAttribute("aria-busy", "true");
  try {
    const { image } = await server.drop(file);
    await go({ query: { image } });
  } catch (error) {
    byId("results").setAttribute("aria-busy", "false");
    toast(error.message);
  }
}

async function copyLink() {
  const note =
    search.query?.image === undefined
      ? "Link copied"
      : "Link copied. It works while the server keeps your image";
  try {
    await navigator.clipboard.writeText(location.href);
    toast(note);
  } catch {
    toast(location.href); // a browser without a clipboard for this page: to be copied by hand
  }
}

let fading = 0;

function toast(text) {
  const shown = byId("toast");
  shown.textContent = text;
  shown.classList.add("on");
  clearTimeout(fading);
  fading = setTimeout(() => shown.classList.remove("on"), 5000);
}

function say(text) {
  byId("status").textContent = text;
}

function listen() {
  const file = byId("file");
  byId("open").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    if (file.files.length > 0) searchByFile(file.files[0]);
    file.value = "";
  });

  byId("sentence").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId("text").value.trim().slice(0, facts.max_text);
    if (text) go({ query: { text } });
    else toast("Write a sentence to search for.");
  });
  byId("group").addEventListener("change", (event) => go({ group: event.target.checked }));
  byId("other").addEventListener("change", (event) => go({ other: event.target.checked }));
  byId("k").addEventListener("change", (event) => go({ k: Number(event.target.value) }));
  byId("clear").addEventListener("click", () => go({ where: {} }));
  byId("copy").addEventListener("click", copyLink);
  byId("help").addEventListener("click", () => byId("shortcuts").showModal());
  addEventListener("popstate", () => {
    search = readAddress(location.search);
    run();
  });

  listenToFiles();
  document.addEventListener("keydown", onKey);
}

function listenToFiles() {
  const overlay = byId("overlay");
  const hasFile = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0;

  document.addEventListener("dragenter", (event) => {
    if (!hasFile(event)) return;
    depth += 1;
    overlay.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!hasFile(event)) return;
    depth -= 1;
    overlay.hidden = depth > 0 ? overlay.hidden : true;
  });
  document.addEventListener("dragover", (event) => hasFile(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    depth = 0;
    overlay.hidden = true;
    if (event.dataTransfer.files.length > 0) searchByFile(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const [pasted] = event.clipboardData?.files ?? [];
    if (pasted) searchByFile(pasted);
  });
}

const KEYS = {
  "/": () => byId("text").focus(),
  o: () => byId("open").click(),
  g: () => byId("group").click(),
  l: () => search.query !== null && copyLink(),
  "?": () => byId("shortcuts").showModal(),
};

const HIT_KEYS = {
  y: (card) => card.querySelector(".verdict .right").click(),
  n: (card) => card.querySelector(".verdict .wrong").click(),
  v: (card) => card.querySelector(".view").click(),
};

function onKey(event) {
  const isTyping = event.target.matches("input:not([type=checkbox]), select, textarea");
  if (event.key === "Escape" && isTyping) event.target.blur();
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;

  const card = event.target.closest(".hit[data-key]");
  const action = card !== null && event.key in HIT_KEYS ? () => HIT_KEYS[event.key](card) : KEYS[event.key];
  if (action !== undefined) {
    event.preventDefault();
    action();
  } else if (event.key.startsWith("Arrow")) {
    moveAmongHits(event);
  }
}

/** Move the focus to the next hit in a direction; from elsewhere, down to the first one. */
function moveAmongHits(event) {
  const here = event.target.closest(".hit");
  const grid = here?.parentElement ?? document.querySelector(".grid");
  if (grid === null || (here === null && event.target !== document.body && event.target.id !== "results")) return;

  const pictures = [...grid.querySelectorAll(".picture")];
  const place = pictures.indexOf(here?.querySelector(".picture"));
  const next = place < 0 ? pictures[0] : neighbour(pictures, place, event.key);
  if (next === undefined) return;
  event.preventDefault();
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

function neighbour(pictures, place, key) {
  if (key === "ArrowRight") return pictures[place + 1];
  if (key === "ArrowLeft") return pictures[place - 1];

  // Where a hit is laid out: a focused one is drawn a little higher, and moves there.
  const hitOf = (picture) => picture.closest(".hit");
  const from = hitOf(pictures[place]);
  const isBelow = key === "ArrowDown";
  const rows = pictures
    .map((picture) => ({ picture, hit: hitOf(picture) }))
    .filter(({ hit }) => (isBelow ? hit.offsetTop > from.offsetTop : hit.offsetTop < from.offsetTop));
  rows.sort(
    (one, other) =>
      Math.abs(one.hit.offsetTop - from.offsetTop) - Math.abs(other.hit.offsetTop - from.offsetTop) ||
      Math.abs(one.hit.offsetLeft - from.offsetLeft) - Math.abs(other.hit.offsetLeft - from.offsetLeft),
  );
  return rows[0]?.picture;
}

start();
