// Puts the page together: asks the server how it is, and shows it; the chat; the colours.
import { ApiError, getJson, getMetrics, setKey } from "./api.js";
import { Chat } from "./chat.js";
import { HeatMap, Routing } from "./heatmap.js";
import { Figures, showHealth, showPlan, showState } from "./panels.js";

const byId = (id) => document.getElementById(id);
const kIdleMs = 2000;
const kBusyMs = 700;

let model = "";
let busy = false; // an answer streams, or the server runs something
let planShown = false;
const routing = new Routing();
let shownCounts = "latest";
const figures = new Figures();
const heat = new HeatMap({
  canvas: byId("heat"),
  readout: byId("heat-readout"),
  legend: byId("legend-most"),
  even: byId("legend-even"),
  table: byId("heat-table"),
});

function askForKey() {
  byId("key-form").hidden = false;
}

function showRouting() {
  if (routing.layers) heat.set(routing.layers, routing[shownCounts]);
}

// True while there is progress to be shown.
async function showLoading() {
  const ready = await getJson("ready", true);
  byId("loading").hidden = ready.progress === undefined;
  byId("loading-what").textContent = ready.doing || "Loading the model";
  byId("progress").value = ready.progress ?? 0;
  return ready.progress !== undefined;
}

// True while what it shows moves: requests run, or the model loads.
async function look() {
  const health = await getJson("health", true);
  showHealth(health);
  if (!health.model) return showLoading();
  byId("loading").hidden = true;
  model = health.model;
  const isRunning = health.engine.running > 0;
  if (!planShown) {
    showPlan(await getJson("plan"));
    planShown = true;
  }
  const [metrics, experts] = await Promise.all([getMetrics(), getJson("v1/routing")]);
  figures.show(metrics, performance.now());
  routing.add(experts, performance.now());
  showRouting();
  byId("notice").hidden = true;
  byId("key-form").hidden = true;
  return isRunning;
}

let timer = 0;
async function poll() {
  clearTimeout(timer);
  timer = 0;
  let isMoving = false;
  try {
    isMoving = await look();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      askForKey();
    } else if (!(error instanceof ApiError)) {
      showState("away", "not reachable");
    } else {
      byId("notice").textContent = error.message;
      byId("notice").hidden = false;
    }
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(poll, busy || isMoving ? kBusyMs : kIdleMs);
}

new Chat({
  model: () => model,
  onBusy: (value) => {
    busy = value;
    poll();
  },
  onUnauthorised: askForKey,
});

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(byId("key").value);
  poll();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});

for (const which of ["latest", "total"]) {
  byId(`show-${which}`).addEventListener("click", () => {
    shownCounts = which;
    for (const each of ["latest", "total"]) byId(`show-${each}`).setAttribute("aria-pressed", String(each === which));
    showRouting();
  });
}
byId("heat-table").closest("details").addEventListener("toggle", showRouting);

const kThemes = { auto: "Auto", light: "Light", dark: "Dark" };
const systemDark = matchMedia("(prefers-color-scheme: dark)");
let theme = localStorage.getItem("moeopt-theme") ?? "auto";
function showTheme() {
  const isDark = theme === "dark" || (theme === "auto" && systemDark.matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  byId("theme").textContent = kThemes[theme];
  byId("theme").setAttribute("aria-label", `Colours: ${theme === "auto" ? "as the system" : theme}`);
}
byId("theme").addEventListener("click", () => {
  const names = Object.keys(kThemes);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  localStorage.setItem("moeopt-theme", theme);
  showTheme();
});
systemDark.addEventListener("change", showTheme);
showTheme();
poll();
