// Charts: replace an image by the same chart with tooltips, as wide as its figure.

function drawChart(figure, spec, step = 0, choose = null) {
  const fitted = { ...spec, width: "container", autosize: { type: "fit-x", contains: "padding" } };
  const options = { renderer: "svg", actions: false, tooltip: { theme: "custom" } };
  return vegaEmbed(figure, fitted, options).then(({ view, finalize }) => {
    // The chart that was drawn here before lets go of its listeners.
    figure.finalizeChart?.();
    figure.finalizeChart = finalize;
    const mark = (number) => view.signal("chosen", number).runAsync();
    if (choose) {
      view.addEventListener("click", (_, item) => {
        if (item && item.datum && item.datum.step) choose(item.datum.step);
      });
    }
    return mark(step).then(() => mark);
  });
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function legendOf(lines) {
  return lines.map(({ name, colour, dashes, width }) => {
    const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    swatch.setAttribute("viewBox", "0 0 34 8");
    swatch.setAttribute("aria-hidden", "true");
    const line = document.createElementNS(swatch.namespaceURI, "path");
    line.setAttribute("d", "M0 4H34");
    line.style.stroke = `var(${colour})`;
    line.setAttribute("stroke-width", width);
    line.setAttribute("stroke-dasharray", dashes[1] ? dashes.join(" ") : "none");
    swatch.append(line);
    return element("li", {}, swatch, name);
  });
}
