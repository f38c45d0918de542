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
