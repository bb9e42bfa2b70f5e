// The use of the experts, a row for each layer and a column for each expert, on a canvas.
// Colours are cividis: in order of lightness, and told apart with any colour vision. They follow the
// square root of the use, or one busy expert would leave all others dark.

const kRamp = [
  [0, 34, 78],
  [67, 78, 108],
  [125, 124, 120],
  [188, 174, 108],
  [254, 232, 56],
];

function colour(t) {
  const x = Math.min(Math.max(t, 0), 1) * (kRamp.length - 1);
  const i = Math.min(Math.floor(x), kRamp.length - 2);
  return kRamp[i].map((from, channel) => Math.round(from + (kRamp[i + 1][channel] - from) * (x - i)));
}

const sum = (values) => values.reduce((a, b) => a + b, 0);

// The counts since the start, and those of the latest second in which there were any.
export class Routing {
  constructor() {
    this.layers = null;
    this.total = [];
    this.latest = [];
    this.past = []; // {now, total} of the last second
  }
  add({ layers, total }, now) {
    const restarted = sum(total.map(sum)) < sum(this.total.map(sum)) || total.length !== this.total.length;
    if (restarted) {
      this.past = [];
      this.latest = total;
    }
    this.layers = layers;
    this.total = total;
    while (this.past.length > 1 && this.past[1].now <= now - 1000) this.past.shift();
    const before = this.past[0]?.total;
    const since = before && total.map((row, y) => row.map((count, x) => count - before[y][x]));
    if (since && sum(since.map(sum)) > 0) this.latest = since;
    this.past.push({ now, total });
  }
}

export class HeatMap {
  constructor({ canvas, readout, legend, even, table }) {
    this.canvas = canvas;
    this.readout = readout;
    this.legend = legend;
    this.even = even;
    this.table = table;
    this.layers = [];
    this.counts = [];
    this.shown = []; // times even use, moving towards the counts
    this.cell = null; // {row, column} under the pointer or the keys
    this.frame = 0;
    canvas.addEventListener("pointermove", (event) => this.point(event));
    canvas.addEventListener("pointerleave", () => this.select(null));
    canvas.addEventListener("blur", () => {
      readout.setAttribute("aria-live", "off");
      this.select(null);
    });
    canvas.addEventListener("focus", () => {
      readout.setAttribute("aria-live", "polite");
      this.select(this.cell ?? { row: 0, column: 0 });
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  // `counts[row][expert]`, `layers[row]` the layer's number in the model.
  set(layers, counts) {
    this.layers = layers;
    this.counts = counts;
    if (this.shown.length !== counts.length || this.shown[0]?.length !== counts[0]?.length) {
      this.shown = counts.map((row) => row.map(() => 0));
      this.cell = null;
    }
    this.target = counts.map((row) => {
      const even = sum(row) / row.length;
      return row.map((count) => (even > 0 ? count / even : 0));
    });
    this.most = Math.max(2, ...this.target.map((row) => Math.max(...row)));
    this.legend.textContent = `${this.most.toFixed(1)}× even use`;
    this.even.style.left = `${100 * Math.sqrt(1 / this.most)}%`;
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.frame ||= requestAnimationFrame(() => this.move());
    this.describe();
    this.fillTable();
  }

  move() {
    this.frame = 0;
    let moving = false;
    this.shown.forEach((row, y) =>
      row.forEach((value, x) => {
        const gap = this.target[y][x] - value;
        row[x] = this.still || Math.abs(gap) < 0.02 ? this.target[y][x] : value + gap * 0.25;
        moving ||= row[x] !== this.target[y][x];
      }),
    );
    this.draw();
    if (moving) this.frame = requestAnimationFrame(() => this.move());
  }

  draw() {
    const rows = this.shown.length;
    const columns = this.shown[0]?.length ?? 0;
    const { canvas } = this;
    if (!rows || !columns) {
      canvas.style.height = "72px";
      return;
    }
    const width = canvas.clientWidth;
    const height = Math.min(Math.max(rows * Math.min(width / columns, 26), 72), 420);
    canvas.style.height = `${height}px`;
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const context = canvas.getContext("2d");
    const edge = (i, n, size) => Math.round((i * size) / n);
    const gap = canvas.width / columns > 8 * scale && canvas.height / rows > 6 * scale ? scale : 0;
    for (let y = 0; y < rows; ++y) {
      const top = edge(y, rows, canvas.height);
      const bottom = edge(y + 1, rows, canvas.height);
      for (let x = 0; x < columns; ++x) {
        const left = edge(x, columns, canvas.width);
        const right = edge(x + 1, columns, canvas.width);
        context.fillStyle = `rgb(${colour(Math.sqrt(this.shown[y][x] / this.most)).join(" ")})`;
        context.fillRect(left, top, right - left - gap, bottom - top - gap);
      }
    }
    if (!this.cell) return;
    const { row, column } = this.cell;
    context.strokeStyle = "#ffffff";
    context.lineWidth = 2 * scale;
    context.strokeRect(
      edge(column, columns, canvas.width),
      edge(row, rows, canvas.height),
      Math.max(edge(column + 1, columns, canvas.width) - edge(column, columns, canvas.width), 3 * scale),
      Math.max(edge(row + 1, rows, canvas.height) - edge(row, rows, canvas.height), 3 * scale),
    );
  }

  point(event) {
    if (!this.counts.length) return;
    const box = this.canvas.getBoundingClientRect();
    const at = (position, size, n) => Math.min(Math.max(Math.floor((position / size) * n), 0), n - 1);
    this.select({
      row: at(event.clientY - box.top, box.height, this.counts.length),
      column: at(event.clientX - box.left, box.width, this.counts[0].length),
    });
  }

  key(event) {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const move = moves[event.key];
    if (!move || !this.counts.length) return;
    event.preventDefault();
    const { row, column } = this.cell ?? { row: 0, column: 0 };
    const within = (value, n) => Math.min(Math.max(value, 0), n - 1);
    this.select({ row: within(row + move[0], this.counts.length), column: within(column + move[1], this.counts[0].length) });
  }

  select(cell) {
    this.cell = this.counts.length ? cell : null;
    this.draw();
    this.describe();
  }

  describe() {
    const { counts } = this;
    const total = sum(counts.map(sum));
    if (total === 0) {
      this.readout.textContent = "No tokens yet.";
      return;
    }
    if (this.cell) {
      const { row, column } = this.cell;
      const count = counts[row][column];
      const all = sum(counts[row]) || 1;
      this.readout.textContent =
        `Layer ${this.layers[row]}, expert ${column}: ${count} rows, ${((100 * count) / all).toFixed(1)}% of its layer, ` +
        `${((count * counts[row].length) / all).toFixed(2)}× even use`;
      return;
    }
    const loads = counts.map((row) => (Math.max(...row) * row.length) / (sum(row) || 1));
    const worst = loads.indexOf(Math.max(...loads));
    this.readout.textContent =
      `${counts.length} layers × ${counts[0].length} experts. Least even: layer ${this.layers[worst]}, ` +
      `its busiest expert has ${loads[worst].toFixed(2)}× the mean.`;
  }

  fillTable() {
    if (!this.table.closest("details").open) return;
    this.table.tBodies[0].replaceChildren(
      ...this.counts.map((row, y) => {
        const all = sum(row);
        const most = Math.max(...row);
        const line = document.createElement("tr");
        const cells = [
          this.layers[y],
          all ? `expert ${row.indexOf(most)}` : "–",
          all ? `${((100 * most) / all).toFixed(1)}%` : "–",
          row.filter((count) => count === 0).length,
          all ? ((most * row.length) / all).toFixed(2) : "–",
        ];
        for (const text of cells) line.insertCell().textContent = text;
        return line;
      }),
    );
  }
}
