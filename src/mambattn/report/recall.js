// A click on an architecture takes its lines off the figures and puts them back; the pointer over a figure picks the
// place whose values stand below it.
{
  const buttons = [...document.querySelectorAll(".picks [data-arch]")];

  const show = (button, shown) => {
    button.ariaPressed = String(shown);
    const arch = button.dataset.arch;
    for (const drawn of document.querySelectorAll(`[id$="-arch${arch}-line"], [id$="-arch${arch}-band"]`)) {
      drawn.style.display = shown ? "" : "none";
    }
    for (const item of document.querySelectorAll(`.readout [data-arch="${arch}"]`)) item.hidden = !shown;
  };
  for (const button of buttons) {
    button.addEventListener("click", () => show(button, button.ariaPressed !== "true"));
  }
  document.querySelector(".picks .all").addEventListener("click", () => {
    const shown = buttons.some((button) => button.ariaPressed !== "true");
    for (const button of buttons) show(button, shown);
  });

  for (const figure of document.querySelectorAll("figure[data-panel]")) {
    const { places, values } = JSON.parse(figure.dataset.panel);
    const svg = figure.querySelector("svg");
    const frame = svg.querySelector('[id$="-frame"]').getBBox();
    // A marker is drawn where there is a value, in the order of the places.
    const at = places.map(() => null);
    values.forEach((line, arch) => {
      const there = places.map((_, i) => i).filter((i) => line[i]);
      const drawn = svg.querySelectorAll(`[id$="-arch${arch}-line"] use`);
      there.forEach((i, j) => { at[i] = drawn[j].x.baseVal.value; });
    });
    const guide = document.createElementNS("http://www.w3.org/2000/svg", "line");
    guide.setAttribute("class", "guide");
    guide.setAttribute("y1", frame.y);
    guide.setAttribute("y2", frame.y + frame.height);
    const pick = (place) => {
      guide.setAttribute("x1", at[place]);
      guide.setAttribute("x2", at[place]);
      svg.append(guide);
      figure.querySelector(".place").textContent = places[place];
      values.forEach((line, arch) => {
        figure.querySelector(`[data-arch="${arch}"] output`).textContent = line[place] ?? "–";
      });
    };
    const follow = (event) => {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      const near = places.map((_, i) => i).filter((i) => at[i] !== null);
      pick(near.reduce((best, i) => (Math.abs(at[i] - x) < Math.abs(at[best] - x) ? i : best)));
    };
    if (at.some((x) => x !== null)) {
      svg.addEventListener("pointermove", follow);
      svg.addEventListener("click", follow);
    }
  }
}
