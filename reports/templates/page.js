// A read-out of the nearest point of each line under the pointer, a filter of the tables, and pictures for slides. Without this
// script the page shows all the same.
(() => {
  "use strict";
  const readout = document.getElementById("readout");
  const shown = kind => document.querySelector(`.legend [value="${kind}"]`)?.checked ?? true;
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
      found = found.filter(f => isBars || f.line.p.length === 1 ? f.point[2] === closest.point[2] : Math.abs(f.point[0] - closest.point[0]) < 60);
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
    const save = document.createElement("button");
    save.type = "button";
    save.className = "save";
    save.textContent = "PNG";
    save.title = "Save this chart as a picture";
    save.addEventListener("click", async () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await picture(svg));
      link.download = `${svg.getAttribute("aria-label").replace(/[^\w]+/g, "-").toLowerCase()}.png`;
      link.click();
      URL.revokeObjectURL(link.href);
    });
    figure.append(save);
  }

  // The chart as it looks now, twice as wide as a slide's half: styles are written into a copy, since a picture has no style sheet.
  async function picture(svg) {
    const width = 1920, box = svg.viewBox.baseVal, height = Math.round(width * box.height / box.width);
    const copy = svg.cloneNode(true);
    const properties = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "opacity", "display", "font-family", "font-size", "font-weight", "paint-order"];
    const originals = svg.querySelectorAll("*"), copies = copy.querySelectorAll("*");
    originals.forEach((element, index) => {
      const style = getComputedStyle(element);
      for (const name of properties) copies[index].style.setProperty(name, style.getPropertyValue(name));
    });
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    const image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(document.body).backgroundColor;
    context.fillRect(0, 0, width, height);
    context.drawImage(image, 0, 0);
    return new Promise(resolve => canvas.toBlob(resolve, "image/png"));
  }

  // Rows of tables follow the legend, and a word that is typed.
  const filter = document.getElementById("filter");
  const rows = document.querySelectorAll("tr[data-k]");
  const apply = () => {
    const word = filter.value.trim().toLowerCase();
    for (const tr of rows) tr.hidden = !shown(tr.dataset.k) || !tr.cells[0].textContent.toLowerCase().includes(word);
  };
  filter.hidden = false;
  filter.addEventListener("input", apply);
  document.querySelector(".legend").addEventListener("change", apply);
})();
