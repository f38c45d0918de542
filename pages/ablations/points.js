// A press on a point of a chart opens its episodes, as the links below the chart do. Charts are drawn
// after the page, and anew for another policy or task.
function hear() {
  document.querySelectorAll('[id^="curve-"] .js-plotly-plot, #parts .js-plotly-plot')
    .forEach((plot) => {
      if (!plot.on || plot.dataset.heard) return;
      plot.dataset.heard = '1';
      plot.on('plotly_click', (event) => {
        const place = event.points[0].customdata?.[1];
        if (place) location.assign(place);
      });
    });
}

// The point that an address names is drawn after the browser has looked for it: it is shown then.
let wanted = location.hash === '#point';
function look() {
  const point = wanted && document.querySelector('#point');
  if (!point) return;
  wanted = false;
  point.scrollIntoView();
}

const observer = new MutationObserver(() => { hear(); look(); });
observer.observe(element.closest('.gradio-container') ?? document.body, { childList: true, subtree: true });
hear();
look();
