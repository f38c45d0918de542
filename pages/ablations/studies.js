// What an address names is drawn after the browser has looked for it: it is shown then.
const observer = new MutationObserver(() => {
  const named = location.hash && element.querySelector(`#${CSS.escape(location.hash.slice(1))}`);
  if (!named) return;
  observer.disconnect();
  named.scrollIntoView();
});
observer.observe(element, { childList: true, subtree: true });
