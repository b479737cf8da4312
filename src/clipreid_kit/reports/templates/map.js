"use strict";
const square = document.querySelector(".square");
const points = [...document.querySelectorAll(".point")];
const shown = document.querySelector(".shown");
const about = document.querySelector(".about");
const same = document.querySelector(".same");
const MOST = 12;

const places = points.map((point) => [parseFloat(point.style.left), parseFloat(point.style.top)]);
let current = null;

function copyOf(point) {
  const image = point.querySelector("img").cloneNode();
  image.alt = point.getAttribute("aria-label");
  return image;
}

function show(point) {
  if (point === current) return;
  if (current) current.classList.remove("current");
  current = point;
  point.classList.add("current");
  square.classList.add("active");

  shown.replaceChildren(copyOf(point));
  about.textContent = point.getAttribute("aria-label");
  const others = [];
  for (const other of points) {
    const isSame = other.dataset.identity === point.dataset.identity;
    other.classList.toggle("same-identity", isSame);
    if (isSame && other !== point) others.push(other);
  }
  same.replaceChildren(...others.slice(0, MOST).map(copyOf));
}

function leave() {
  if (square.contains(document.activeElement)) {
    show(document.activeElement);
  } else {
    square.classList.remove("active");
  }
}

// the nearest point within 45 degrees of a direction
function next(index, [x, y]) {
  let best = -1;
  let least = Infinity;
  places.forEach((place, other) => {
    const [dx, dy] = [place[0] - places[index][0], place[1] - places[index][1]];
    const along = dx * x + dy * y;
    const across = Math.abs(dx * y) + Math.abs(dy * x);
    if (other !== index && along > 0 && along >= across && along + 2 * across < least) {
      least = along + 2 * across;
      best = other;
    }
  });
  return best;
}

const DIRECTIONS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

square.addEventListener("keydown", (event) => {
  const index = points.indexOf(document.activeElement);
  if (index < 0 || !(event.key in DIRECTIONS)) return;
  event.preventDefault();
  const found = next(index, DIRECTIONS[event.key]);
  if (found >= 0) points[found].focus();
});

square.addEventListener("focusin", (event) => {
  for (const point of points) point.tabIndex = point === event.target ? 0 : -1;
  show(event.target);
});

square.addEventListener("pointerover", (event) => {
  const point = event.target.closest(".point");
  if (point) show(point);
});

square.addEventListener("pointerleave", leave);
square.addEventListener("focusout", () => setTimeout(leave));
