// The scenes of the Compare page. Gradio provides element, props, trigger and watch; the helpers of
// the episode card (`svg`, `html`, `shape`, `place`, `line`, `calm`) stand above.
const part = (name) => element.querySelector(`.cp-${name}`);
const CELLS = [['both', 'Both'], ['only_a', 'Only A'], ['only_b', 'Only B'], ['neither', 'Neither']];
let asked = null;
let opened = null;
let turn = 0;

// The address is the state; what a person chose can be passed on. The live part keeps its own.
const MENUS = ['a', 'b', 'c', 'd', 'task', 'with'];
function put(address) {
  const url = new URL(location.href);
  [...MENUS, 'cell', 'page', 'scene'].forEach((name) => url.searchParams.delete(name));
  Object.entries(address).forEach(([name, value]) => value && url.searchParams.set(name, value));
  if (url.href !== location.href) history.replaceState(history.state, '', url);
}

function ask(changes) {
  element.firstElementChild.setAttribute('aria-busy', 'true');
  turn += 1;
  trigger('select', { index: 0, value: JSON.stringify({ ...asked, ...changes, turn }) });
}

function mark(side, [x, y]) {
  return side === 'a'
    ? svg('circle', { cx: x, cy: y, r: 6, class: 'cp-mark', 'data-side': 'a' })
    : svg('path', { d: `M${x} ${y - 8}L${x + 8} ${y}L${x} ${y + 8}L${x - 8} ${y}Z`, class: 'cp-mark', 'data-side': 'b' });
}

// Both sides over one drawing of the scene as it began. `at(step)` puts grippers and the named
// object of each side where they were after that step; whoever is done stays where it ended.
function ghost(scene) {
  const sides = ['a', 'b'].filter((side) => scene[side].sketch);
  if (!sides.length) return null;
  const base = scene[sides[0]].sketch;
  const moving = base.objects[0].length;
  const picture = svg('svg', {
    viewBox: base.box.join(' '), role: 'img',
    'aria-label': `${scene.task} ${scene.seed} from above: both grippers' ways`,
  });
  picture.classList.add('ec-drawing');
  picture.append(svg('rect', { x: base.box[0], y: base.box[1], width: base.box[2], height: base.box[3], class: 'ec-table' }));
  base.things.forEach((thing, index) => {
    picture.append(svg('g', { transform: place([...thing.at, 0]) }, shape(thing, index >= moving)));
  });
  const named = base.things[base.named].at;
  picture.append(svg('circle', { cx: named[0], cy: named[1], r: 34, class: 'ec-named' }));
  const goal = base.things[base.target]?.at;
  if (goal) picture.append(svg('circle', { cx: goal[0], cy: goal[1], r: 40, class: 'ec-target' }));
  const moved = sides.map((side) => {
    const { hand, objects, steps, named: which } = scene[side].sketch;
    picture.append(svg('path', { d: line(hand), class: 'cp-halo' }), svg('path', { d: line(hand), class: 'cp-way', 'data-side': side }));
    const object = svg('circle', { r: 20, class: 'cp-object', 'data-side': side });
    const grip = svg('g', {}, mark(side, [0, 0]));
    picture.append(object, grip);
    return { hand, objects, steps, which, object, grip };
  });
  const last = Math.max(...moved.map(({ steps }) => steps[steps.length - 1]));
  function at(step) {
    moved.forEach(({ hand, objects, steps, which, object, grip }) => {
      const found = steps.findIndex((one) => one >= step);
      const frame = found < 0 ? steps.length - 1 : found;
      const [x, y] = hand[frame];
      const [u, v] = objects[frame][which];
      grip.setAttribute('transform', `translate(${x} ${y})`);
      object.setAttribute('cx', u);
      object.setAttribute('cy', v);
    });
    picture.dataset.step = step;
  }
  at(last);
  return { picture, at, last };
}

// Twice the robot's own 20 steps a second.
function player(made, tell = () => {}) {
  let timer = 0;
  let from = 0;
  function stop() {
    cancelAnimationFrame(timer);
    timer = 0;
  }
  function play(start = 0) {
    stop();
    from = start;
    const began = performance.now();
    const tick = (now) => {
      if (!made.picture.isConnected) return stop();
      const step = Math.min(made.last, Math.floor(from + (now - began) / 25));
      made.at(step);
      tell(step);
      if (step >= made.last) return stop();
      timer = requestAnimationFrame(tick);
    };
    timer = requestAnimationFrame(tick);
  }
  return { play, stop, playing: () => Boolean(timer) };
}

const NAMES = { a: 'A', b: 'B' };

function verdict(scene, side) {
  const told = scene[side];
  const badge = html('a', { className: 'cp-verdict', href: `/inspect?run=${told.id}`, target: '_self' },
    html('b', {}, NAMES[side]), ` ${told.success ? '✓ success' : `✗ ${told.outcome}`}, ${told.steps} steps`);
  badge.dataset.kind = told.success ? 'success' : 'failure';
  badge.title = `${told.sentence} Press to inspect.`;
  return badge;
}

function card(scene) {
  const stage = html('button', { type: 'button', className: 'ec-stage' });
  stage.setAttribute('aria-label', `Open ${scene.task} ${scene.seed}: ${scene.a.instruction}`);
  const made = ghost(scene);
  if (made) {
    stage.append(made.picture);
    const run = player(made);
    stage.addEventListener('mouseenter', () => calm() || run.play());
    stage.addEventListener('mouseleave', () => { run.stop(); made.at(made.last); });
  } else stage.append(html('span', { className: 'ec-blank' }, 'No poses are kept.'));
  stage.addEventListener('click', () => show(scene, true));
  const same = scene.a.instruction === scene.b.instruction;
  const words = same ? [`“${scene.a.instruction}”`] : [`A: “${scene.a.instruction}”`, `B: “${scene.b.instruction}”`];
  const made_card = html('article', { className: 'ec cp-card' }, stage,
    ...words.map((text) => html('p', { className: 'ec-words' }, text)),
    html('p', { className: 'cp-verdicts' }, verdict(scene, 'a'), verdict(scene, 'b')),
    html('p', { className: 'ec-about' }, `${scene.task} ${scene.seed}`));
  made_card.setAttribute('role', 'listitem');
  made_card.dataset.scene = scene.key;
  return made_card;
}

function film(scene, side) {
  const told = scene[side];
  if (!told.film) return null;
  const video = html('video', { src: told.film, controls: true, muted: true, playsInline: true, preload: 'metadata' });
  video.setAttribute('aria-label', `Film of ${NAMES[side]}: ${told.sentence}`);
  return html('figure', {}, video, html('figcaption', {}, `${NAMES[side]}: ${told.sentence}`));
}

function show(scene, by_hand) {
  const stage = part('ghost');
  opened = scene?.key ?? null;
  stage.hidden = !scene;
  element.querySelectorAll('.cp-card').forEach((one) => {
    if (one.dataset.scene === opened) one.setAttribute('aria-current', 'true');
    else one.removeAttribute('aria-current');
  });
  if (by_hand) put({ ...asked, scene: opened ?? '' });
  if (!scene) return stage.replaceChildren();
  const made = ghost(scene);
  const close = html('button', { type: 'button' }, 'Close');
  close.addEventListener('click', () => show(null, true));
  const facts = html('div', { className: 'cp-facts' },
    html('h3', {}, `${scene.task} ${scene.seed}`),
    ...['a', 'b'].flatMap((side) => [
      html('p', {}, html('b', {}, `${NAMES[side]}: `), `“${scene[side].instruction}” ${scene[side].sentence}`),
      html('p', { className: 'cp-verdicts' }, verdict(scene, side)),
    ]));
  if (made) {
    const slider = html('input', { type: 'range', min: 0, max: made.last, value: made.last });
    slider.setAttribute('aria-label', 'Step of both sides');
    const told = html('output', {}, `step ${made.last}`);
    const tell = (step) => { slider.value = step; told.textContent = `step ${step}`; };
    const run = player(made, tell);
    const go = html('button', { type: 'button', className: 'cp-play' }, 'Play both');
    go.addEventListener('click', () => run.play(0));
    // A key that changes nothing, such as Home at the start, is no input.
    ['keydown', 'pointerdown'].forEach((event) => slider.addEventListener(event, run.stop));
    slider.addEventListener('input', () => { run.stop(); made.at(+slider.value); tell(+slider.value); });
    facts.append(html('p', { className: 'cp-transport' }, go, slider, told, close));
    stage.replaceChildren(html('div', { className: 'cp-stage' }, made.picture), facts);
    if (by_hand && !calm()) run.play(0);
  } else {
    facts.append(close);
    stage.replaceChildren(facts);
  }
  const films = ['a', 'b'].map((side) => film(scene, side)).filter(Boolean);
  if (films.length) {
    const both = html('div', { className: 'cp-films' }, ...films);
    const videos = [...both.querySelectorAll('video')];
    // Both films run in step, whichever is started.
    videos.forEach((one) => ['play', 'pause', 'seeked'].forEach((event) => one.addEventListener(event, () => {
      videos.filter((other) => other !== one).forEach((other) => {
        if (Math.abs(other.currentTime - one.currentTime) > 0.1) other.currentTime = one.currentTime;
        if (event === 'play' && other.paused && !other.ended) other.play();
        if (event === 'pause' && !other.paused) other.pause();
      });
    })));
    stage.append(both);
  }
  if (by_hand) {
    stage.focus({ preventScroll: true });
    stage.scrollIntoView({ block: 'center', behavior: calm() ? 'auto' : 'smooth' });
  }
}

function cells(value) {
  part('cells').replaceChildren(...CELLS.map(([name, title]) => {
    const n = value.cells[name];
    const button = html('button', { type: 'button', disabled: !n },
      html('b', {}, String(n)), html('span', {}, title));
    button.dataset.cell = name;
    button.setAttribute('aria-pressed', String(value.cell === name));
    button.addEventListener('click', () => ask({ cell: name, page: '', scene: '' }));
    return button;
  }));
}

// An answer that comes after the next question is nobody's any more: what is pressed counts its
// questions, and a menu's answer was overtaken where its choice is shown already.
function late({ turn: asking, address }) {
  if (asking) return Number(asking) < turn;
  return asked && MENUS.every((name) => (address[name] ?? '') === (asked[name] ?? ''));
}

function draw() {
  const value = props.value;
  if (!value || late(value)) return;
  element.firstElementChild.setAttribute('aria-busy', 'false');
  part('message').hidden = !value.problem;
  part('message').textContent = value.problem;
  part('message').dataset.empty = value.empty ? '1' : '';
  part('body').hidden = Boolean(value.problem);
  // What an address asks for may still be on its way into the table.
  if (asked || !value.problem) put(value.address);
  asked = value.address;
  if (value.problem) return;
  cells(value);
  part('wall').replaceChildren(...value.scenes.map(card));
  part('count').textContent = `${value.total} scene${value.total > 1 ? 's' : ''}, page ${value.page} of ${value.pages}`;
  element.querySelectorAll('[data-page]').forEach((button) => {
    const next = value.page + Number(button.dataset.page);
    button.disabled = next < 1 || next > value.pages;
    button.onclick = () => ask({ page: String(next), scene: '' });
  });
  show(value.scenes.find((one) => one.key === asked.scene) ?? null, false);
}

watch('value', draw);
draw();
element.dataset.ready = '1';
