// Addresses are relative to the app, not to this page, so the browser would load it anew.
element.addEventListener('click', (event) => {
  const link = event.target.closest('a');
  const place = link && document.querySelector(link.hash);
  if (!place || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  place.scrollIntoView();
  const address = new URL(location.href);
  address.hash = link.hash;
  history.replaceState(history.state, '', address);
});
