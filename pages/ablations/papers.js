// The address says which of the paper's tables is shown, beside what the matrix writes there.
function place() {
  const shown = element.querySelector('[data-paper]');
  if (!shown) return;
  const address = new URL(location.href);
  const before = address.search;
  ['paper', 'benchmark'].forEach((name) => {
    if (shown.dataset[name]) address.searchParams.set(name, shown.dataset[name]);
    else address.searchParams.delete(name);
  });
  if (address.search === before) return;
  if (shown.dataset.paper) address.hash = 'paper';
  history.replaceState(history.state, '', address);
}

watch('value', () => requestAnimationFrame(place));
place();

// What stands above is drawn later and would push out of sight what the address names.
if (location.hash === '#paper') {
  const growing = new ResizeObserver(() => element.closest('#paper').scrollIntoView());
  growing.observe(document.body);
  const release = () => growing.disconnect();
  ['wheel', 'touchstart', 'pointerdown', 'keydown'].forEach((name) =>
    window.addEventListener(name, release, { once: true, passive: true }));
  setTimeout(release, 10000);
}
