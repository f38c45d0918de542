// A press on a point of the overview opens the cell's episodes, as the list below it does. The plot is
// drawn after the page, and anew for another question.
function hear() {
  const plot = document.querySelector('#trained-cells .js-plotly-plot');
  if (!plot?.on || plot.dataset.heard) return;
  plot.dataset.heard = '1';
  plot.on('plotly_click', (event) => {
    const place = event.points[0].customdata?.[1];
    if (place) location.assign(place);
  });
}

new MutationObserver(hear)
  .observe(element.closest('.gradio-container') ?? document.body, { childList: true, subtree: true });
hear();
