// Requests to the server of this page, which is the only one that it talks to.

async function answered(response) {
  const content = await response.json().catch(() => null);
  if (response.ok && content !== null) return content;
  throw new Error(content?.detail ?? `The server answered with status ${response.status}.`);
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is clipreid serve still running?");
  }
  return answered(response);
}

const post = (path, body, signal) =>
  ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });

export const readInfo = () => ask("/api/info");
export const search = (body, signal) => post("/api/search", body, signal);
export const mark = (body) => post("/api/marks", body);

export const drop = (file) =>
  ask("/api/images", {
    method: "POST",
    headers: { "Content-Type": file.type.startsWith("image/") ? file.type : "application/octet-stream" },
    body: file,
  });

export const thumbnail = (key, index) => `/api/thumbnail/${key}?index=${index}`;
export const image = (key, index) => `/api/image/${key}?index=${index}`;
export const dropped = (sha256) => `/api/images/${sha256}`;
