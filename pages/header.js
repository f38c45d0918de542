// The bar on every page: the project's name at its left, a key for each page, the run that is kept.
(() => {
  const links = () => [...document.querySelectorAll('.nav-holder nav a:not(.site-name)')];
  // An episode is looked at on these two; the others would not know what to do with it.
  const OF_A_RUN = ['', 'inspect'];

  function carry(link) {
    const goal = new URL(link.href);
    const run = new URLSearchParams(location.search).get('run');
    if (run && OF_A_RUN.includes(goal.pathname.split('/').pop())) goal.searchParams.set('run', run);
    else goal.searchParams.delete('run');
    link.href = goal.href;
  }

  function build(nav) {
    const name = document.createElement('a');
    name.className = 'site-name';
    name.textContent = 'VLM4VLA';
    name.href = links()[0].href;
    nav.prepend(name);
    links().forEach((link, index) => {
      link.title = `Key ${index + 1}`;
      link.setAttribute('aria-keyshortcuts', String(index + 1));
    });
    // Before the browser reads where it leads, whichever button or key opens it.
    ['pointerdown', 'keydown', 'click'].forEach((event) => {
      nav.addEventListener(event, ({ target }) => {
        const link = target.closest('a:not(.site-name)');
        if (link) carry(link);
      }, true);
    });
  }

  const TYPED = 'textarea, select, [contenteditable], input:not([type=radio], [type=checkbox])';
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (event.defaultPrevented || event.target.closest?.(TYPED)) return;
    const link = /^[1-9]$/.test(event.key) && links()[Number(event.key) - 1];
    if (!link) return;
    carry(link);
    link.click();
  });

  const waiting = new MutationObserver(() => {
    const nav = document.querySelector('.nav-holder nav');
    if (!nav || !links().length) return;
    waiting.disconnect();
    build(nav);
  });
  waiting.observe(document, { childList: true, subtree: true });
})();
