// Readings of the chosen layer and step, beside the images and labels of a few test items.

const sheets = new Map();

function sheetOf(address) {
  if (!sheets.has(address)) {
    const image = new Image();
    image.src = address;
    sheets.set(address, image.decode().then(() => image));
  }
  return sheets.get(address);
}

function tile(address, column, top, height, width, label) {
  const canvas = element("canvas", { width, height, role: "img", "aria-label": label });
  canvas.drawn = sheetOf(address).then((image) => {
    canvas.getContext("2d").drawImage(image, column * width, top, width, height, 0, 0, width, height);
  });
  return canvas;
}

function storedAt(stored, step) {
  // Of many steps only some are stored: the last one that is not after the chosen one.
  const index = stored.findLastIndex((number) => number <= step);
  return Math.max(index, 0);
}

function readingsTable(data, task, kind, layer, step) {
  const readings = task.readings;
  if (!readings) return element("p", { class: "soft" }, missingReadings(data));
  const images = data.images;
  const at = storedAt(readings.steps, step);
  const reading = readingCell(task, kind, layer, at, step);
  const columns = images ? [`decoded image, step ${images.steps[storedAt(images.steps, step)]}`] : [];
  if (images) columns.push("predicted clean image");
  columns.push(`reading of ${layer}, step ${readings.steps[at]}`, "label");
  if (images) columns.push(`${data.final} image`);
  const head = element("tr");
  columns.forEach((name) => head.append(element("th", { scope: "col" }, name)));
  const body = element("tbody");
  for (let item = 0; item < readings.items; item += 1) {
    const row = element("tr", { "data-item": item });
    const cells = [];
    if (images) {
      const [height, width] = images.size;
      const column = storedAt(images.steps, step);
      const top = item * height;
      cells.push(tile(images.decoded, column, top, height, width, `${columns[0]}, item ${item + 1}`));
      cells.push(tile(images.clean, column, top, height, width, `${columns[1]}, item ${item + 1}`));
    }
    cells.push(reading(item), labelOf(task, item));
    if (images) {
      cells.push(element("img", { src: images.final[item], alt: `${columns.at(-1)}, item ${item + 1}` }));
    }
    cells.forEach((cell) => row.append(element("td", {}, cell)));
    const prompt = element("td", { class: "prompt", colspan: columns.length }, data.prompts[item]);
    body.append(row, element("tr", {}, prompt));
  }
  const caption = `${task.name}: readings of ${layer} on test images`;
  return element(
    "table",
    { class: "readings", "aria-label": caption },
    element("thead", {}, head),
    body,
  );
}

function missingReadings(data) {
  return data.images
    ? "No readings of this task are stored."
    : "This run was made by an older version, which stored no readings of single layers; " +
        "run its command again in another --out to see them. The scores are complete.";
}

function labelOf(task, item) {
  const { labels, answers, classes } = task.readings;
  if (!labels) return classes[answers[item]];
  return element("img", { src: labels[item], alt: `label, item ${item + 1}` });
}

function readingCell(task, kind, layer, at, step) {
  const readings = task.readings;
  const label = (item) => `reading of ${layer} at step ${step}, item ${item + 1}`;
  const none = () => element("span", { class: "soft" }, "not stored");
  if (readings.vectors) {
    const values = readings.vectors[kind]?.[layer];
    return values ? (item) => bars(values[item][at], readings.classes, label(item)) : none;
  }
  const found = readings.kinds[kind];
  if (!found || !found.places[layer]) return none;
  const [top, height, width] = found.places[layer];
  return (item) => tile(found.sheet, at, top + item * height, height, width, label(item));
}

function bars(values, classes, label) {
  const most = Math.max(...values);
  const scale = Math.max(most, 0.01);
  const list = element("ol", { class: "bars", "aria-label": label });
  const order = [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, 4);
  order.forEach((index) => {
    const bar = element("i", { "aria-hidden": "true" });
    bar.style.width = `${(100 * Math.max(values[index], 0)) / scale}%`;
    const text = element("span", {}, `${classes[index]} ${values[index].toFixed(2)}`);
    list.append(element("li", { class: values[index] === most ? "most" : null }, text, bar));
  });
  return list;
}

function scoresAt(data, task, row, column) {
  // Everything that the chosen cell is compared with: [name, mean, low, high].
  const rows = task.kinds.map((kind) => [
    kind.name, kind.mean[row][column], kind.low[row][column], kind.high[row][column],
  ]);
  task.controls.forEach((control) => {
    const at = control.constant ? 0 : column;
    rows.push([control.name, control.mean[at], control.low[at], control.high[at]]);
  });
  const { mean, low, high } = task.ceiling;
  rows.push([`ceiling: the label on ${data.layers[row]}'s tokens`, mean[row], low[row], high[row]]);
  return rows.filter(([, value]) => value !== null && value !== undefined);
}

function scoresTable(data, task, kind, row, column) {
  const table = element(
    "table",
    { class: "beside" },
    element("tr", {}, element("th", { scope: "col" }, "probe or control"),
      element("th", { scope: "col" }, task.measure), element("th", { scope: "col" }, "95 % interval")),
  );
  scoresAt(data, task, row, column).forEach(([name, mean, low, high]) => {
    table.append(
      element(
        "tr",
        { class: name === kind.name ? "chosen" : null },
        element("td", {}, name),
        element("td", {}, number(mean)),
        element("td", {}, low === null ? "–" : `${number(low)} to ${number(high)}`),
      ),
    );
  });
  return table;
}
