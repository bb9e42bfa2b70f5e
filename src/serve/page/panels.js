// What the server says of itself, on the page: figures, KV cache, optimisations, plan.

const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function bytesText(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; bytes >= 1024 && unit < units.length - 1; ++unit) bytes /= 1024;
  return `${unit ? bytes.toPrecision(3) : bytes} ${units[unit]}`;
}

function durationText(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

// A bar of parts [{name, share, title}].
function setBar(bar, parts, label) {
  bar.replaceChildren(
    ...parts.map(({ name, share }) => {
      const part = element("span", { className: name });
      part.style.flex = `0 0 ${100 * share}%`;
      return part;
    }),
  );
  bar.setAttribute("aria-label", label);
}

export function showState(state, text) {
  byId("state").dataset.state = state;
  if (byId("state-text").textContent !== text) byId("state-text").textContent = text;
}

export function showHealth(health) {
  showState(health.status, health.status === "ok" ? "ready" : health.status);
  byId("version").textContent = `moeopt ${health.version ?? ""}`;
  byId("uptime").textContent = health.uptime_s === undefined ? "" : `up ${durationText(health.uptime_s)}`;
  if (!health.model) return;
  byId("model").textContent = health.model;
  byId("backend").textContent = [health.architecture, health.backend].filter(Boolean).join(" on ");
  document.title = `${health.model} · moeopt`;
  const { engine } = health;
  byId("running").textContent = engine.running;
  byId("running-most").textContent = engine.max_running ? ` of ${engine.max_running}` : "";
  byId("waiting").textContent = engine.waiting;
  const { live, cached, free, total } = engine.kv_blocks;
  byId("kv-text").textContent = `${live} live, ${cached} cached, ${free} free of ${total} blocks`;
  setBar(
    byId("kv-bar"),
    [
      { name: "live", share: live / (total || 1) },
      { name: "cached", share: cached / (total || 1) },
    ],
    `KV cache: ${byId("kv-text").textContent}`,
  );
  showOptimisations(health.optimisations ?? []);
}

const kSigns = { applied: "✓ applied", declined: "– declined", off: "○ off" };

let optimisationsShown = "";
function showOptimisations(list) {
  const text = JSON.stringify(list);
  if (text === optimisationsShown) return;
  optimisationsShown = text;
  const order = { applied: 0, declined: 1, off: 2 };
  const sorted = [...list].sort((a, b) => (order[a.state] ?? 3) - (order[b.state] ?? 3));
  byId("optimisations").replaceChildren(
    ...sorted.map((each) => {
      const chip = element("span", { className: "chip", textContent: kSigns[each.state] ?? each.state });
      chip.dataset.state = each.state;
      const why = [];
      if (each.state === "applied") why.push(`${each.layers} layers, ${each.launches.toLocaleString("en")} launches counted`);
      if (each.reason) why.push(each.reason);
      if (each.measured_gain) why.push(`measured ${each.measured_gain}×`);
      why.push(`asked: ${each.asked}`);
      return element(
        "li",
        {},
        chip,
        element("span", { className: "name", textContent: each.name }),
        element("span", { className: "why", textContent: why.join(" · ") }),
      );
    }),
  );
}

// Tokens per second of all requests over the last minute, and figures that only /metrics has.
export class Figures {
  constructor() {
    this.before = null;
    this.rates = [];
  }
  show(metrics, now) {
    const at = {
      now,
      tokens: metrics.get("moeopt:generation_tokens_total") ?? 0,
      steps: metrics.get("moeopt:step_time_seconds_count") ?? 0,
      seconds: metrics.get("moeopt:step_time_seconds_sum") ?? 0,
    };
    const queries = metrics.get("moeopt:prefix_cache_queries_total") ?? 0;
    const hits = metrics.get("moeopt:prefix_cache_hits_total") ?? 0;
    byId("prefix-hits").textContent = queries ? `${Math.round((100 * hits) / queries)}%` : "–";
    if (this.before) {
      const rate = (1000 * (at.tokens - this.before.tokens)) / (now - this.before.now);
      this.rates = [...this.rates, { now, rate }].filter((each) => each.now > now - 60_000);
      byId("tokens-s").textContent = rate < 10 && rate > 0 ? rate.toFixed(1) : Math.round(rate);
      const steps = at.steps - this.before.steps;
      if (steps > 0) byId("step-ms").textContent = ((1000 * (at.seconds - this.before.seconds)) / steps).toFixed(1);
      this.drawSpark(now);
    }
    this.before = at;
  }
  drawSpark(now) {
    const most = Math.max(1, ...this.rates.map((each) => each.rate));
    const points = this.rates.map(({ now: then, rate }) => [120 - (now - then) / 500, 31 - (29 * rate) / most]);
    const line = points.map((point) => point.map((value) => value.toFixed(1)).join(",")).join(" ");
    byId("spark-line").setAttribute("points", line);
    const ends = points.length ? [points[0][0], points.at(-1)[0]] : [120, 120];
    byId("spark-area").setAttribute("d", points.length ? `M${ends[0]},32 L${line.replaceAll(" ", " L")} L${ends[1]},32 Z` : "");
  }
}

export function showPlan(plan) {
  const { model = {}, limits = {}, kv = {}, hardware = {} } = plan;
  byId("plan-summary").textContent =
    `${model.architecture ?? "?"}, ${model.layers ?? "?"} layers on ${hardware.label ?? "?"}. ` +
    `Up to ${limits.max_sequences} sequences of ${limits.max_model_len} tokens; ` +
    `${kv.blocks} KV blocks of ${kv.block_tokens} tokens, ${kv.dtype}.`;
  const classes = [
    ["weights", "weight_bytes"],
    ["kv", "kv_bytes"],
    ["workspace", "workspace_bytes"],
    ["communication", "communication_bytes"],
    ["margin", "margin_bytes"],
  ];
  byId("plan-ranks").replaceChildren(
    ...(plan.per_rank ?? []).map((rank) => {
      const bar = element("div", { className: "bar" });
      bar.setAttribute("role", "img");
      const parts = classes.filter(([, field]) => rank[field] > 0);
      setBar(
        bar,
        parts.map(([name, field]) => ({ name, share: rank[field] / rank.total_bytes })),
        `Memory of rank ${rank.rank}: ` + parts.map(([name, field]) => `${name} ${bytesText(rank[field])}`).join(", "),
      );
      const key = element("p", { className: "key" });
      for (const [name, field] of parts) {
        key.append(element("span", {}, element("i", { className: name, ariaHidden: "true" }), `${name} ${bytesText(rank[field])}`));
      }
      const title = element("p", { className: "bar-title" });
      title.append(element("span", { textContent: plan.ranks > 1 ? `Rank ${rank.rank}` : "Memory" }), element("span", { className: "quiet", textContent: bytesText(rank.total_bytes) }));
      return element("div", {}, title, bar, key);
    }),
  );
  byId("plan-settings").tBodies[0].replaceChildren(
    ...Object.entries(plan.settings ?? {}).map(([name, { value, planned, origin }]) => {
      const line = document.createElement("tr");
      for (const text of [name, planned && planned !== value ? `${value}: ${planned}` : value, origin]) line.insertCell().textContent = text;
      return line;
    }),
  );
}
