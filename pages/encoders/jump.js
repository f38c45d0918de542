// A link to a section keeps what the address says of the others, and so needs no new page.
document.addEventListener('click', (event) => {
  const link = event.target.closest?.('a[href^="encoders#"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  // The same one again scrolls there again.
  const place = link.hash;
  if (location.hash === place) document.querySelector(place)?.scrollIntoView();
  else location.hash = place;
});

// What stands above a section is drawn later and would push out of sight what the address names.
if (location.hash) {
  const growing = new ResizeObserver(() =>
    document.getElementById(location.hash.slice(1))?.scrollIntoView());
  growing.observe(document.body);
  const release = () => growing.disconnect();
  ['wheel', 'touchstart', 'pointerdown', 'keydown'].forEach((name) =>
    window.addEventListener(name, release, { once: true, passive: true }));
  setTimeout(release, 10000);
}
