// The Failures page. Gradio provides element, props, trigger and watch; the card stands above.
const part = (name) => element.querySelector(`.fl-${name}`);
const SEVERAL = '~';
const ALL = 'all';
// Values of a facet that stand open; a list of every checkpoint ever measured is long.
const MOST_VALUES = 8;
// What is shown. It comes as text: Gradio watches every number of an object, which takes seconds.
let value = null;
let turn = 0;
let answered = -1;
let asked = {};
let selected = '';
let waiting = 0;
let again = 0;
// Notes that are not kept yet, by episode: the wall is drawn anew while somebody writes.
const drafts = new Map();
const handedIn = new Map();

const WHO = 'vlm4vla:who';
function who() {
  const field = part('who').querySelector('input');
  if (!field.value.trim()) field.value = `visitor ${Math.random().toString(36).slice(2, 8)}`;
  try { localStorage.setItem(WHO, field.value); } catch { /* a browser that keeps nothing */ }
  return field.value;
}

function fromAddress() {
  return Object.fromEntries(new URLSearchParams(location.search));
}

// The address is the state: going back shows what was there.
function put(address, { anew = true } = {}) {
  const url = new URL(location.href);
  [...url.searchParams.keys()].forEach((name) => {
    if (!name.startsWith('__')) url.searchParams.delete(name);
  });
  Object.entries(address).forEach(([name, value]) => value && url.searchParams.set(name, value));
  if (url.href === location.href) return;
  if (anew) history.pushState(null, '', url);
  else history.replaceState(history.state, '', url);
}

function ask(address, more = {}, { keep = false } = {}) {
  asked = address;
  turn += 1;
  if (!keep) put(address);
  clearTimeout(again);
  element.firstElementChild.setAttribute('aria-busy', 'true');
  trigger('select', { index: 0, value: JSON.stringify({ turn, address, ...more }) });
}

const values = (name) => (asked[name] ? asked[name].split(SEVERAL) : []);

// What is left open means the newest evaluation's; to choose another value is to say so.
function choose(name, wanted) {
  const next = { ...asked, page: '', [name]: wanted.join(SEVERAL) };
  ask(next);
}

// Labels add up; of the others one is chosen, and Shift adds to it.
function toggle(facet, { value, chosen }, more) {
  const { name } = facet;
  if (name === 'kind') {
    // Its numbers are of every checkpoint and condition, unless some were chosen.
    const { agent = '', condition = '' } = asked;
    const kind = value === 'evaluation' ? '' : value;
    ask({ ...asked, page: '', kind, agent: agent || ALL, condition: condition || ALL });
    return;
  }
  if (value === ALL) {
    choose(name, chosen ? [] : [ALL]);
    return;
  }
  const now = facet.values.filter((one) => one.chosen && one.value !== ALL).map((one) => one.value);
  const without = now.filter((one) => one !== value);
  const several = more || name === 'label';
  const wanted = several ? (now.includes(value) ? without : [...now, value])
    : now.length === 1 && now[0] === value ? [] : [value];
  const open = ['agent', 'condition'].includes(name);
  choose(name, wanted.length || !open ? wanted : [ALL]);
}

const percent = (share) => `${Math.round(100 * share)}`;

function drawValue(facet, one) {
  const button = html('button', { type: 'button' });
  if (facet.name === 'label' && one.value !== ALL) {
    const swatch = html('i', { className: 'ec-swatch' });
    swatch.dataset.label = one.value;
    button.append(swatch);
    button.title = value.rules[one.value] ?? '';
  }
  const share = facet.name === 'label' ? one.n.toLocaleString('en')
    : `${one.failed.toLocaleString('en')} of ${one.n.toLocaleString('en')}`;
  button.append(html('span', {}, one.text), html('b', {}, share));
  button.setAttribute('aria-pressed', String(one.chosen));
  button.dataset.facet = facet.name;
  button.dataset.value = one.value;
  button.addEventListener('click', (event) => toggle(facet, one, event.shiftKey));
  return button;
}

function drawFacets(value) {
  part('facets').replaceChildren(...value.facets.filter((one) => one.values.length).map((facet) => {
    const open = facet.values.filter((one, place) => place <= MOST_VALUES || one.chosen);
    const rest = facet.values.filter((one) => !open.includes(one));
    const made = html('fieldset', { className: 'fl-facet' }, html('legend', {}, facet.title),
      ...open.map((one) => drawValue(facet, one)));
    if (rest.length) {
      made.append(html('details', {}, html('summary', {}, `${rest.length} more`),
        ...rest.map((one) => drawValue(facet, one))));
    }
    return made;
  }));
}

// What has room in a part of a bar: a letter takes about 8 pixels.
function inside(one, row) {
  const room = (one.k / row.n) * (part('rows').clientWidth - 190);
  const name = one.label.length * 8 + 30 < room ? [html('span', {}, ` ${one.label}`)] : [];
  return String(one.k).length * 8 < room ? [html('b', {}, one.k), ...name] : [];
}

function drawBars(value) {
  const chosen = { task: values('task'), label: values('label') };
  part('rows').replaceChildren(...value.bars.map((row) => {
    const failed = row.parts.reduce((sum, one) => sum + one.k, 0);
    const bar = html('div', { className: 'fl-stack' }, ...row.parts.map((one) => {
      const words = `${row.task}, ${one.label}: ${one.k} of ${row.n} `
        + `(95 % ${percent(one.low)} to ${percent(one.high)} %)`;
      const made = html('button', { type: 'button', title: words }, ...inside(one, row));
      made.setAttribute('aria-label', words);
      made.dataset.label = one.label;
      made.style.width = `${(100 * one.k) / row.n}%`;
      const on = chosen.task.join() === row.task && chosen.label.join() === one.label;
      made.setAttribute('aria-pressed', String(on));
      made.addEventListener('click', () => ask({
        ...asked, page: '', task: on ? '' : row.task, label: on ? '' : one.label,
      }));
      return made;
    }));
    const name = html('button', { type: 'button', className: 'fl-task' }, row.task);
    name.setAttribute('aria-pressed', String(chosen.task.join() === row.task));
    name.addEventListener('click', () => choose('task', chosen.task.join() === row.task ? [] : [row.task]));
    return html('div', { className: 'fl-row' }, name, bar,
      html('span', { className: 'fl-share' }, `${failed.toLocaleString('en')} of ${row.n.toLocaleString('en')}`));
  }));
}

function drawMap(value) {
  const { box, dots, successes, cell, region } = value.map;
  const picture = svg('svg', { viewBox: box.join(' '), role: 'img' });
  picture.setAttribute('aria-label',
    `${dots.length} failures on the table, seen from above, the robot at the top`);
  picture.append(svg('rect', { x: box[0], y: box[1], width: box[2], height: box[3], class: 'ec-table' }));
  const most = Math.max(1, ...successes.map((one) => one[2]));
  successes.forEach(([x, y, n]) => picture.append(svg('rect', {
    x: x - cell / 2, y: y - cell / 2, width: cell, height: cell, class: 'fl-success',
    'fill-opacity': 0.08 + (0.3 * n) / most,
  })));
  dots.forEach(([x, y, label, id]) => {
    const dot = svg('circle', { cx: x, cy: y, r: dots.length > 300 ? 3 : 5, class: 'fl-dot' },
      svg('title', {}, label));
    dot.dataset.label = label;
    dot.dataset.id = id;
    picture.append(dot);
  });
  picture.append(svg('text', { x: box[0] + box[2] / 2, y: box[1] + 16, class: 'fl-note' }, 'robot'));
  const frame = svg('rect', { class: 'fl-frame', visibility: 'hidden' });
  picture.append(frame);
  if (region) {
    const [x0, x1, y0, y1] = region.map((one) => 1000 * one);
    stretch(frame, [y0, x0], [y1, x1]);
  }
  dragging(picture, frame);
  const more = dots.length >= value.map.most ? ` The newest ${dots.length} failures are shown.` : '';
  part('map').querySelector('figcaption').textContent =
    `Where the named object lay: a dot a failure, grey where it succeeded. Drag a rectangle to choose.${more}`;
  part('table').replaceChildren(picture);
  const fields = part('region').elements;
  ['x0', 'x1', 'y0', 'y1'].forEach((name, place) => {
    fields[name].value = region ? Math.round(1000 * region[place]) / 10 : '';
  });
}

function stretch(frame, [ax, ay], [bx, by]) {
  frame.setAttribute('x', Math.min(ax, bx));
  frame.setAttribute('y', Math.min(ay, by));
  frame.setAttribute('width', Math.abs(ax - bx));
  frame.setAttribute('height', Math.abs(ay - by));
  frame.setAttribute('visibility', 'visible');
}

function chooseRegion(x0, x1, y0, y1) {
  const text = (a, b) => `${Math.min(a, b).toFixed(3)}${SEVERAL}${Math.max(a, b).toFixed(3)}`;
  ask({ ...asked, page: '', x: text(x0, x1), y: text(y0, y1) });
}

function dragging(picture, frame) {
  let from = null;
  const at = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(picture.getScreenCTM().inverse());
    return [point.x, point.y];
  };
  picture.addEventListener('pointerdown', (event) => {
    from = at(event);
    picture.setPointerCapture(event.pointerId);
  });
  picture.addEventListener('pointermove', (event) => from && stretch(frame, from, at(event)));
  picture.addEventListener('pointerup', (event) => {
    const to = at(event);
    const [a, b] = from ?? to;
    from = null;
    // A press without a way is no rectangle.
    if (Math.abs(a - to[0]) < 8 || Math.abs(b - to[1]) < 8) return;
    chooseRegion(b / 1000, to[1] / 1000, a / 1000, to[0] / 1000);
  });
  picture.addEventListener('pointercancel', () => { from = null; });
}

function drawCard(one, value) {
  const card = episodeCard(one);
  card.setAttribute('role', 'listitem');
  const menu = html('select', { className: 'ec-human' },
    html('option', { value: '' }, 'Your label …'),
    ...value.labels.map((name) => html('option', { value: name, title: value.rules[name] ?? '' }, name)));
  menu.setAttribute('aria-label', `Your label of ${one.scene}`);
  const mine = one.people.filter((said) => said.label && said.who === part('who').querySelector('input').value);
  if (mine.length) menu.value = mine.at(-1).label;
  menu.addEventListener('change', () => menu.value && tell({ id: one.id, label: menu.value }));
  const note = html('input', { className: 'ec-note', maxLength: 500, placeholder: 'Note …' });
  note.setAttribute('aria-label', `Note on ${one.scene}`);
  note.value = drafts.get(one.id) ?? '';
  note.addEventListener('input', () => drafts.set(one.id, note.value));
  const keep = html('button', { type: 'button' }, 'Keep');
  const write = () => note.value.trim() && tell({ id: one.id, label: '', note: note.value });
  keep.addEventListener('click', write);
  note.addEventListener('keydown', (event) => event.key === 'Enter' && write());
  const said = html('ul', { className: 'ec-said' }, ...one.people.map((item) =>
    html('li', {}, `${item.who}: ${[item.label, item.note && `“${item.note}”`].filter(Boolean).join(', ')}`)));
  const { page, ...list } = value.address;
  const query = new URLSearchParams({ run: one.id, t: one.step, list: new URLSearchParams(list) });
  const inspect = html('a', { className: 'ec-link', href: `/inspect?${query}` }, 'Inspect');
  const links = html('p', { className: 'ec-links' }, inspect);
  if (one.other) {
    links.append(html('a', { className: 'ec-other', href: one.other, title: 'The same scene and sentence, live on Compare' }, 'On another backbone'));
  }
  if (one.film) {
    const film = html('button', { type: 'button' }, 'Whole film');
    film.addEventListener('click', () => {
      const video = html('video', { src: `/films/${one.id}.mp4`, controls: true, muted: true, autoplay: !calm(), loop: true, playsInline: true });
      video.setAttribute('aria-label', `Film of ${one.scene}`);
      delete card.dataset.clip;
      card.querySelector('.ec-stage').replaceWith(video);
      film.remove();
    });
    links.append(film);
  }
  card.append(html('div', { className: 'ec-saying' }, menu, note, keep), said, links);
  if (!one.people.length) said.remove();
  withClip(card, one.clip);
  return card;
}

function tell(said) {
  if (said.note) handedIn.set(said.id, said.note);
  ask(asked, { say: { who: who(), note: '', ...said } }, { keep: true });
}

function select(card, { focus = true } = {}) {
  element.querySelectorAll('.ec[aria-current]').forEach((one) => one.removeAttribute('aria-current'));
  selected = card?.dataset.id ?? '';
  if (!card) return;
  card.setAttribute('aria-current', 'true');
  if (focus) {
    card.querySelector('.ec-stage, video').focus({ preventScroll: true });
    card.scrollIntoView({ block: 'nearest', behavior: calm() ? 'auto' : 'smooth' });
  }
}

function step(by) {
  const cards = [...element.querySelectorAll('.ec')];
  const now = cards.findIndex((one) => one.dataset.id === selected);
  const next = now < 0 ? (by > 0 ? 0 : cards.length - 1) : now + by;
  if (next >= 0 && next < cards.length) select(cards[next]);
  else turnPage(by);
}

function turnPage(by) {
  const wanted = (value?.page ?? 1) + by;
  if (!value || wanted < 1 || wanted > value.pages) return;
  waiting = by;
  ask({ ...asked, page: wanted > 1 ? String(wanted) : '' });
}

function say(text) {
  part('message').hidden = !text;
  part('message').textContent = text ?? '';
}

function show() {
  const sent = props.value && JSON.parse(props.value);
  if (sent?.said && drafts.get(sent.said) === handedIn.get(sent.said)) drafts.delete(sent.said);
  // An older answer, come late, or one that Gradio hands over again.
  if (!sent || sent.turn < turn || sent.turn === answered) return;
  answered = sent.turn;
  value = sent;
  const root = element.firstElementChild;
  root.setAttribute('aria-busy', 'false');
  if (value.problem) {
    part('sentence').textContent = 'The failures cannot be shown.';
    say(value.problem);
    return;
  }
  if (!value.turn) asked = value.asked;
  if (value.run) {
    selected = value.run;
    put(asked, { anew: false });
  }
  part('sentence').textContent = value.empty ? 'No episode is kept here yet.' : value.sentence;
  part('about').textContent = value.empty
    ? 'Episodes come from the Run page, from `vlm4vla eval` and with the shipped results, which are brought in at the first start.'
    : value.about;
  part('body').hidden = value.empty;
  say(value.told ?? (value.waits && !value.empty
    ? `${value.missing.toLocaleString('en')} episodes still wait for their labels; these figures grow.` : ''));
  if (value.waits || value.empty) again = setTimeout(() => ask(asked, {}, { keep: true }), 2500);
  const typed = document.activeElement;
  const focus = element.contains(typed) ? { facet: typed.dataset.facet, value: typed.dataset.value, label: typed.dataset.label } : null;
  const writing = typed?.matches('.ec-note') && part('wall').contains(typed)
    ? { id: typed.closest('.ec').dataset.id, range: [typed.selectionStart, typed.selectionEnd] } : null;
  drawFacets(value);
  drawBars(value);
  drawMap(value);
  part('kappa').textContent = value.kappa;
  part('check').textContent = value.check.said;
  part('command').textContent = value.check.command;
  part('pairs').hidden = !value.check.command;
  part('pairs').querySelector('table').hidden = !value.check.rows.length;
  part('pairs').querySelector('tbody').replaceChildren(...value.check.rows.map((row) =>
    html('tr', {}, ...row.map((cell) => html('td', {}, cell)))));
  const named = values('label').filter((name) => value.rules[name]);
  part('rule').replaceChildren(...named.flatMap((name) => [html('b', {}, `${name}: `), `${value.rules[name]} `]));
  part('rules').querySelector('dl').replaceChildren(...Object.entries(value.rules).flatMap(
    ([name, words]) => [html('dt', {}, name), html('dd', {}, words)]));
  const first = (value.page - 1) * 24 + 1;
  part('count').textContent = value.total
    ? `Episodes ${first.toLocaleString('en')} to ${(first + value.cards.length - 1).toLocaleString('en')} of ${value.total.toLocaleString('en')}` : 'No episode like this.';
  part('pager').hidden = value.pages < 2;
  part('pager').children[0].disabled = value.page <= 1;
  part('pager').children[1].disabled = value.page >= value.pages;
  const query = new URLSearchParams(value.address);
  query.delete('page');
  part('csv').href = `/failures.csv?${query}`;
  part('jsonl').href = `/failures.jsonl?${query}`;
  part('wall').replaceChildren(...value.cards.map((one) => drawCard(one, value)));
  drawLook();
  element.dataset.shown = String(Number(element.dataset.shown ?? 0) + 1);
  if (waiting) {
    const cards = element.querySelectorAll('.ec');
    select(waiting > 0 ? cards[0] : cards[cards.length - 1]);
    waiting = 0;
  } else if (selected) {
    const card = element.querySelector(`.ec[data-id='${selected}']`);
    select(card, { focus: Boolean(value.said || value.run) });
  }
  const note = writing && !sent.said && element.querySelector(`.ec[data-id='${writing.id}'] .ec-note`);
  if (note) {
    note.focus({ preventScroll: true });
    note.setSelectionRange(...writing.range);
  }
  if (focus?.facet) {
    [...element.querySelectorAll('.fl-facet button')]
      .find((one) => one.dataset.facet === focus.facet && one.dataset.value === focus.value)?.focus();
  }
}

function drawLook() {
  part('look').hidden = !value.clips;
  part('look').querySelectorAll('button').forEach((one) =>
    one.setAttribute('aria-pressed', String(one.dataset.look === look())));
  part('clips').hidden = !value.clips || look() !== 'clips';
  showClips([...element.querySelectorAll('.ec')], Boolean(value.clips));
}

part('look').addEventListener('click', ({ target }) => {
  if (!target.dataset.look) return;
  try { localStorage.setItem(LOOK, target.dataset.look); } catch { /* a browser that keeps nothing */ }
  drawLook();
});
part('wall').addEventListener('focusin', (event) => {
  const card = event.target.closest('.ec');
  if (card && card.dataset.id !== selected) select(card, { focus: false });
});
part('pager').addEventListener('click', (event) => {
  if (event.target.dataset.page) turnPage(Number(event.target.dataset.page));
});
part('region').addEventListener('submit', (event) => {
  event.preventDefault();
  const fields = event.target.elements;
  const ends = ['x0', 'x1', 'y0', 'y1'].map((name) => fields[name].value);
  if (ends.some((end) => end === '')) say('Fill in all four numbers, or drag a rectangle.');
  else chooseRegion(...ends.map((end) => Number(end) / 100));
});
part('region').querySelector('[data-clear]').addEventListener('click', () => ask({ ...asked, page: '', x: '', y: '' }));
// A narrow screen shows the answer first.
if (window.matchMedia('(max-width: 860px)').matches) part('rail').open = false;
try { part('who').querySelector('input').value = localStorage.getItem(WHO) ?? ''; } catch { /* nothing kept */ }

// The label of the selected card is wrong: its menu offers the others.
function sayWrong(event) {
  const menu = element.querySelector(`.ec[data-id='${selected}'] .ec-human`);
  if (!menu) return;
  event.preventDefault();
  menu.focus();
  // Not every browser opens a menu for a script.
  try { menu.showPicker(); } catch { /* it has the focus: a key opens it */ }
}

function keys(event) {
  if (!element.isConnected) {
    document.removeEventListener('keydown', keys);
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target.closest('input, textarea, select, [contenteditable]')) return;
  if (event.key === 'j') step(1);
  else if (event.key === 'k') step(-1);
  else if (event.key === 'x' && selected) sayWrong(event);
  else if (event.key === 'i' && selected) element.querySelector(`.ec[data-id='${selected}'] .ec-link`)?.click();
}
document.addEventListener('keydown', keys);
window.addEventListener('popstate', () => element.isConnected && ask(fromAddress(), {}, { keep: true }));
watch('value', show);
show();
element.dataset.ready = '1';
