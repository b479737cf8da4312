// What a search found: a grid of hits for each index, with marks, and a large view of one.

import { ICONS, byId, counted, element, icon } from "./elements.js";
import { image, thumbnail } from "./server.js";

/** Show the answers of one index or two, side by side. */
export function showAnswers(facts, answers, actions) {
  const paths = answers.map(({ hits }) => new Map(hits.map((hit) => [hit.path, hit.rank])));
  const panes = answers.map((answer, place) => {
    const others = answers.length === 2 ? paths[1 - place] : null;
    return pane(facts.indexes[answer.index], answer, others, answers.length === 2, actions);
  });
  byId("results").replaceChildren(element("div", { class: `panes of-${panes.length}` }, ...panes));
}

/** Show a page without a query: some images to begin with. */
export function showStart(facts, actions) {
  const [index] = facts.indexes;
  if (index.num_images === 0) {
    showEmpty(index);
    return;
  }

  const ways = [
    index.takes_images && (matchMedia("(pointer: coarse)").matches ? "choose an image" : "drop an image"),
    index.takes_texts && "type a sentence",
    facts.samples.length > 0 && "begin with one of these",
  ].filter(Boolean);
  const sentence = ways.length > 1 ? `${ways.slice(0, -1).join(", ")} or ${ways.at(-1)}` : ways[0] ?? "";

  const hits = facts.samples.map((key) =>
    element("li", { class: "hit" }, picture({ key }, 0, "Search by this image", () => actions.searchBy(key, 0))),
  );
  byId("results").replaceChildren(
    element(
      "section",
      { class: "start" },
      element("h1", {}, `Search ${counted(index.num_images, "image")}`),
      element("p", {}, capitalized(`${sentence}.`)),
      element("ol", { class: "grid samples" }, ...hits),
    ),
  );
}

function showEmpty({ name }) {
  const advice = element("p", {}, "Add images, then load this page again: ", element("code", {}, `clipreid index add ${name} FOLDER`));
  byId("results").replaceChildren(element("section", { class: "start" }, element("h1", {}, "This index is empty"), advice));
}

/** Show why there is no answer. */
export function showError(text) {
  byId("results").replaceChildren(element("p", { class: "banner bad", role: "alert" }, text));
}

/** Show a hit large, with all that its record says. */
export function showLarge(hit, index) {
  const rows = facts(hit).map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, String(value))),
  );
  const shown = element("img", { src: image(hit.key, index), alt: describe(hit) });
  byId("large-content").replaceChildren(shown, element("dl", {}, ...rows));
  byId("large").showModal();
}

/** The accessible text of a hit. */
export function describe(hit) {
  const parts = [hit.rank && `Hit ${hit.rank}`];
  if (hit.identity !== undefined) parts.push(`identity ${hit.identity}`);
  if (hit.camera !== undefined && hit.camera !== null) parts.push(`camera ${hit.camera}`);
  if (hit.similarity !== undefined) parts.push(`similarity ${hit.similarity.toFixed(2)}`);
  if (hit.probability !== undefined) parts.push(`probability ${percent(hit.probability)}`);
  return parts.filter(Boolean).join(", ");
}

/** The identity of a hit, as its title; of an image that lies in no folder, the name of its file. */
export function nameOf({ key, identity, path }) {
  if (identity === undefined || identity === null) return `key ${key}`;
  if (identity === "." && path) return path.split(/[\\/]/).at(-1);
  return typeof identity === "number" ? `ID ${identity}` : identity;
}

/** A probability as people read it: never 0 % or 100 %, which no figure of a sample is. */
export function percent(probability) {
  if (probability < 0.01) return "< 1 %";
  if (probability > 0.99) return "> 99 %";
  return `${Math.round(100 * probability)} %`;
}

function pane(index, answer, others, isCompared, actions) {
  const { hits, milliseconds, unknown, error } = answer;
  const title = hits.length === 0 ? "No image meets the conditions" : counted(hits.length, "nearest image");
  const common = others === null ? null : hits.filter((hit) => others.has(hit.path)).length;
  const notes = [`${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms`];
  if (common !== null) notes.push(`${common} in both`);
  const head = element(
    "header",
    {},
    isCompared && element("p", { class: "which" }, index.name, index.model && element("span", {}, ` ${index.model}`)),
    element("h2", {}, error ? "No answer" : title),
    !error && element("p", { class: "facts" }, hits.length === 0 ? "Take a filter away to see more." : notes.join(" · ")),
  );
  return element(
    "section",
    { class: "pane", "aria-label": isCompared ? `Results of ${index.name}` : "Results" },
    head,
    error && element("p", { class: "banner bad", role: "alert" }, error),
    unknown === true && hits.length > 0 && unknownBanner(),
    element("ol", { class: "grid", role: "list" }, ...cards(index, answer, others, actions)),
  );
}

function unknownBanner() {
  return element(
    "p",
    { class: "banner warn" },
    element("strong", {}, "Unknown."),
    " No image is similar enough to be the same one. These are the nearest.",
  );
}

function cards(index, answer, others, actions) {
  const made = [];
  let isBelow = false;
  for (const hit of answer.hits) {
    const isUnlikely = hit.probability !== undefined && hit.similarity < index.threshold;
    if (isUnlikely && !isBelow && hit.rank > 1) made.push(divider(index.threshold));
    isBelow ||= isUnlikely;
    made.push(card(index, answer, hit, others, isUnlikely, actions));
  }
  return made;
}

function divider(threshold) {
  return element(
    "li",
    { class: "divider" },
    element("span", {}, `Below the threshold of ${threshold.toFixed(2)}`),
  );
}

function card(index, answer, hit, others, isUnlikely, actions) {
  const place = answer.index;
  const name = `${describe(hit)}. Search by it`;
  const made = element("li", { class: isUnlikely ? "hit unlikely" : "hit", data: { key: hit.key, index: place } });
  const view = element(
    "button",
    { type: "button", class: "view", "aria-label": `View hit ${hit.rank} large`, on: { click: () => actions.view(hit, place) } },
    icon(ICONS.large),
  );

  made.append(
    picture(hit, place, name, () => actions.searchBy(hit.key, place)),
    view,
    element("div", { class: "who" }, element("b", { title: `${nameOf(hit)}\n${hit.path ?? ""}` }, nameOf(hit)), where(hit)),
    score(hit),
    element("div", { class: "verdict", role: "group", "aria-label": `Is hit ${hit.rank} right?` }, ...verdicts(made, answer, hit, actions), also(hit, others)),
  );
  paint(made, answer.marks[hit.key]);
  return made;
}

function picture(hit, place, name, click) {
  const shown = element("img", { src: thumbnail(hit.key, place), alt: "", loading: "lazy", decoding: "async" });
  const button = element(
    "button",
    { type: "button", class: "picture", "aria-label": name, on: { click } },
    shown,
    hit.rank ? element("span", { class: "rank", "aria-hidden": "true" }, String(hit.rank)) : null,
  );
  shown.addEventListener("error", () => {
    shown.replaceWith(element("span", { class: "gone" }, icon(ICONS.none), "no image"));
  });
  return button;
}

function where(hit) {
  if (hit.camera === undefined || hit.camera === null) return null;
  return element("span", { class: "camera" }, "cam ", String(hit.camera));
}

function score(hit) {
  const share = hit.probability ?? Math.max(0, hit.similarity);
  const track = element("span", { class: "track", "aria-hidden": "true" }, element("span"));
  track.firstChild.style.setProperty("width", `${(100 * share).toFixed(1)}%`);
  const similarity = element("span", { class: "similarity", title: "Cosine similarity" }, hit.similarity.toFixed(3));
  const probability =
    hit.probability !== undefined &&
    element("span", { class: "probability", title: "Probability of the same identity" }, percent(hit.probability));
  return element("div", { class: "score" }, track, element("span", { class: "figures" }, probability || null, similarity));
}

function also(hit, others) {
  if (others === null) return null;
  const rank = others.get(hit.path);
  const text = rank === undefined ? "not there" : rank === hit.rank ? "same place" : `there #${rank}`;
  return element("span", { class: rank === undefined ? "also only" : "also" }, text);
}

function verdicts(card, answer, hit, actions) {
  return [true, false].map((isMatch) =>
    element(
      "button",
      {
        type: "button",
        class: isMatch ? "right" : "wrong",
        "aria-label": isMatch ? "Right" : "Wrong",
        "aria-pressed": "false",
        title: isMatch ? "Right" : "Wrong",
        on: {
          click: async () => {
            const next = answer.marks[hit.key] === isMatch ? null : isMatch;
            if (!(await actions.mark(hit, answer.index, next))) return;
            if (next === null) delete answer.marks[hit.key];
            else answer.marks[hit.key] = next;
            paint(card, answer.marks[hit.key]);
          },
        },
      },
      icon(isMatch ? ICONS.right : ICONS.wrong),
    ),
  );
}

function paint(card, isMatch) {
  card.classList.toggle("is-right", isMatch === true);
  card.classList.toggle("is-wrong", isMatch === false);
  card.querySelector(".right").setAttribute("aria-pressed", String(isMatch === true));
  card.querySelector(".wrong").setAttribute("aria-pressed", String(isMatch === false));
}

function facts(hit) {
  const { extra = {}, ...own } = hit;
  if (own.similarity !== undefined) own.similarity = own.similarity.toFixed(4);
  if (own.probability !== undefined) own.probability = percent(own.probability);
  return [...Object.entries(own), ...Object.entries(extra)].filter(
    ([name, value]) => name !== "rank" && value !== null && value !== undefined,
  );
}

const capitalized = (text) => text.charAt(0).toUpperCase() + text.slice(1);
