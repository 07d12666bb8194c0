// The section on interventions: images before and after an edit, and charts of gain and damage.

function wipe(figure) {
  const [slider, stage] = ["input", ".stage"].map((part) => figure.querySelector(part));
  const show = () => {
    stage.style.setProperty("--at", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value} % unedited, ${100 - slider.value} % edited`);
  };
  const follow = (event) => {
    if (event.buttons !== 1) return;
    const { left, width } = stage.getBoundingClientRect();
    slider.value = ((event.clientX - left) / width) * 100;
    show();
  };
  stage.addEventListener("pointerdown", follow);
  stage.addEventListener("pointermove", follow);
  stage.addEventListener("dragstart", (event) => event.preventDefault());
  slider.addEventListener("input", show);
  show();
}

function drawEffects(part) {
  const specs = JSON.parse(part.querySelector("script").textContent);
  const choice = part.querySelector(".over");
  const draw = () => {
    const control = choice?.querySelector("input:checked").value ?? Object.keys(specs)[0];
    const figures = [...part.querySelectorAll("[data-kind]")];
    return Promise.all(
      figures.map((figure) => drawChart(figure, specs[control][figure.dataset.kind])),
    ).then(() => { part.dataset.drawn = control; });
  };
  choice?.addEventListener("change", draw);
  if (choice) choice.hidden = false;
  return draw();
}

document.querySelectorAll(".wipe").forEach(wipe);
document.querySelectorAll("[data-effects]").forEach(drawEffects);
