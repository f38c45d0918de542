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
  const others = ['study-cell', 'paper', 'benchmark'].map((name) => [name, address.searchParams.get(name)]);
  address.search = shown.dataset.query;
  others.forEach(([name, value]) => value && address.searchParams.set(name, value));
  history.replaceState(history.state, '', address);
}

watch('value', () => requestAnimationFrame(place));
place();
element.dataset.ready = '1';
