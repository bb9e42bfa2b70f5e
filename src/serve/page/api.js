// Talks to the server that the page came from. Everything else here goes through these functions.

const kKeyName = "moeopt-key";
let key = sessionStorage.getItem(kKeyName) ?? "";

export function setKey(value) {
  key = value;
  sessionStorage.setItem(kKeyName, value);
}

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.ok || options.anyStatus) return response;
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error?.message ?? message;
  } catch {
    // The body says nothing that can be read.
  }
  throw new ApiError(response.status, message);
}

// `anyStatus`: the body is read whatever the status (/health and /ready say 503 with a body).
export async function getJson(path, anyStatus = false) {
  return (await request(path, { anyStatus })).json();
}

// Prometheus' text as a map from name to the sum of its samples, and from name{label="v"} to each.
export async function getMetrics() {
  const values = new Map();
  for (const line of (await (await request("metrics")).text()).split("\n")) {
    if (!line || line.startsWith("#")) continue;
    const space = line.lastIndexOf(" ");
    const sample = line.slice(0, space);
    const value = Number(line.slice(space + 1));
    const name = sample.split("{")[0];
    values.set(name, (values.get(name) ?? 0) + value);
    if (name !== sample) values.set(sample, value);
  }
  return values;
}

// The chunks of a streamed chat completion, parsed.
export async function* streamChat(body, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value.replaceAll("\r", "");
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const data = text
        .slice(0, end)
        .split("\n")
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart())
        .join("\n");
      text = text.slice(end + 2);
      if (data === "[DONE]") return;
      if (!data) continue;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.code ?? 500, chunk.error.message);
      yield chunk;
    }
  }
}
