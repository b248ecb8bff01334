// Draws every figure, and fits it to the screen, the colour scheme and paper.
(() => {
  const narrow = matchMedia("(max-width: 700px)");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const plots = [...document.querySelectorAll(".plot")];
  const config = {
    responsive: true, displaylogo: false, modeBarButtons: [["toImage"]], displayModeBar: narrow.matches ? false : "hover",
  };

  function paint(plot, colour, layout) {
    const bars = plot.data.some((trace) => trace.error_x) ? { "error_x.color": colour } : {};
    return Plotly.update(plot, bars, { ...layout, "font.color": colour });
  }

  function fit(plot) {
    const meta = plot.layout.meta || {};
    return paint(plot, getComputedStyle(document.body).color, narrow.matches ? meta.narrow : meta.wide);
  }

  for (const plot of plots) {
    const spec = JSON.parse(document.getElementById(plot.id + "-spec").textContent);
    Plotly.newPlot(plot, spec.data, spec.layout, config).then(fit);
  }
  for (const query of [narrow, dark]) query.addEventListener("change", () => plots.forEach(fit));
  addEventListener("beforeprint", () => plots.forEach((plot) => paint(plot, "#222222", { width: 680 })));
  addEventListener("afterprint", () => plots.forEach((plot) => Plotly.relayout(plot, { width: null, autosize: true }).then(() => fit(plot))));
})();
