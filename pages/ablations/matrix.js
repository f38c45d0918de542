// A press on a cell asks for its episodes. Gradio provides element, props, watch and trigger.
element.addEventListener('click', (event) => {
  const cell = event.target.closest?.('[data-cell]');
  if (cell) trigger('select', { index: cell.dataset.cell, value: cell.dataset.cell });
});

// The address is the state: loading the page again shows the same cell.
function place() {
  const shown = element.querySelector('[data-query]');
  if (!shown) return;
  const address = new URL(location.href);
  const cell = address.searchParams.get('study-cell');
  address.search = shown.dataset.query;
  if (cell) address.searchParams.set('study-cell', cell);
  history.replaceState(history.state, '', address);
}

watch('value', () => requestAnimationFrame(place));
place();
element.dataset.ready = '1';
