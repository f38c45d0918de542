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
