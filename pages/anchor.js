// What an address names comes into sight and stays there while what stands above it is drawn, until
// the visitor does something.
window.keepInSight = (find) => {
  const growing = new ResizeObserver(() => find()?.scrollIntoView());
  growing.observe(document.body);
  const release = () => growing.disconnect();
  ['wheel', 'touchstart', 'pointerdown', 'keydown'].forEach((name) =>
    window.addEventListener(name, release, { once: true, passive: true }));
  setTimeout(release, 10000);
};

if (location.hash) {
  window.keepInSight(() => document.getElementById(location.hash.slice(1)));
}
