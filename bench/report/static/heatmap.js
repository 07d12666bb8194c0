// The heat map: a grid with a cell per layer and step.

function mixed(stops, at) {
  const place = Math.min(Math.max(at, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(place), stops.length - 2);
  return stops[low].map((channel, index) =>
    Math.round(channel + (stops[low + 1][index] - channel) * (place - low)),
  );
}

function rangeOf(task) {
  // One range for all kinds of probes, so that a control looks as low as it is.
  const values = task.kinds.flatMap((kind) => kind.mean.flat()).filter((value) => value !== null);
  return [Math.min(...values), Math.max(...values)];
}

function colourOf({ palette, dark_text_above: dark }, task, value) {
  if (value === null) return ["transparent", "inherit"];
  const [low, high] = task.range;
  const share = high === low ? 0 : (value - low) / (high - low);
  const at = task.higher ? share : 1 - share;
  return [`rgb(${mixed(palette, at).join(" ")})`, at > dark ? "#000" : "#fff"];
}

function number(value, digits = 3) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

function span(mean, low, high) {
  return low === null ? number(mean) : `${number(mean)} [${number(low)}, ${number(high)}]`;
}

function headings(data, axis) {
  return axis === "step" ? data.steps.map(String) : data.log_snr;
}

function heatMap(data, task, kind, axis, choose) {
  const best = task.best;
  const head = element("tr", {}, element("th", { scope: "col" }, "layer"));
  headings(data, axis).forEach((text) => head.append(element("th", { scope: "col" }, text)));
  const body = element("tbody");
  data.layers.forEach((layer, row) => {
    const line = element("tr", {}, element("th", { scope: "row" }, layer));
    data.steps.forEach((step, column) => {
      const value = kind.mean[row][column];
      const [background, colour] = colourOf(data, task, value);
      const is_best = kind.name === "activations" && best[column] === row;
      const cell = element(
        "td",
        {
          role: "gridcell",
          tabindex: -1,
          "aria-selected": "false",
          "data-row": row,
          "data-column": column,
          class: is_best ? "best" : null,
          "aria-description": is_best ? "best layer of this step on training images" : null,
        },
        number(value),
      );
      cell.style.background = background;
      cell.style.color = colour;
      line.append(cell);
    });
    body.append(line);
  });
  const title = `${task.name}, ${kind.name}: ${task.measure} by layer and step`;
  const table = element(
    "table",
    { role: "grid", class: axis === "step" ? "grid" : "grid noise", "aria-label": title },
    element("thead", {}, head),
    body,
  );
  table.addEventListener("click", (event) => {
    const cell = event.target.closest("td");
    if (cell) choose(Number(cell.dataset.row), Number(cell.dataset.column), true);
  });
  table.addEventListener("keydown", (event) => {
    const cell = event.target.closest("td");
    const to = cell && moved(event, Number(cell.dataset.row), Number(cell.dataset.column), data);
    if (to) {
      event.preventDefault();
      choose(...to, true);
    }
  });
  return table;
}

function moved(event, row, column, data) {
  const [rows, columns] = [data.layers.length, data.steps.length];
  const to = {
    ArrowUp: [row - 1, column],
    ArrowDown: [row + 1, column],
    ArrowLeft: [row, column - 1],
    ArrowRight: [row, column + 1],
    Home: [event.ctrlKey ? 0 : row, 0],
    End: [event.ctrlKey ? rows - 1 : row, columns - 1],
    PageUp: [0, column],
    PageDown: [rows - 1, column],
  }[event.key];
  if (!to) return null;
  return [Math.min(Math.max(to[0], 0), rows - 1), Math.min(Math.max(to[1], 0), columns - 1)];
}

function markCell(table, row, column, focus) {
  table.querySelectorAll('td[aria-selected="true"]').forEach((cell) => {
    cell.setAttribute("aria-selected", "false");
    cell.tabIndex = -1;
  });
  const cell = table.querySelector(`td[data-row="${row}"][data-column="${column}"]`);
  cell.setAttribute("aria-selected", "true");
  cell.tabIndex = 0;
  table.querySelectorAll("thead th").forEach((heading, index) => {
    if (index === column + 1) heading.setAttribute("aria-current", "step");
    else heading.removeAttribute("aria-current");
  });
  if (focus) cell.focus({ preventScroll: false });
}
