// A read-out of the nearest point of each line under the pointer. Without this script the page loses nothing else.
(() => {
  "use strict";
  const readout = document.getElementById("readout");
  const shown = kind => document.querySelector(`.legend [value="${kind}"]`).checked;
  const row = (tag, text, kind) => {
    const element = document.createElement(tag);
    if (kind) element.className = kind;
    for (const part of text) {
      const span = document.createElement("span");
      span.textContent = part;
      element.append(span);
    }
    return element;
  };
  const nearest = (points, x) => points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);

  for (const figure of document.querySelectorAll("figure.chart")) {
    const svg = figure.querySelector("svg");
    const series = JSON.parse(figure.querySelector("script").textContent).filter(line => line.p.length);
    const isBars = figure.classList.contains("wide");
    svg.addEventListener("pointermove", event => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      let found = series.filter(line => shown(line.k)).map(line => ({ line, point: nearest(line.p, at.x) }));
      if (!found.length) { readout.hidden = true; return; }
      const closest = found.reduce((a, b) => Math.abs(b.point[0] - at.x) < Math.abs(a.point[0] - at.x) ? b : a);
      // Bars of one body size belong together; a line that ends elsewhere has nothing to say here.
      found = found.filter(f => isBars ? f.point[2] === closest.point[2] : Math.abs(f.point[0] - closest.point[0]) < 60);
      found.sort((a, b) => a.point[1] - b.point[1]);
      readout.replaceChildren(row("b", [closest.point[2]]));
      for (const f of found) readout.append(row("div", [f.line.n, f.point[3]], f.line.k));
      readout.hidden = false;
      const box = readout.getBoundingClientRect();
      const left = event.clientX + 16 + box.width > innerWidth ? event.clientX - 16 - box.width : event.clientX + 16;
      readout.style.left = `${Math.max(4, left)}px`;
      readout.style.top = `${Math.max(4, Math.min(event.clientY - box.height - 10, innerHeight - box.height - 4))}px`;
    });
    svg.addEventListener("pointerleave", () => { readout.hidden = true; });
  }
})();
