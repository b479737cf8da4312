// Filters by the columns of the index: buttons for few values, a list for many, a range for numbers.

import { byId, count, element } from "./elements.js";

const MOST_BUTTONS = 12;

/** Show the filters, as the search has them; `change` is called after each change of `where`. */
export function showFilters({ columns, num_images }, where, change) {
  const useful = columns.filter(({ name, choices }) => choices?.[0].count !== num_images || name in where);
  byId("filters").replaceChildren(...useful.map((column) => filter(column, where, change)));
  const active = Object.keys(where).length;
  byId("count").hidden = active === 0;
  byId("count").textContent = active;
  byId("clear").hidden = active === 0;
}

/** Return the conditions of a search as the server takes them, with the types of the columns. */
export function conditions(columns, where) {
  return Object.entries(where).map(([column, { values, low, high }]) => {
    if (values === undefined) return { column, low: limit(low), high: limit(high) };
    const choices = columns.find(({ name }) => name === column)?.choices ?? [];
    return { column, values: values.flatMap((value) => typed(value, choices)) };
  });
}

const limit = (text) => (text === undefined || text === "" ? null : Number(text));

function typed(value, choices) {
  const known = choices.filter((choice) => String(choice.value) === value).map((choice) => choice.value);
  if (known.length > 0) return known;
  return /^-?\d{1,15}$/.test(value) ? [value, Number(value)] : [value];
}

function filter(column, where, change) {
  const body =
    column.kind === "range"
      ? range(column, where, change)
      : column.kind === "choice" && column.choices.length <= MOST_BUTTONS
        ? buttons(column, where, change)
        : list(column, where, change);
  return element("fieldset", { data: { column: column.name } }, element("legend", {}, column.name), body);
}

function set(where, column, values, change) {
  if (values.length > 0) where[column] = { values };
  else delete where[column];
  change();
}

function buttons(column, where, change) {
  const chosen = where[column.name]?.values ?? [];
  const made = column.choices.map((choice) => {
    const value = String(choice.value);
    const box = element("input", {
      type: "checkbox",
      checked: chosen.includes(value),
      on: {
        change: () =>
          set(
            where,
            column.name,
            box.checked ? [...chosen, value] : chosen.filter((other) => other !== value),
            change,
          ),
      },
    });
    return element("label", { class: "chip" }, box, element("span", {}, value, element("small", {}, count(choice.count))));
  });
  return element("div", { class: "chips" }, ...made);
}

function list(column, where, change) {
  const chosen = where[column.name]?.values ?? [];
  const id = `values-of-${column.name}`;
  const input = element("input", {
    type: "text",
    placeholder: column.choices ? `any of ${count(column.choices.length)}` : "any",
    "aria-label": column.name,
    list: column.choices ? id : null,
    autocomplete: "off",
    on: {
      change: () => {
        const value = input.value.trim();
        if (value && !chosen.includes(value)) set(where, column.name, [...chosen, value], change);
      },
    },
  });
  const options = (column.choices ?? []).map((choice) => element("option", { value: choice.value }));
  const chips = chosen.map((value) =>
    element(
      "button",
      {
        type: "button",
        class: "chip on",
        "aria-label": `Remove ${column.name} ${value}`,
        on: { click: () => set(where, column.name, chosen.filter((other) => other !== value), change) },
      },
      element("span", {}, value, element("small", {}, "×")),
    ),
  );
  return element(
    "div",
    { class: "chips" },
    ...chips,
    input,
    column.choices ? element("datalist", { id }, ...options) : null,
  );
}

function range(column, where, change) {
  const ends = where[column.name] ?? {};
  const end = (name, label, placeholder) =>
    element("input", {
      type: "number",
      step: "any",
      value: ends[name] ?? "",
      placeholder,
      "aria-label": `${column.name}, ${label}`,
      on: {
        change: (event) => {
          const next = { ...ends, [name]: event.target.value };
          if (next.low || next.high) where[column.name] = next;
          else delete where[column.name];
          change();
        },
      },
    });
  return element(
    "div",
    { class: "range" },
    end("low", "from", column.low),
    element("span", { "aria-hidden": "true" }, "to"),
    end("high", "to", column.high),
  );
}
