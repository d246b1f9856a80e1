// The report's viewer: slices, maximum projections and a turning volume, from bytes inside the page.
"use strict";
(() => {
  const root = document.documentElement;
  window.addEventListener("error", (event) => root.setAttribute("data-error", String(event.message)));
  const source = document.getElementById("viewer-data");
  if (!source) { root.setAttribute("data-ready", "no viewer"); return; }

  const byId = (name) => document.getElementById("viewer-" + name);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const page = JSON.parse(source.textContent);
  const volumes = page.volumes.map((v) => ({ ...v, data: bytes(v.data) }));
  const colours = { db: bytes(page.colours.db), linear: bytes(page.colours.linear) };
  const canvas = byId("canvas"), context = canvas.getContext("2d");
  const scratch = document.createElement("canvas"), pen = scratch.getContext("2d");
  const resultBox = byId("result"), imageBox = byId("image"), slider = byId("slice");
  const names = [...resultBox.options].map((option) => option.text);
  const state = { result: 0, image: 0, plane: 2, kind: "slice", scale: page.scale, slice: null, turn: 0.6, tilt: 0.35 };

  const WIDTH = 720, LEFT = 66, RIGHT = 96, TOP = 14, BOTTOM = 48;
  const MINUS = "−";

  // ---- what is shown -------------------------------------------------------------------------------
  const inImage = () => volumes.filter((v) => v.image === state.image);
  const current = () => inImage().find((v) => v.name === names[state.result]) || inImage()[0];
  const planeAxes = (v) => v.flat ? [0, 1, 2] : [[1, 2, 0], [0, 2, 1], [0, 1, 2]][state.plane];
  const strides = (shape) => [shape[1] * shape[2], shape[2], 1];
  const decibel = (byte) => byte ? 40 * Math.log10(byte / 255) : -Infinity;
  const along = (axis, i) => {
    const value = axis.from + axis.step * i;
    return Math.abs(value) < 1e-6 * Math.abs(axis.step) ? 0 : value;
  };

  function brightest(v) {
    let best = 0;
    for (let i = 1; i < v.data.length; i++) if (v.data[i] > v.data[best]) best = i;
    const [a, b] = strides(v.shape);
    return [Math.floor(best / a), Math.floor(best / b) % v.shape[1], best % v.shape[2]];
  }

  // bytes of the plane on show, right axis fastest, first row at the bottom
  function plane(v) {
    const [r, u, c] = planeAxes(v), n = v.shape, s = strides(n), out = new Uint8Array(n[r] * n[u]);
    const from = state.kind === "maximum" ? 0 : state.slice, to = state.kind === "maximum" ? n[c] - 1 : state.slice;
    for (let j = 0; j < n[u]; j++) for (let i = 0; i < n[r]; i++) {
      let most = 0;
      for (let k = from; k <= to; k++) most = Math.max(most, v.data[i * s[r] + j * s[u] + k * s[c]]);
      out[j * n[r] + i] = most;
    }
    return { values: out, width: n[r], height: n[u], right: v.axes[r], up: v.axes[u] };
  }

  // maximum along parallel rays through the turned volume, nearest voxel, sizes true to the axes
  function turned(v, side = 200) {
    const n = v.shape, s = strides(n), step = v.axes.map((a) => Math.abs(a.step) || 1);
    const size = n.map((m, i) => m * step[i]), reach = Math.hypot(...size) / 2;
    const [ct, st, cp, sp] = [Math.cos(state.turn), Math.sin(state.turn), Math.cos(state.tilt), Math.sin(state.tilt)];
    const right = [ct, st, 0], up = [st * sp, -ct * sp, cp], ahead = [-st * cp, ct * cp, sp];
    const rays = Math.min(220, 2 * Math.max(...n)), out = new Uint8Array(side * side);
    for (let j = 0; j < side; j++) for (let i = 0; i < side; i++) {
      const x = reach * (2 * i / (side - 1) - 1), y = reach * (2 * j / (side - 1) - 1);
      let most = 0;
      for (let k = 0; k < rays; k++) {
        const z = reach * (2 * k / (rays - 1) - 1);
        const p = Math.floor((x * right[0] + y * up[0] + z * ahead[0] + size[0] / 2) / step[0]);
        const q = Math.floor((x * right[1] + y * up[1] + z * ahead[1] + size[1] / 2) / step[1]);
        const w = Math.floor((x * right[2] + y * up[2] + z * ahead[2] + size[2] / 2) / step[2]);
        if (p < 0 || q < 0 || w < 0 || p >= n[0] || q >= n[1] || w >= n[2]) continue;
        const value = v.data[p * s[0] + q * s[1] + w];
        if (value > most) most = value;
      }
      out[j * side + i] = most;
    }
    const box = { right, up, size, reach };
    return { values: out, width: side, height: side, box };
  }

  // ---- drawing -------------------------------------------------------------------------------------
  function shade(byte) {
    const m = byte / 255, t = state.scale === "db" ? 1 + decibel(byte) / page.range : m * m;
    return Math.round(255 * Math.max(0, Math.min(1, t)));
  }

  function paint(view, down) {
    scratch.width = view.width; scratch.height = view.height;
    const image = pen.createImageData(view.width, view.height), table = colours[state.scale];
    const lookup = Uint8Array.from({ length: 256 }, (_, byte) => shade(byte));
    let sum = 0;
    for (let j = 0; j < view.height; j++) for (let i = 0; i < view.width; i++) {
      const t = lookup[view.values[j * view.width + i]];
      const to = 4 * ((down ? j : view.height - 1 - j) * view.width + i);
      for (let c = 0; c < 3; c++) image.data[to + c] = table[3 * t + c];
      image.data[to + 3] = 255;
      sum = (sum + t * (1 + (to % 8191))) % 1000000007;
    }
    pen.putImageData(image, 0, 0);
    canvas.setAttribute("data-checksum", String(sum));
  }

  function frame(view) {
    const wide = WIDTH - LEFT - RIGHT;
    const ratio = view.box ? 1 : Math.abs(view.height * view.up.step / (view.width * view.right.step)) || 1;
    const shown = Math.min(3, Math.max(0.15, ratio)), width = shown > 1 ? wide / shown : wide;
    return { x: LEFT + (wide - width) / 2, y: TOP, width, height: width * shown };
  }

  function draw() {
    const v = current(), view = state.kind === "turn" && !v.flat ? turned(v) : plane(v), box = frame(view);
    const zoom = window.devicePixelRatio || 1;
    canvas.width = WIDTH * zoom; canvas.height = (box.height + TOP + BOTTOM) * zoom;
    context.setTransform(zoom, 0, 0, zoom, 0, 0);
    context.fillStyle = "#fff"; context.fillRect(0, 0, WIDTH, canvas.height);
    paint(view, v.flat);
    context.imageSmoothingEnabled = Boolean(view.box);
    context.drawImage(scratch, box.x, box.y, box.width, box.height);
    context.font = "13px system-ui, sans-serif"; context.strokeStyle = context.fillStyle = "#1c2126";
    context.lineWidth = 1;
    if (view.box) drawBox(v, view.box, box); else drawAxes(view, box, v.flat);
    drawBar(box);
    describe(v, view);
    state.view = view; state.frame = box;
  }

  function ticks(axis, n) {
    const a = along(axis, -0.5), b = along(axis, n - 0.5), low = Math.min(a, b), high = Math.max(a, b);
    const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= raw), out = [];
    for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + 1e-9 * step; t += step) {
      out.push({ place: (t - a) / (b - a), text: String(Number(t.toPrecision(6))).replace("-", MINUS) });
    }
    return out;
  }

  const named = (axis) => axis.unit ? `${axis.name} (${axis.unit})` : axis.name;

  function drawAxes(view, box, down) {
    context.strokeRect(box.x, box.y, box.width, box.height);
    context.textAlign = "center"; context.textBaseline = "top";
    for (const tick of ticks(view.right, view.width)) {
      const x = box.x + tick.place * box.width;
      line(x, box.y + box.height, x, box.y + box.height + 5);
      context.fillText(tick.text, x, box.y + box.height + 8);
    }
    context.fillText(named(view.right), box.x + box.width / 2, box.y + box.height + 27);
    context.textAlign = "right"; context.textBaseline = "middle";
    for (const tick of ticks(view.up, view.height)) {
      const y = box.y + (down ? tick.place : 1 - tick.place) * box.height;
      line(box.x - 5, y, box.x, y);
      context.fillText(tick.text, box.x - 8, y);
    }
    context.save();
    context.translate(box.x - 52, box.y + box.height / 2); context.rotate(-Math.PI / 2);
    context.textAlign = "center"; context.fillText(named(view.up), 0, 0);
    context.restore();
  }

  function line(x0, y0, x1, y1) {
    context.beginPath(); context.moveTo(x0, y0); context.lineTo(x1, y1); context.stroke();
  }

  // the turned volume's edges, with the axis names at their far ends
  function drawBox(v, { right, up, size, reach }, box) {
    const at = (corner) => {
      const p = corner.map((c, i) => (c - 0.5) * size[i]);
      const x = p[0] * right[0] + p[1] * right[1] + p[2] * right[2], y = p[0] * up[0] + p[1] * up[1] + p[2] * up[2];
      return [box.x + box.width * (1 + x / reach) / 2, box.y + box.height * (1 - y / reach) / 2];
    };
    context.strokeStyle = "rgba(255, 255, 255, .55)"; context.fillStyle = "#fff";
    context.textAlign = "center"; context.textBaseline = "middle";
    for (let axis = 0; axis < 3; axis++) for (const a of [0, 1]) for (const b of [0, 1]) {
      const ends = [0, 1].map((e) => { const c = [a, b]; c.splice(axis, 0, e); return at(c); });
      line(...ends[0], ...ends[1]);
      if (a + b > 0) continue;
      const [dx, dy] = [ends[1][0] - ends[0][0], ends[1][1] - ends[0][1]], far = Math.hypot(dx, dy) || 1;
      if (far > 20) context.fillText(v.axes[axis].name, ends[1][0] + 12 * dx / far, ends[1][1] + 12 * dy / far);
    }
  }

  function drawBar(box) {
    const x = WIDTH - RIGHT + 22, table = colours[state.scale], db = state.scale === "db";
    for (let i = 0; i < box.height; i++) {
      const t = Math.round(255 * (1 - i / Math.max(1, box.height - 1)));
      context.fillStyle = `rgb(${table[3 * t]},${table[3 * t + 1]},${table[3 * t + 2]})`;
      context.fillRect(x, box.y + i, 16, Math.min(1.5, box.height - i));
    }
    context.fillStyle = context.strokeStyle = "#1c2126";
    context.strokeRect(x, box.y, 16, box.height);
    context.textAlign = "left"; context.textBaseline = "middle";
    const parts = db ? 3 : 4;
    for (let i = 0; i <= parts; i++) {
      const y = box.y + box.height * i / parts;
      const text = db ? (i ? MINUS : "") + Math.round(page.range * i / parts) : (1 - i / parts).toFixed(2);
      context.fillText(text, x + 21, Math.min(Math.max(y, box.y + 6), box.y + box.height - 6));
    }
    context.fillText(db ? "dB" : "of peak", x - 2, box.y + box.height + 15);
  }

  // ---- words ---------------------------------------------------------------------------------------
  const number = (value) => String(Number(value.toPrecision(4))).replace("-", MINUS);
  const place = (axis, i) => `${axis.name} = ${number(along(axis, i))}${axis.unit ? " " + axis.unit : ""}`;

  function describe(v, view) {
    const axis = v.axes[planeAxes(v)[2]], slice = axis && state.kind === "slice";
    if (slider) {
      slider.disabled = !slice;
      byId("place").textContent = slice ? `${place(axis, state.slice)} (${state.slice + 1} of ${slider.max - -1})` : "";
    }
    const how = view.box ? "turned maximum projection" : slice ? place(axis, state.slice)
      : axis ? `maximum over ${axis.name}` : "magnitude";
    canvas.setAttribute("aria-label", `${v.name}, ${how}, ${state.scale === "db" ? "decibels" : "linear"}`);
    for (const button of document.querySelectorAll("[data-choice]")) {
      button.setAttribute("aria-pressed", String(button.dataset.value === String(state[button.dataset.choice])));
      if (button.dataset.choice === "plane") {
        const [r, u] = [[1, 2], [0, 2], [0, 1]][Number(button.dataset.value)];
        button.textContent = `${v.axes[r].name}–${v.axes[u].name}`;
        button.disabled = Boolean(view.box);
      }
    }
  }

  function read(event) {
    const { view, frame: box } = state, bounds = canvas.getBoundingClientRect(), zoom = WIDTH / bounds.width;
    const across = ((event.clientX - bounds.left) * zoom - box.x) / box.width;
    const below = ((event.clientY - bounds.top) * zoom - box.y) / box.height;
    const i = Math.floor(across * view.width), j = Math.floor((current().flat ? below : 1 - below) * view.height);
    const inside = !view.box && i >= 0 && j >= 0 && i < view.width && j < view.height;
    byId("reading").textContent = inside ? reading(view, i, j) : "";
  }

  function reading(view, i, j) {
    const byte = view.values[j * view.width + i], m = (byte / 255) ** 2;
    const value = byte ? `${number(Math.round(10 * decibel(byte)) / 10)} dB` : "zero";
    return `${place(view.right, i)}, ${place(view.up, j)}: ${value}, ${m.toFixed(3)} of peak, |x| ≈ ${number(m * current().peak)}`;
  }

  // ---- reactions -----------------------------------------------------------------------------------
  function set(changes) {
    Object.assign(state, changes);
    const v = current(), depth = v.shape[planeAxes(v)[2]];
    if (state.slice === null || "plane" in changes) state.slice = brightest(v)[planeAxes(v)[2]];
    state.slice = Math.max(0, Math.min(depth - 1, state.slice));
    if (slider) { slider.max = depth - 1; slider.value = state.slice; }
    resultBox.value = state.result;
    draw();
  }

  const cycle = (list, now) => list[(list.indexOf(now) + 1) % list.length];
  const shift = (by, turn) => state.kind === "turn" ? set(turn) : set({ kind: "slice", slice: state.slice + by });
  const keys = {
    ArrowLeft: () => shift(-1, { turn: state.turn - 0.1 }), ArrowRight: () => shift(1, { turn: state.turn + 0.1 }),
    ArrowDown: () => shift(-1, { tilt: state.tilt - 0.1 }), ArrowUp: () => shift(1, { tilt: state.tilt + 0.1 }),
    Home: () => set({ slice: null }), 1: () => set({ plane: 2 }), 2: () => set({ plane: 1 }), 3: () => set({ plane: 0 }),
    r: () => set({ result: (state.result + 1) % names.length }), l: () => set({ scale: cycle(["db", "linear"], state.scale) }),
  };

  function connect() {
    canvas.addEventListener("keydown", (event) => {
      const act = keys[event.key] || keys[event.key.toLowerCase()];
      if (act && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); act(); }
    });
    canvas.addEventListener("pointerdown", (event) => { if (state.kind === "turn") canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", (event) => {
      if (state.kind === "turn" && event.buttons) {
        set({ turn: state.turn - event.movementX / 120, tilt: state.tilt + event.movementY / 120 });
      } else read(event);
    });
    canvas.addEventListener("pointerleave", () => { byId("reading").textContent = ""; });
    resultBox.addEventListener("change", () => set({ result: Number(resultBox.value) }));
    if (imageBox) imageBox.addEventListener("change", () => set({ image: Number(imageBox.value), slice: null }));
    if (slider) slider.addEventListener("input", () => set({ kind: "slice", slice: Number(slider.value) }));
    for (const button of document.querySelectorAll("[data-choice]")) button.addEventListener("click", () => {
      const { choice, value } = button.dataset;
      set({ [choice]: choice === "plane" ? Number(value) : value });
    });
  }

  byId("box").hidden = false;
  connect();
  set({ result: names.length > 1 && names[0] === "truth" ? 1 : 0 });
  root.setAttribute("data-ready", "drawn");
})();
