// A search as a URL, and back: what the address bar shows can be copied, kept and opened again.

export const DEFAULT_HITS = 24;

/** A search without a query and filters. */
export const emptySearch = () => ({ query: null, k: DEFAULT_HITS, group: false, other: false, where: {} });

/** Read a search from the part of a URL behind the question mark. */
export function readAddress(text) {
  const fields = new URLSearchParams(text);
  const found = emptySearch();
  if (fields.has("text")) found.query = { text: fields.get("text") };
  else if (fields.has("image")) found.query = { image: fields.get("image") };
  else if (fields.has("key")) {
    found.query = { key: Number(fields.get("key")), index: Number(fields.get("index") ?? 0) };
  }

  found.k = Number(fields.get("k")) || DEFAULT_HITS;
  found.group = fields.get("by") === "identity";
  found.other = fields.get("cameras") === "other";
  for (const [name, value] of fields) {
    const [kind, column] = [name.slice(0, name.indexOf(".")), name.slice(name.indexOf(".") + 1)];
    if (kind === "is") (found.where[column] ??= { values: [] }).values?.push(value);
    if (kind === "from") (found.where[column] ??= {}).low = value;
    if (kind === "to") (found.where[column] ??= {}).high = value;
  }
  return found;
}

/** Whether a query can be meant: a link may have lost its end. */
export function isWhole({ key, image }) {
  if (key !== undefined) return Number.isSafeInteger(key);
  return image === undefined || /^[0-9a-f]{64}$/.test(image);
}

/** Write a search as the part of a URL behind the question mark. */
export function writeAddress({ query, k, group, other, where }) {
  const fields = new URLSearchParams();
  if (query?.text !== undefined) fields.set("text", query.text);
  if (query?.image !== undefined) fields.set("image", query.image);
  if (query?.key !== undefined) fields.set("key", query.key);
  if (query?.index) fields.set("index", query.index);
  if (k !== DEFAULT_HITS) fields.set("k", k);
  if (group) fields.set("by", "identity");
  if (other) fields.set("cameras", "other");

  for (const [column, { values = [], low, high }] of Object.entries(where)) {
    for (const value of values) fields.append(`is.${column}`, value);
    if (low) fields.set(`from.${column}`, low);
    if (high) fields.set(`to.${column}`, high);
  }
  return fields.toString();
}
