// The cell that an address names is drawn after the browser has looked for it: it is shown then.
const observer = new MutationObserver(() => {
  const cell = element.querySelector('#study-cell');
  if (!cell || location.hash !== '#study-cell') return;
  observer.disconnect();
  cell.scrollIntoView();
});
observer.observe(element, { childList: true, subtree: true });
