// Paints the stream of a live view. Gradio provides element, props and watch.
const canvas = element.querySelector('.lv-view');
const eye = element.querySelector('.lv-eye');
const part = (name) => element.querySelector(`.lv-${name}`);
let turn = -1;
let painted = 0;
let busy = false;
let next = null;

function decode(source) {
  const bytes = Uint8Array.from(atob(source), (letter) => letter.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: 'image/jpeg' }));
}

function draw(picture, target) {
  target.getContext('2d').drawImage(picture, 0, 0, target.width, target.height);
  picture.close();
}

// Flat cells, nothing smoothed; orange raises and blue lowers, as in the exported maps.
let cells = [];
let most = 0;
function lay(now) {
  [cells, most] = [now.cells, now.most];
  const side = Math.sqrt(cells.length);
  const context = eye.getContext('2d');
  const length = eye.width / side;
  cells.forEach((share, index) => {
    const strength = 0.75 * Math.min(1, Math.abs(share));
    context.fillStyle = `rgba(${share > 0 ? '255, 120, 0' : '0, 110, 255'}, ${strength})`;
    context.fillRect((index % side) * length, Math.floor(index / side) * length, length, length);
  });
  element.dataset.cells = String(cells.length);
  tellTapped();
  eye.setAttribute('aria-label', cells.length ? `What the model saw, under a map: ${strongest()}` : 'What the model sees');
}

function strongest() {
  const index = cells.reduce((best, share, i) => (share > cells[best] ? i : best), 0);
  return `the strongest cell is ${named(index)}`;
}

function named(index) {
  const side = Math.sqrt(cells.length);
  return `row ${Math.floor(index / side) + 1}, column ${(index % side) + 1}, ${worth(index)}`;
}

const worth = (index) => `${(cells[index] * most).toFixed(1)} mm`;
function cellAt(event) {
  const side = Math.sqrt(cells.length);
  const area = eye.getBoundingClientRect();
  const column = Math.floor((side * (event.clientX - area.left)) / area.width);
  const row = Math.floor((side * (event.clientY - area.top)) / area.height);
  return cells.length && column < side && row < side ? row * side + column : -1;
}
eye.addEventListener('pointermove', (event) => {
  const index = cellAt(event);
  eye.title = index < 0 ? '' : worth(index);
});

// A finger does not hover: a tap tells the same below the picture, and goes on telling it.
let tapped = -1;
function tellTapped() {
  part('cell').textContent = tapped >= 0 && cells.length ? `Tapped: ${named(tapped)}` : '';
}
eye.addEventListener('click', (event) => {
  tapped = cellAt(event);
  tellTapped();
});

// Both pictures are painted together; under a map the second is the one that the map is of.
async function paint(now) {
  const [view, model] = await Promise.all([decode(now.src), now.eye ? decode(now.eye) : null]);
  draw(view, canvas);
  if (model) {
    // The recording's last picture, told again, does not cover what plays already.
    if (!now.seen || seen.dataset.source !== now.seen || !element.dataset.seen) draw(model, eye);
    lay(now);
  }
  element.dataset.eye = model ? '1' : '';
  painted += 1;
  element.dataset.painted = String(painted);
}

// What the model saw plays unseen, in step with the film, and is drawn where the live picture stands.
const seen = Object.assign(document.createElement('video'), {
  muted: true, loop: true, playsInline: true, preload: 'auto',
});
const FRAME_SECONDS = 0.05;
function follow() {
  const video = part('video');
  if (!seen.dataset.source) return;
  if (video.paused) seen.pause();
  else if (seen.paused) seen.play().catch(() => {});
  if (seen.readyState < HTMLMediaElement.HAVE_CURRENT_DATA || seen.seeking) return;
  const apart = Math.abs(seen.currentTime - video.currentTime);
  // While both play they may be a frame apart; what stands still is the same moment.
  if (apart > (video.paused ? FRAME_SECONDS / 50 : FRAME_SECONDS)) seen.currentTime = video.currentTime;
}
// A frame is drawn when the browser has it: after a seek that is later than `seeked`.
function drawSeen(now, frame) {
  if (seen.dataset.source) {
    eye.getContext('2d').drawImage(seen, 0, 0, eye.width, eye.height);
    element.dataset.seen = (frame?.mediaTime ?? seen.currentTime).toFixed(3);
  }
  follow();
  eachFrame(seen, drawSeen);
}
function eachFrame(video, then) {
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(then);
  else requestAnimationFrame(then);
}
function everyFrame() {
  follow();
  eachFrame(part('video'), everyFrame);
}
['play', 'pause', 'seeked'].forEach((name) => part('video').addEventListener(name, follow));
['loadeddata', 'canplay', 'pause', 'seeked'].forEach((name) => seen.addEventListener(name, follow));
// In the page, although nobody sees it: a browser gives the others few frames.
seen.className = 'lv-film';
eye.after(seen);
everyFrame();
eachFrame(seen, drawSeen);

// A recording plays over the canvas until there is something live to see.
function load(video, source) {
  video.dataset.source = source;
  if (source) video.src = source;
  else video.removeAttribute('src');
}
function film(source, alongside) {
  const video = part('video');
  if (video.dataset.source === source) return;
  load(video, source);
  load(seen, alongside);
  video.hidden = !source;
  if (!source) return;
  if (window.matchMedia('(prefers-reduced-motion: reduce)').matches) video.controls = true;
  else video.play().catch(() => (video.controls = true));
}

// On a small screen picture and verdict stand above or below the button that was pressed.
const BEGUN = ['starting', 'waiting', 'live'];
function reveal(phase) {
  if (!BEGUN.includes(phase) || BEGUN.includes(element.dataset.phase)) return;
  const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
  const seen = canvas.getBoundingClientRect().top < 0 ? canvas : part('note');
  seen.scrollIntoView({ block: 'nearest', behavior: calm ? 'auto' : 'smooth' });
}

// What a sentence names, drawn where it stands before anything moves.
let outlined = [];
let boxes = {};
function outline() {
  const at_start = ['still', 'recording'].includes(element.dataset.phase);
  const names = at_start ? outlined.filter((name) => boxes[name]) : [];
  const film = part('video');
  if (names.length && !film.hidden) {
    film.pause();
    film.currentTime = 0;
  }
  part('outlines').replaceChildren(
    ...names.map((name) => {
      const box = document.createElement('span');
      const [left, top, width, height] = boxes[name].map((share) => `${100 * share}%`);
      Object.assign(box.style, { left, top, width, height });
      box.dataset.name = name;
      box.title = name;
      return box;
    })
  );
}
document.addEventListener('vlm4vla:outline', (event) => {
  outlined = event.detail;
  outline();
});

// Pointing at one thing, or at two in turn, asks for a sentence about them.
let pointed = [];
part('picture').addEventListener('click', (event) => {
  if (!['still', 'recording'].includes(element.dataset.phase)) return;
  const area = part('picture').getBoundingClientRect();
  const x = (event.clientX - area.left) / area.width;
  const y = (event.clientY - area.top) / area.height;
  const hit = Object.entries(boxes)
    .filter(([, [l, t, w, h]]) => x >= l && x <= l + w && y >= t && y <= t + h)
    .sort(([, a], [, b]) => a[2] * a[3] - b[2] * b[3])[0];
  if (!hit) return;
  pointed = pointed.length === 1 && pointed[0] !== hit[0] ? [pointed[0], hit[0]] : [hit[0]];
  trigger('select', { index: pointed, value: pointed.join(', ') });
});

function tell(value) {
  reveal(value.phase);
  if (Object.keys(value.things).length) {
    if (JSON.stringify(value.things) !== JSON.stringify(boxes)) pointed = [];
    boxes = value.things;
  }
  element.dataset.phase = value.phase;
  element.dataset.step = String(value.step);
  element.dataset.events = value.events.map(([event]) => event).join(' ');
  part('phase').textContent = value.badge;
  part('note').textContent = value.note;
  part('step').textContent = value.limit ? `step ${value.step} of at most ${value.limit}` : '';
  part('bar').style.width = value.limit ? `${(100 * value.step) / value.limit}%` : '0';
  part('timing').textContent = value.timing;
  part('map').textContent = value.mapped;
  part('seen').textContent =
    value.phase === 'recording' ? 'What the model sees (recorded).' : 'What the model sees.';
  part('instruction').textContent = value.instruction ? `“${value.instruction}”` : '';
  part('agent').textContent = value.agent ? `Acts: ${value.agent}` : '';
  if (value.label) {
    canvas.setAttribute('aria-label', value.label);
    part('video').setAttribute('aria-label', value.label);
  }
  outline();
  const list = part('events');
  while (list.children.length > value.events.length) list.lastChild.remove();
  value.events.forEach(([event, words], index) => {
    let item = list.children[index];
    if (!item) item = list.appendChild(document.createElement('li'));
    item.dataset.event = event;
    item.textContent = words;
  });
}

// Words change only once their picture is painted: "live" never stands over an older picture. A
// browser that decodes more slowly than pictures arrive skips to the newest one.
async function show() {
  const value = props.value;
  // Late messages of an episode that a newer one has replaced are dropped.
  if (!value || value.turn < turn) return;
  turn = value.turn;
  const skipped = next?.turn === turn ? next : null;
  next = { ...value, src: value.src || skipped?.src || '', eye: value.eye || skipped?.eye || '' };
  if (busy) return;
  busy = true;
  while (next) {
    const now = next;
    next = null;
    if (now.src) await paint(now).catch(() => {});
    if (now.turn < turn) continue;
    tell(now);
    if (now.video || now.src) film(now.video, now.seen);
  }
  busy = false;
}

// Before Gradio hears of it: a menu that Escape closes is still open then. One that was left may
// stay in the page, but only the one that has the focus hears Escape.
function stopOnEscape(event) {
  if (!element.isConnected) {
    document.removeEventListener('keydown', stopOnEscape, true);
    return;
  }
  if (event.key !== 'Escape' || event.isComposing) return;
  if (document.activeElement?.getAttribute('aria-expanded') === 'true') return;
  if (BEGUN.includes(element.dataset.phase)) document.querySelector('#stop')?.click();
}
document.addEventListener('keydown', stopOnEscape, true);

// Browsers without H.264 show the still picture beneath.
part('video').addEventListener('error', () => (part('video').hidden = true));
watch('value', show);
show();
element.dataset.ready = '1';
