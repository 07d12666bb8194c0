// The page of a ledger: filters, scores at a chosen step, and curves of the entries that are shown.

function board(data) {
  const byId = (id) => document.getElementById(id);
  const fields = ["name", "family", "objective", "task", "step"];
  const chosen = () => Object.fromEntries(fields.map((id) => [id, byId(id).value]));
  const rows = [...document.querySelectorAll("tr[data-entry]")];
  const written = new Map(
    rows.flatMap((row) => [...row.querySelectorAll("td[data-task]")]).map((cell) => [cell, cell.innerHTML]),
  );
  let drawing = 0;

  function isShown(row, filter) {
    const { curve, scores } = data.entries[row.dataset.entry];
    return curve.toLowerCase().includes(filter.name.trim().toLowerCase())
      && (!filter.family || row.dataset.family === filter.family)
      && (!filter.objective || row.dataset.objective === filter.objective)
      && (!filter.task || filter.task in scores);
  }

  function writeScore(cell, row, step) {
    if (!step) {
      cell.innerHTML = written.get(cell);
      return;
    }
    const found = data.entries[row.dataset.entry].scores[cell.dataset.task]?.[step];
    if (!found) {
      cell.replaceChildren(element("span", { class: "soft" }, "-"));
      return;
    }
    const [score, letters, layer] = found;
    cell.replaceChildren(
      element("span", { class: "score" }, score), " ",
      element("b", { class: "letters" }, letters), element("br"),
      element("span", { class: "soft layer" }, layer),
    );
  }

  function show() {
    const filter = chosen();
    const shown = new Set();
    rows.forEach((row) => {
      row.hidden = !isShown(row, filter);
      if (!row.hidden) shown.add(row.dataset.entry);
      row.querySelectorAll("td[data-task]").forEach((cell) => writeScore(cell, row, filter.step));
    });
    document.querySelectorAll("th[data-task], td[data-task], figure[data-task]").forEach((part) => {
      part.hidden = filter.task !== "" && part.dataset.task !== filter.task;
    });
    document.querySelectorAll(".group").forEach((group) => {
      group.hidden = !group.querySelector("tbody tr:not([hidden])");
      group.querySelector(".explained").hidden = filter.step !== "";
    });
    document.querySelectorAll("details[data-entry]").forEach((part) => {
      part.hidden = !shown.has(part.dataset.entry);
    });
    const at = byId("step").selectedOptions[0].textContent;
    const when = filter.step ? `step ${at}` : at;
    byId("said").textContent = `${shown.size} of ${rows.length} entries shown, scores at ${when}`;
    drawCurves(shown);
  }

  function drawCurves(shown) {
    const drawn = (drawing += 1);
    const names = new Set([...shown].map((entry) => data.entries[entry].curve));
    const along = document.querySelector('input[name="axis"]:checked').value;
    const figures = [...document.querySelectorAll("[data-chart]")];
    figures.forEach((figure) => {
      const lines = [...figure.parentElement.querySelectorAll(".legend li")];
      lines.forEach((line) => { line.hidden = !names.has(line.textContent.trim()); });
      if (lines.every((line) => line.hidden)) figure.parentElement.hidden = true;
    });
    const visible = figures.filter((figure) => figure.offsetParent !== null);
    Promise.all(
      visible.map((figure) => drawChart(figure, only(data.charts[figure.dataset.chart][along], names))),
    ).then(() => {
      if (drawn === drawing) document.body.dataset.charts = `${along} ${names.size}`;
    });
  }

  function only(spec, names) {
    const kept = Object.entries(spec.datasets).map(([name, rows_]) => [
      name, rows_.filter((row) => !("curve" in row) || names.has(row.curve)),
    ]);
    return { ...spec, datasets: Object.fromEntries(kept) };
  }

  document.documentElement.classList.add("js");
  byId("filters").hidden = false;
  byId("axes").hidden = false;
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("change", show);
  byId("name").addEventListener("input", show);
  byId("axes").addEventListener("change", show);
  show();
}

board(JSON.parse(document.getElementById("data").textContent));
