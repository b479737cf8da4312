// Elements of the page. Texts become text nodes, so that no name of an image is ever markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element; false, null and undefined are left out of its children and attributes. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (name === "data") {
      Object.assign(made.dataset, value);
    } else if (value === true) {
      made.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(name, String(value));
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** Make an icon of one line. */
export function icon(path) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", "0 0 20 20");
  drawing.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  drawing.append(line);
  return drawing;
}

export const ICONS = {
  right: "m4.500 10.500 3.700 3.700 7.300-8",
  wrong: "m5.500 5.500 9 9m0-9-9 9",
  large: "M11.500 4H16v4.500M16 4l-5 5M8.500 16H4v-4.500M4 16l5-5",
  none: "M3.500 4.500h13v11h-13zM3.500 13l4-3.500 3.500 3 2.500-2 3 2.500M5 3l11 14",
};

/** Return an element of the page. */
export const byId = (id) => document.getElementById(id);

/** Write a number as people of this language do. */
export const count = (number) => number.toLocaleString("en");

/** "1 image", "2 images". */
export const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
