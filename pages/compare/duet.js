// Paints two live sessions. Gradio provides element, props and watch.
let turn = -1;
let busy = false;
let next = null;

// What is to be run is part of the address; the rest of it belongs to the stored comparison.
function put(address) {
  const url = new URL(location.href);
  url.searchParams.delete('start');
  Object.entries(address).forEach(([name, value]) => {
    if (value) url.searchParams.set(name, value);
    else url.searchParams.delete(name);
  });
  if (url.href !== location.href) history.replaceState(history.state, '', url);
}

function decode(source) {
  const bytes = Uint8Array.from(atob(source), (letter) => letter.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: 'image/jpeg' }));
}

// Both pictures change together, and a browser that is slower than they come skips to the newest.
async function show() {
  const value = props.value;
  if (!value || value.turn < turn) return;
  if (value.address) put(value.address);
  const skipped = next?.turn === value.turn ? next : null;
  turn = value.turn;
  next = structuredClone(value);
  ['a', 'b'].forEach((side) => {
    next[side].src ||= skipped?.[side].src ?? '';
    if (!next[side].eye && skipped?.[side].eye) {
      next[side].eye = skipped[side].eye;
      next[side].told = skipped[side].told;
    }
  });
  if (busy) return;
  busy = true;
  while (next) {
    const now = next;
    next = null;
    const [pictures, eyes] = await Promise.all(['src', 'eye'].map((name) =>
      Promise.all(['a', 'b'].map((side) =>
        (now[side][name] ? decode(now[side][name]).catch(() => null) : null)))));
    ['a', 'b'].forEach((side, index) => {
      const figure = element.querySelector(`figure[data-side=${side}]`);
      const canvas = figure.querySelector('.du-view');
      const told = now[side];
      if (pictures[index]) {
        canvas.getContext('2d').drawImage(pictures[index], 0, 0, canvas.width, canvas.height);
        pictures[index].close();
        canvas.setAttribute('aria-label', `${side.toUpperCase()}: the robot's table`);
        figure.dataset.painted = String(1 + Number(figure.dataset.painted ?? 0));
      }
      if (eyes[index]) {
        const eye = figure.querySelector('.du-eye');
        eye.getContext('2d').drawImage(eyes[index], 0, 0, eye.width, eye.height);
        eyes[index].close();
        figure.querySelector('.du-told').textContent = told.told
          ? `It sees this, and is told “${told.told}”.` : 'It sees this, and is told nothing.';
      }
      // Of an expert there is no such picture; that of the episode before must not stay.
      const given = figure.querySelector('.du-given');
      if (told.phase === 'waiting') given.hidden = true;
      if (told.eye) given.hidden = false;
      figure.dataset.phase = told.phase;
      figure.dataset.step = String(told.step);
      figure.querySelector('.du-badge').textContent = told.badge;
      figure.querySelector('figcaption').replaceChildren(told.caption);
      if (told.run) {
        const link = document.createElement('a');
        link.href = `/inspect?run=${told.run}`;
        link.target = '_self';
        link.textContent = 'Inspect';
        figure.querySelector('figcaption').append(' ', link);
      }
    });
    element.dataset.phase = now.phase;
    if (now.note) element.querySelector('.du-note').textContent = now.note;
  }
  busy = false;
}

watch('value', show);
show();
element.dataset.ready = '1';
