// Picks a row, a layer, a map and a position, and shows what is read there.
{
  const data = JSON.parse(document.getElementById("explain-data").textContent);
  const at = (id) => document.getElementById(id);
  const state = { row: 0, layer: 0, map: 0, query: 0, method: 0, byLine: false };
  const N_RANKED = { map: 12, attribution: 24 };

  // --- numbers and names

  const number = (value) => {
    if (!Number.isFinite(value)) return "–";
    return String(Number(value.toPrecision(3))).replace("e-", "e−").replace(/^-/, "−");
  };
  const names = () => data.names[data.names.length > 1 ? state.row : 0];
  const plain = (name) => name.replaceAll("\n", "↵").replaceAll("\t", "⇥");
  const named = (source) => {
    const value = data.values === null ? undefined : data.values[state.row][source];
    return plain(names()[source]) + (value === undefined ? "" : ` = ${value}`);
  };
  // Names of tokens come more than once, so that their place has to be said.
  const placed = (source) => named(source) + (new Set(names()).size < names().length ? ` (${source})` : "");
  const reachOf = (values) => values.reduce((most, v) => (Math.abs(v) > most ? Math.abs(v) : most), 0);

  // A packed matrix: the scales of its lines as float32, then its numbers in bytes; −128 is not a number.
  const unpacked = new Map();
  const unpack = async (text, width) => {
    if (!unpacked.has(text)) {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      const buffer = await new Response(stream).arrayBuffer();
      const height = buffer.byteLength / (width + 4);
      const scales = new Float32Array(buffer, 0, height);
      const cells = new Int8Array(buffer, 4 * height);
      const lines = Array.from(scales, (scale, line) =>
        Float32Array.from(cells.subarray(line * width, (line + 1) * width), (v) => (v === -128 ? NaN : v * scale)));
      unpacked.set(text, lines);
    }
    return unpacked.get(text);
  };

  // --- tokens and tables

  const shade = (element, value, reach) => {
    element.style.setProperty("--share", reach > 0 && Number.isFinite(value) ? Math.abs(value) / reach : 0);
    element.className = value < 0 ? "against" : "for";
  };
  const showTokens = (id, values, reads) => {
    const reach = reachOf(values);
    at(id).replaceChildren(...Array.from(values, (value, source) => {
      const token = document.createElement("span");
      token.textContent = named(source);
      token.title = `${named(source)} (position ${source}): ${number(value)}`;
      token.dataset.source = source;
      shade(token, value, reach);
      token.classList.toggle("reads", source === reads);
      return token;
    }));
    if (reads === undefined) return;
    const box = at(id), place = box.children[reads].offsetTop;
    if (place < box.scrollTop || place > box.scrollTop + box.clientHeight - 30) box.scrollTop = place - box.clientHeight / 2;
  };
  const strongest = (values, n) =>
    Array.from(values, (_, source) => source)
      .filter((source) => Number.isFinite(values[source]) && values[source] !== 0)
      .sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]))
      .slice(0, n);
  const showRanking = (id, caption, values, n, unit) => {
    const reach = reachOf(values), table = at(id), order = strongest(values, n);
    table.innerHTML = '<caption></caption><thead><tr><th scope="col">Source</th><th scope="col"></th>' +
      '<th scope="col" aria-hidden="true"></th></tr></thead><tbody></tbody>';
    table.caption.textContent = caption;
    table.tHead.rows[0].cells[1].textContent = unit;
    for (const source of order) {
      const line = table.tBodies[0].insertRow();
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = head.title = placed(source);
      line.append(head);
      const value = line.insertCell();
      value.className = "number";
      value.dataset.source = source;
      value.dataset.value = values[source];
      value.textContent = number(values[source]);
      const bar = document.createElement("b");
      shade(bar, values[source], reach);
      const last = line.insertCell();
      last.ariaHidden = "true";
      last.append(bar);
    }
    return order;
  };

  // --- heatmaps

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const TOP = 7;
  const rgb = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  const fitted = (context, text, width) => {
    let kept = text;
    while (kept.length > 1 && context.measureText(kept).width > width) kept = `${kept.slice(0, -2)}…`;
    return kept;
  };
  // Draws lines of numbers as cells in the strength of their colour, named as far as there is room.
  const drawHeat = (canvas, lines, { lineNames, columnNames, cellHeight, reach, chosen }) => {
    const width = canvas.parentElement.clientWidth - parseFloat(getComputedStyle(canvas.parentElement).paddingLeft) * 2;
    const context = canvas.getContext("2d");
    const font = '11px system-ui, "Segoe UI", "DejaVu Sans", sans-serif';
    context.font = font;
    const longest = (texts) => Math.ceil(Math.min(110, Math.max(...texts.map((t) => context.measureText(t).width))));
    const left = longest(lineNames) + 8;
    const n = columnNames.length;
    const cell = Math.min(cellHeight === undefined ? 64 : 128, (width - left - 2) / n);
    const height = cellHeight ?? cell;
    const step = Math.max(1, Math.ceil(12 / cell)), lineStep = Math.max(1, Math.ceil(12 / height));
    const longestBelow = longest(columnNames.filter((_, x) => x % step === 0));
    const upright = longestBelow > cell * step - 4;
    const bottom = upright ? longestBelow + 12 : 18;
    const size = [left + cell * n + 2, TOP + height * lines.length + bottom];
    const density = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = size.map((length) => Math.ceil(length * density));
    [canvas.style.width, canvas.style.height] = size.map((length) => `${length}px`);
    context.scale(density, density);

    const image = new ImageData(n, lines.length), tones = [rgb(color("--against")), rgb(color("--for"))];
    lines.forEach((line, y) => line.forEach((value, x) => {
      const most = reach[y], share = most > 0 && Number.isFinite(value) ? Math.min(1, Math.abs(value) / most) : 0;
      image.data.set([...tones[value < 0 ? 0 : 1], Math.round(255 * share)], 4 * (y * n + x));
    }));
    const cells = new OffscreenCanvas(n, lines.length);
    cells.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(cells, left, TOP, cell * n, height * lines.length);
    context.strokeStyle = color("--grid");
    context.strokeRect(left - 0.5, TOP - 0.5, cell * n + 1, height * lines.length + 1);

    context.font = font;
    context.textBaseline = "middle";
    context.textAlign = "right";
    const fill = (on) => { context.fillStyle = color(on ? "--accent" : "--muted"); };
    lineNames.forEach((name, y) => {
      const near = chosen !== undefined && Math.abs(y - chosen) < lineStep;
      if (y === chosen || (y % lineStep === 0 && !near)) {
        fill(y === chosen);
        context.fillText(fitted(context, name, left - 8), left - 5, TOP + (y + 0.5) * height);
      }
    });
    fill(false);
    columnNames.forEach((name, x) => {
      if (x % step !== 0) return;
      context.save();
      context.translate(left + (x + 0.5) * cell, TOP + height * lines.length + (upright ? 6 : 11));
      if (upright) context.rotate(-Math.PI / 2);
      context.textAlign = upright ? "right" : "center";
      context.fillText(fitted(context, name, upright ? bottom - 8 : cell * step - 4), 0, 0);
      context.restore();
    });
    if (chosen !== undefined) {
      context.strokeStyle = color("--accent");
      context.lineWidth = 2;
      context.strokeRect(left - 1, TOP - 1 + chosen * height, cell * n + 2, Math.max(height, 2) + 2);
    }
    Object.assign(canvas.dataset, { left, top: TOP, cell, height, lines: lines.length, columns: n });
  };
  const cellAt = (canvas, event) => {
    const { left, top, cell, height, lines, columns } = canvas.dataset;
    const box = canvas.getBoundingClientRect(), squeezed = box.width / parseFloat(canvas.style.width);
    const x = Math.floor(((event.clientX - box.left) / squeezed - left) / cell);
    const y = Math.floor(((event.clientY - box.top) / squeezed - top) / height);
    return y >= 0 && y < lines && x < columns ? { x, y } : null;
  };
  const sayCell = (canvas, out, text) => {
    canvas.addEventListener("mousemove", (event) => {
      const hit = cellAt(canvas, event);
      at(out).textContent = hit !== null && hit.x >= 0 ? text(hit) : "";
    });
    canvas.addEventListener("mouseleave", () => { at(out).textContent = ""; });
  };
  const showScale = (id, reach) => {
    at(id).dataset.reach = number(reach);
    at(id).replaceChildren(document.createElement("i"));
  };

  // --- the three views

  const shown = { map: [], flow: [] };
  const listed = (order, values) =>
    order.slice(0, 3).map((source) => `${placed(source)}: ${number(values[source])}`).join("; ");
  const showMap = async () => {
    const layer = data.layers[state.layer];
    const lines = await unpack(layer.maps[state.row][state.map], names().length);
    const reach = lines.map(reachOf), most = reachOf(reach);
    const texts = names().map(plain);
    shown.map = lines;
    drawHeat(at("map"), lines, {
      lineNames: texts, columnNames: texts, chosen: state.query,
      reach: state.byLine ? reach : reach.map(() => most),
    });
    showScale("map-scale", state.byLine ? reach[state.query] : most);
    const values = lines[state.query], reader = `${state.query}, ${named(state.query)}`;
    const order = showRanking("map-table", `Strongest sources of position ${reader}`, values, N_RANKED.map, "Weight");
    const what = `Layer ${layer.layer}, ${layer.kind}, ${layer.labels[state.map]}: position ${reader}, `;
    at("map-says").textContent = what + (order.length > 0 ? `reads most from ${listed(order, values)}.` : "reads nothing.");
    const slider = at("map");
    [slider.ariaValueMin, slider.ariaValueMax, slider.ariaValueNow] = [0, lines.length - 1, state.query].map(String);
    slider.ariaValueText = reader;
    showTokens("map-tokens", values, state.query);
  };
  const showFlow = async () => {
    const flow = data.flow, line = flow === null ? -1 : flow.positions.indexOf(state.query);
    if (flow === null) return;
    at("flow-shown").hidden = line < 0;
    if (line < 0) {
      at("flow-says").textContent = `The flow was not followed to position ${state.query}; it was to ${flow.positions.join(", ")}.`;
      return;
    }
    const layers = await Promise.all(flow.maps.map((maps) => unpack(maps[state.row], names().length)));
    const lines = layers.map((matrix) => matrix[line]), most = reachOf(lines.map(reachOf));
    shown.flow = lines;
    drawHeat(at("flow-map"), lines, {
      lineNames: flow.layers, columnNames: names().map(plain), cellHeight: 22, reach: lines.map(() => most),
    });
    showScale("flow-scale", most);
    const last = lines[lines.length - 1], reader = `${state.query}, ${named(state.query)}`;
    at("flow-says").textContent = `Behind the last layer, position ${reader}, has gathered most from ${listed(strongest(last, 3), last)}.`;
    at("flow-map").ariaLabel = `${at("flow-says").textContent} Layers downwards, sources to the right.`;
    showTokens("flow-tokens", last, state.query);
  };
  const showAttribution = () => {
    if (data.attributions.length === 0) return;
    const one = data.attributions[state.method], values = one.values[state.row].map((value) => value ?? NaN);
    const order = showRanking("attribution-table", `Strongest sources by ${one.method}`, values, N_RANKED.attribution, "Score");
    const rest = Array.from(values, (_, source) => source).filter((source) => !order.includes(source));
    const others = rest.length === 0 ? "" : ` The ${rest.length} sources not in the table add up to ${number(rest.reduce((sum, source) => sum + (values[source] || 0), 0))}.`;
    at("attribution-says").textContent = `${one.method}: ${one.promises[state.row]}.${others}`;
    showTokens("attribution-tokens", values);
  };

  // --- what is picked

  const showLayer = () => {
    for (const button of at("pick-layer").children) button.ariaPressed = String(Number(button.dataset.index) === state.layer);
    const labels = data.layers[state.layer].labels;
    state.map = Math.min(state.map, labels.length - 1);
    at("pick-map").replaceChildren(...labels.map((label, map) => new Option(label, map, false, map === state.map)));
    at("pick-map").disabled = labels.length < 2;
  };
  const showQueries = () => {
    at("pick-query").replaceChildren(...names().map((name, query) =>
      new Option(`${query} · ${plain(name)}`, query, false, query === state.query)));
  };
  let turn = Promise.resolve();
  const show = (change = {}) => {
    Object.assign(state, change);
    if ("layer" in change) showLayer();
    if ("row" in change) showQueries();
    at("pick-query").value = state.query;
    // Unpacking takes a moment: what was asked for first is shown first.
    turn = turn.then(async () => {
      await showMap();
      await showFlow();
      showAttribution();
      document.documentElement.dataset.shown = JSON.stringify(state);
    });
    return turn;
  };
  const onPick = (id, name) => at(id)?.addEventListener("change", () => show({ [name]: Number(at(id).value) }));
  onPick("pick-row", "row");
  onPick("pick-query", "query");
  onPick("pick-map", "map");
  onPick("pick-method", "method");
  at("by-line").addEventListener("change", () => show({ byLine: at("by-line").checked }));
  at("pick-layer").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button !== null) show({ layer: Number(button.dataset.index) });
  });
  at("map").addEventListener("click", (event) => {
    const hit = cellAt(at("map"), event);
    if (hit !== null) show({ query: hit.y });
  });
  at("map-tokens").addEventListener("click", (event) => {
    const source = event.target.dataset.source;
    if (source !== undefined) show({ query: Number(source) });
  });
  at("map").addEventListener("keydown", (event) => {
    const last = names().length - 1;
    const to = {
      ArrowUp: state.query - 1, ArrowLeft: state.query - 1, ArrowDown: state.query + 1, ArrowRight: state.query + 1,
      PageUp: state.query - 10, PageDown: state.query + 10, Home: 0, End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show({ query: Math.min(last, Math.max(0, to)) });
  });
  sayCell(at("map"), "map-hover", ({ x, y }) => `${named(y)} ← ${named(x)}: ${number(shown.map[y][x])}`);
  if (data.flow !== null) {
    sayCell(at("flow-map"), "flow-hover", ({ x, y }) => `${data.flow.layers[y]} ← ${named(x)}: ${number(shown.flow[y][x])}`);
  }
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) show();
    width = window.innerWidth;
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show());
  show({ layer: 0, row: 0, query: names().length - 1 });
}
