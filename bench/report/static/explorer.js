// The interactive part of a run's page: one state, drawn again after every choice.

function explore(data) {
  const byId = (id) => document.getElementById(id);
  const section = byId("explorer");
  const [taskBox, kindBox, slider, play, said, tip] = [
    "task", "kind", "step", "play", "said", "tip",
  ].map(byId);
  data.tasks.forEach((task) => { task.range = rangeOf(task); });
  const state = { task: 0, kind: 0, row: 0, column: 0, axis: "step" };
  let [grid, markStep, timer, linking, drawing] = [null, null, null, null, 0];

  const task = () => data.tasks[state.task];
  const kind = () => task().kinds[state.kind];
  const layer = () => data.layers[state.row];
  const step = () => data.steps[state.column];

  function sentence() {
    const [mean, low, high] = ["mean", "low", "high"].map((n) => kind()[n][state.row][state.column]);
    const controls = scoresAt(data, task(), state.row, state.column)
      .filter(([name]) => name === "permuted labels" && name !== kind().name)
      .map(([name, ...values]) => `; ${name} ${span(...values)}`);
    const score = mean === null ? "no probe" : `${task().metric} ${span(mean, low, high)}`;
    return `${task().name}, ${kind().name}, ${layer()}, step ${step()}: ${score}${controls.join("")}`;
  }

  function drawCell(focus) {
    markCell(grid, state.row, state.column, focus);
    slider.value = state.column;
    const level = data.log_snr[state.column];
    const text = `step ${step()} of ${data.of}${level ? `, log-SNR ${level}` : ""}`;
    slider.setAttribute("aria-valuetext", text);
    byId("step-text").textContent = text;
    said.textContent = sentence();
    byId("readings").replaceChildren(readingsTable(data, task(), kind().name, layer(), step()));
    byId("beside").replaceChildren(scoresTable(data, task(), kind(), state.row, state.column));
    if (markStep) markStep(step());
    clearTimeout(linking);
    // Browsers refuse more than a few changes of the address per second.
    linking = setTimeout(() => {
      const parts = [task().name, kind().name, layer(), step(), state.axis];
      history.replaceState(null, "", `#${parts.map(encodeURIComponent).join("/")}`);
    }, 400);
  }

  function choose(row, column, focus = false) {
    Object.assign(state, { row, column });
    drawCell(focus);
  }

  function drawTask() {
    kindBox.replaceChildren(
      ...task().kinds.map(({ name }, index) =>
        element("option", { value: index, selected: index === state.kind }, name)),
    );
    taskBox.value = state.task;
    byId("question").textContent = task().question;
    byId("grid-title").textContent = `${task().name}: ${task().measure}, by layer and step`;
    const [worst, top] = task().higher ? task().range : [...task().range].reverse();
    byId("worst").textContent = number(worst);
    byId("top").textContent = number(top);
    grid = heatMap(data, task(), kind(), state.axis, choose);
    byId("grid").replaceChildren(grid);
    drawCurves();
    drawCell(false);
  }

  function drawCurves() {
    const drawn = (drawing += 1);
    markStep = null;
    byId("curve-legend").replaceChildren(...legendOf(task().lines));
    drawChart(byId("curves"), task().charts[state.axis], step(), (number_) => {
      choose(state.row, data.steps.indexOf(number_));
    }).then((mark) => {
      if (drawn !== drawing) return;
      markStep = mark;
      mark(step());
      section.dataset.charts = `${task().name} ${state.axis}`;
    });
  }

  function hover(event) {
    const cell = event.target.closest ? event.target.closest(".grid td") : null;
    if (!cell) {
      tip.hidden = true;
      return;
    }
    const [row, column] = [Number(cell.dataset.row), Number(cell.dataset.column)];
    tip.replaceChildren(
      element("b", {}, `${data.layers[row]}, step ${data.steps[column]}`),
      ...scoresAt(data, task(), row, column).map(([name, ...values]) =>
        element("div", {}, `${name} ${span(...values)}`)),
    );
    tip.hidden = false;
    const box = cell.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(box.right + 8, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(4, Math.min(box.bottom + 6, innerHeight - tip.offsetHeight - 8))}px`;
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }

  function start() {
    if (state.column === data.steps.length - 1) state.column = -1;
    play.textContent = "Stop";
    const advance = () => {
      choose(state.row, state.column + 1);
      if (state.column === data.steps.length - 1) stop();
    };
    timer = setInterval(advance, 600);
    advance();
  }

  function fromHash() {
    let parts;
    try {
      parts = location.hash.slice(1).split("/").map(decodeURIComponent);
    } catch {
      return false;
    }
    const found = [
      data.tasks.findIndex(({ name }) => name === parts[0]),
      data.layers.indexOf(parts[2]),
      data.steps.indexOf(Number(parts[3])),
    ];
    if (found.includes(-1)) return false;
    [state.task, state.row, state.column] = found;
    state.kind = Math.max(0, task().kinds.findIndex(({ name }) => name === parts[1]));
    if (parts[4] === "log_snr" && task().charts.log_snr) state.axis = "log_snr";
    return true;
  }

  taskBox.append(...data.tasks.map(({ name }, index) => element("option", { value: index }, name)));
  slider.max = data.steps.length - 1;
  if (!fromHash()) {
    state.column = Math.max(0, data.steps.findIndex((number_) => number_ >= 5));
    state.row = task().best[state.column] ?? 0;
  }
  document.querySelectorAll('input[name="axis"]').forEach((radio) => {
    radio.checked = radio.value === state.axis;
    radio.disabled = radio.value === "log_snr" && !task().charts.log_snr;
    radio.addEventListener("change", () => {
      state.axis = radio.value;
      drawTask();
    });
  });
  taskBox.addEventListener("change", () => {
    const name = kind().name;
    state.task = Number(taskBox.value);
    state.kind = Math.max(0, task().kinds.findIndex((other) => other.name === name));
    drawTask();
  });
  kindBox.addEventListener("change", () => {
    state.kind = Number(kindBox.value);
    drawTask();
  });
  slider.addEventListener("input", () => choose(state.row, Number(slider.value)));
  play.addEventListener("click", () => (timer ? stop() : start()));
  document.addEventListener("pointerover", hover);
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
  byId("scale").style.background = `linear-gradient(to right, ${data.palette
    .map((stop_) => `rgb(${stop_.join(" ")})`).join(", ")})`;
  section.hidden = false;
  document.documentElement.classList.add("js");
  drawTask();
}

explore(JSON.parse(document.getElementById("data").textContent));
