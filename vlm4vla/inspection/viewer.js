// The viewer of one episode. Whoever embeds it provides element, props, watch and trigger: Gradio on
// the Inspect page, a few lines in an exported page. Scrubbing asks nobody for anything.
const part = (name) => element.querySelector(`.iv-${name}`);
const SVG = 'http://www.w3.org/2000/svg';
// Paint of the suite's things; every one is also named.
const PAINT = {
  red: '#d32f2f', green: '#2e9d50', blue: '#2f6fd6', yellow: '#e6c229', orange: '#ef8a25', purple: '#8e4bbf',
};
const GHOST = '#cc79a7';
const PLANNED = '#56b4e9';
const PARTING = '#d5281e';

let data = null;
let step = 0;
// Which maps are shown: what is explained, by which method, whether at all, and of which layer.
let kind = ['displacement', 'occlusion'];
let over = true;
let layer = -1;
let lacks = {};
let scales = new Map();
let playing = 0;
let speed = 1;
let looping = false;
let bitmaps = [];
let cursor = null;
let frame = 0;
let dragging = false;

function svg(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function html(name, text, attributes = {}) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

// --- pictures ------------------------------------------------------------------------------------

function decode(source) {
  const bytes = Uint8Array.from(atob(source), (letter) => letter.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: 'image/webp' }));
}

async function decodeAll(id, frames) {
  for (let i = 0; i < frames.length; i += 1) {
    if (!data || data.id !== id) return;
    if (!bitmaps[i]) {
      bitmaps[i] = await Promise.all(frames[i].map(decode));
      if (i === step) ask();
    }
  }
  element.dataset.frames = String(bitmaps.length);
}

// The maps of the kind that is shown; none before the first is made.
function maps() {
  return data.maps.find((one) => one.target === kind[0] && one.method === kind[1]);
}

// The inference that the step belongs to, among those that are explained.
function mapAt(at) {
  return maps()?.rows.filter((one) => one.step <= at).at(-1);
}

function layered(map) {
  return layer >= 0 && layer < map.layers.length;
}

function cellsOf(map) {
  return layered(map) ? map.layers[layer] : map.cells;
}

// One scale for the episode, found once for what has come so far; rounding is no score.
function most(what, of) {
  const least = what === 'cells' && !maps().unit ? 1e-9 : 0.1;
  const name = `${kind}/${what === 'cells' ? layer : what}`;
  if (!scales.has(name)) scales.set(name, Math.max(least, ...maps().rows.flatMap((one) => of(one).map(Math.abs))));
  return scales.get(name);
}

function measured(value, unit) {
  return unit ? `${value.toFixed(1)} ${unit}` : `${(100 * value).toFixed(2)} %`;
}

function paintPolicy() {
  const canvas = part('policy');
  const context = canvas.getContext('2d');
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, 512, 512);
  if (bitmaps[step]) context.drawImage(bitmaps[step][0], 0, 0, 512, 512);
  const map = over ? mapAt(step) : null;
  if (map) {
    const scale = most('cells', cellsOf);
    cellsOf(map).forEach((value, i) => {
      const [x, y] = [(i % 8) * 64, Math.floor(i / 8) * 64];
      // Orange raises and blue lowers, as in the exported maps.
      context.fillStyle = `rgba(${value > 0 ? '255, 120, 0' : '0, 110, 255'}, ${0.75 * Math.min(1, Math.abs(value) / scale)})`;
      context.fillRect(x, y, 64, 64);
      context.strokeStyle = 'rgba(255, 255, 255, 0.18)';
      context.strokeRect(x + 0.5, y + 0.5, 63, 63);
    });
  }
  element.querySelectorAll('.iv-none').forEach((note) => (note.hidden = Boolean(bitmaps[step])));
  canvas.setAttribute('aria-label', map ? `${data.seen}, with a map. Strongest cell: ${strongest(map)}.` : data.seen);
}

function strongest(map) {
  const cells = cellsOf(map);
  const best = cells.reduce((at, value, i) => (Math.abs(value) > Math.abs(cells[at]) ? i : at), 0);
  if (maps().unit && Math.abs(cells[best]) < 0.05) return 'none';
  return `row ${Math.floor(best / 8) + 1}, column ${(best % 8) + 1}, ${measured(cells[best], maps().unit)}`;
}

// What stands beside a map; it changes from inference to inference only.
let explained;
function tellMap() {
  const map = over ? mapAt(step) : null;
  const name = `${kind}/${over}/${layer}/${map?.step}/${maps()?.rows.length}/${lacks[kind]?.length}`;
  if (explained === name) return;
  explained = name;
  const legend = part('legend');
  legend.replaceChildren();
  if (map) {
    const scale = most('cells', cellsOf);
    const signed = maps().rows.some((one) => cellsOf(one).some((value) => value < 0));
    const bar = html('span', '', { class: 'iv-scale' });
    bar.style.background = `linear-gradient(90deg, ${signed ? 'rgba(0, 110, 255, 0.75), ' : ''}transparent, rgba(255, 120, 0, 0.75))`;
    const low = signed ? measured(-scale, maps().unit) : '0';
    legend.append(html('span', low), bar, html('span', measured(scale, maps().unit)));
  }
  part('layered').hidden = !map?.layers.length;
  if (map?.layers.length) {
    part('layer').max = map.layers.length - 1;
    part('layer').value = layer;
    part('which').textContent = layered(map) ? `layer ${layer + 1} of ${map.layers.length}` : `all ${map.layers.length} layers`;
    part('layer').setAttribute('aria-valuetext', part('which').textContent);
  }
  part('worth').textContent = map ? (layered(map) ? data.one_layer : maps().worth) : '';
  part('caption').textContent = captionOf(map);
  part('command').hidden = !map;
  if (map) {
    const command = layered(map) ? `${map.command} --layer ${layer}` : map.command;
    // No line ends within a flag.
    element.querySelector('.iv-command code').replaceChildren(...command.split(' ').flatMap((word, i) => [i ? ' ' : '', html('span', word)]));
    part('copied').textContent = 'Copy';
  }
}

function captionOf(map) {
  if (map) {
    const again = map.apart < 0.05 ? 'the same' : `${map.apart.toFixed(1)} mm from it`;
    return (
      `${data.seen}. ${maps().meaning}. Strongest cell: ${strongest(map)}; one scale for the episode. Episode ${data.id}, ` +
      `inference at step ${map.step}, checkpoint ${maps().checkpoint}; asked again today it does ${again}.`
    );
  }
  if (!over) return `${data.seen}, 128 x 128 pixels.`;
  if (!data.maps_wanted) return `${data.seen}. No policy was asked here, so there is no map.`;
  if (lacks[kind]?.length) return `No map: ${lacks[kind].at(-1)}`;
  return data.address ? 'The maps are being made …' : 'This map was not made when the page was saved.';
}

function line(context, points, colour, dash, width = 3) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.beginPath();
  points.forEach(([x, y], i) => context[i ? 'lineTo' : 'moveTo'](0.384 * x, 0.384 * y));
  context.stroke();
  context.setLineDash([]);
}

function planned() {
  return data.inferences.filter((one) => one.step <= step).at(-1);
}

function paintView() {
  const context = part('view').getContext('2d');
  context.clearRect(0, 0, 384, 384);
  if (bitmaps[step]) context.drawImage(bitmaps[step][1], 0, 0, 384, 384);
  line(context, data.tips_seen.slice(0, step + 1), '#000000', [], 5);
  line(context, data.tips_seen.slice(0, step + 1), '#ffffff', []);
  const next = planned();
  if (next) line(context, next.seen, PLANNED, [4, 3]);
  if (data.ghost) line(context, data.ghost.tips_seen, GHOST, [8, 5]);
}

// --- the table from above ------------------------------------------------------------------------

const place = ([x, y]) => `${y},${x}`;
let moving = {};

function drawMap() {
  const map = part('map');
  map.replaceChildren();
  moving = { things: [] };
  map.append(svg('rect', { x: -200, y: -230, width: 400, height: 370, fill: 'none', stroke: 'currentColor', 'stroke-opacity': 0.25 }));
  map.append(svg('text', { x: 0, y: -304, 'text-anchor': 'middle' }, 'robot'));
  data.things.forEach((thing, i) => {
    const group = svg('g', {});
    const paint = { fill: PAINT[thing.colour] || '#999', stroke: 'currentColor', 'stroke-width': 2 };
    const half = i < data.movable ? data.sizes[i] / 2 : 58;
    if (thing.kind === 'zone') group.append(svg('rect', { x: -40, y: -165, width: 80, height: 330, ...paint, 'fill-opacity': 0.35 }));
    else if (thing.kind === 'cube') group.append(svg('rect', { x: -half, y: -half, width: 2 * half, height: 2 * half, ...paint }));
    else group.append(svg('circle', { r: half, ...paint, 'fill-opacity': i < data.movable ? 1 : 0.35 }));
    if (data.asked && (i === data.asked.object || i === data.asked.target)) {
      group.append(svg('circle', { r: half + 10, fill: 'none', stroke: '#56b4e9', 'stroke-width': 4 }));
    }
    group.append(svg('text', { x: 0, y: half + 26, 'text-anchor': 'middle' }, thing.name));
    map.append(group);
    moving.things.push(group);
  });
  const path = (points, colour, dash) =>
    svg('polyline', { points: points.map(place).join(' '), fill: 'none', stroke: colour, 'stroke-width': 5, 'stroke-dasharray': dash });
  map.append(path(data.tips, 'currentColor', ''));
  if (data.ghost) map.append(path(data.ghost.tips, GHOST, '16 10'));
  moving.plan = svg('polyline', { fill: 'none', stroke: PLANNED, 'stroke-width': 6, 'stroke-dasharray': '8 5' });
  moving.tip = svg('circle', { r: 11, fill: '#1d4ed8', stroke: '#fff', 'stroke-width': 3 });
  map.append(moving.plan, moving.tip);
}

function moveMap() {
  data.positions[step].forEach(([x, y], i) => moving.things[i].setAttribute('transform', `translate(${y} ${x})`));
  const [x, y] = data.tips[step];
  moving.tip.setAttribute('cx', y);
  moving.tip.setAttribute('cy', x);
  const next = planned();
  moving.plan.setAttribute('points', next ? next.path.map(place).join(' ') : '');
}

// What was predicted at an inference, and what came of it.
function inferenceText(one) {
  const [n, gaps] = [one.path.length - 1, one.gaps];
  const done = Math.min(one.executed, gaps.length - 1);
  const rest = gaps.length - 1 > done ? `, ${gaps.at(-1).toFixed(0)} mm for the whole chunk` : '';
  return `${one.executed} of ${n} actions carried out since step ${one.step}, the hand then ${gaps[done].toFixed(0)} mm from where they were to lead${rest}`;
}

// --- lanes ---------------------------------------------------------------------------------------

let scale = { left: 0, right: 0 };
const span = () => Math.max(data.steps, data.ghost ? data.ghost.steps : 0, 1);
const across = (at) => scale.left + ((scale.right - scale.left) * at) / span();

function drawLanes() {
  const box = part('lanes');
  const width = Math.max(300, box.clientWidth);
  const narrow = width < 640;
  scale = { left: narrow ? 6 : 128, right: width - 12 };
  const root = svg('svg', { width, 'aria-hidden': 'true' });
  let top = 4;
  const lane = (name, height, draw) => {
    if (narrow) {
      root.append(svg('text', { x: scale.left, y: top + 12 }, name));
      top += 16;
    } else root.append(svg('text', { x: 0, y: top + height / 2 + 4 }, name));
    root.append(svg('rect', { x: scale.left, y: top, width: scale.right - scale.left, height, fill: 'currentColor', 'fill-opacity': 0.05 }));
    draw(top, height);
    top += height + 6;
  };
  const curve = (values, most, at, height, extra) => {
    const points = values.map((v, i) => `${across(i)},${at + height - (height * Math.min(v, most)) / most}`);
    root.append(svg('polyline', { points: points.join(' '), fill: 'none', stroke: 'currentColor', 'stroke-width': 2, ...extra }));
  };
  const ghostly = { stroke: GHOST, 'stroke-dasharray': '7 4' };
  const level = (value, most, at, height, text) => {
    const y = at + height - (height * value) / most;
    root.append(svg('line', { x1: scale.left, x2: scale.right, y1: y, y2: y, stroke: 'currentColor', 'stroke-opacity': 0.5, 'stroke-dasharray': '2 4' }));
    root.append(svg('text', { x: scale.right, y: y - 3, 'text-anchor': 'end' }, text));
  };

  lane('Events', 24, (at, height) => {
    let free = scale.left;
    const wrong = data.failure ? [data.failure] : [];
    const events = [...wrong, ...data.events].sort((one, other) => one[0] - other[0]);
    events.forEach(([when, name], i) => {
      const x = across(when);
      const next = i + 1 < events.length ? across(events[i + 1][0]) - 8 : scale.right;
      const bad = !['reached', 'grasped', 'success'].includes(name);
      if (events[i] === data.failure) root.append(svg('path', { class: 'iv-wrong', d: `M${x - 8},${at} h16 l-8,10 z`, fill: PARTING }), svg('line', { x1: x, x2: x, y1: at, y2: at + height, stroke: PARTING, 'stroke-width': 3 }));
      else root.append(svg('path', { d: bad ? `M${x - 5},${at + 7} l10,10 m0,-10 l-10,10` : `M${x - 5},${at + 12} l4,5 l7,-10`, stroke: bad ? '#d55e00' : '#009e73', 'stroke-width': 3, fill: 'none' }));
      const words = name.replaceAll('_', ' ');
      const end = x - 9;
      const length = 7 * words.length;
      if (x + 12 + length < next) {
        root.append(svg('text', { x: x + 10, y: at + 16 }, words));
        free = x + 14 + length;
      } else if (end - length > free) {
        root.append(svg('text', { x: end, y: at + 16, 'text-anchor': 'end' }, words));
        free = x + 10;
      } else free = x + 10;
    });
  });
  lane('Aims at', 26, (at, height) => {
    for (let i = 0; i < data.steps; ) {
      let end = i;
      while (end < data.steps && data.aims[end] === data.aims[i]) end += 1;
      const thing = data.things[data.aims[i]];
      if (thing) {
        const [x, x2] = [across(i), across(end)];
        root.append(svg('rect', { x, y: at, width: x2 - x, height: 12, fill: PAINT[thing.colour] || '#999', stroke: 'currentColor', 'stroke-opacity': 0.4 }));
        if (x2 - x > 6.5 * thing.name.length) root.append(svg('text', { x: x + 2, y: at + 24 }, thing.name));
      }
      i = end;
    }
  });
  if (data.expert) {
    lane('From the expert', 52, (at, height) => {
      level(data.differs, 160, at, height, `${data.differs} mm`);
      curve(data.expert.mm, 160, at, height, {});
      data.expert.fingers.forEach((same, i) => {
        if (!same) root.append(svg('circle', { cx: across(i), cy: at + height - 4, r: 3, fill: '#d55e00' }));
      });
      if (data.ghost?.expert) curve(data.ghost.expert.mm, 160, at, height, ghostly);
    });
  }
  lane('Predicted / done', 34, (at, height) => {
    const far = Math.max(20, ...data.inferences.flatMap((one) => one.gaps));
    data.inferences.forEach((one) => {
      const x = across(one.step);
      const points = one.gaps.map((gap, i) => `${across(one.step + i)},${at + height - (height * gap) / far}`);
      const done = { fill: 'none', stroke: 'currentColor', 'stroke-width': 2 };
      root.append(svg('line', { x1: x, x2: x, y1: at, y2: at + height, stroke: PLANNED, 'stroke-width': 2 }));
      root.append(svg('polyline', { points: points.slice(0, one.executed + 1).join(' '), ...done, class: 'iv-chunk' }));
      root.append(svg('polyline', { points: points.slice(one.executed).join(' '), ...done, 'stroke-dasharray': '2 3' }));
      const area = svg('rect', { x, y: at, width: Math.max(1, across(one.step + one.executed) - x), height, fill: 'transparent' });
      area.append(svg('title', {}, inferenceText(one)));
      root.append(area);
    });
    root.append(svg('text', { x: scale.right, y: at + 9, 'text-anchor': 'end' }, `${far.toFixed(0)} mm`));
  });
  lane('Fingers apart', 34, (at, height) => {
    data.open.forEach((open, i) => {
      if (!open) root.append(svg('rect', { x: across(i), y: at + height - 7, width: across(i + 1) - across(i), height: 7, fill: '#e69f00' }));
    });
    level(80, 80, at, height, '');
    curve(data.opening, 80, at, height, {});
    if (data.ghost) curve(data.ghost.opening, 80, at, height, ghostly);
  });
  lane('Height', 34, (at, height) => {
    curve(data.tips.map((tip) => tip[2]), 300, at, height, {});
    if (data.ghost) curve(data.ghost.tips.map((tip) => tip[2]), 300, at, height, ghostly);
  });
  const axis = top;
  const every = span() > 60 ? 20 : 10;
  for (let at = 0; at <= span(); at += every) root.append(svg('text', { x: across(at), y: axis + 12, 'text-anchor': 'middle' }, String(at)));
  if (data.parting !== null) {
    const x = across(data.parting);
    root.append(svg('line', { x1: x, x2: x, y1: 0, y2: axis, stroke: PARTING, 'stroke-width': 2, 'stroke-dasharray': '5 3' }));
    const late = data.parting > 0.7 * span();
    root.append(svg('text', { x: x + (late ? -4 : 4), y: axis + 27, 'text-anchor': late ? 'end' : 'start', class: 'iv-part' }, '▲ here they part'));
  }
  if (data.ghost) {
    const x = across(data.ghost.branch);
    root.append(svg('line', { x1: x, x2: x, y1: 0, y2: axis, stroke: GHOST, 'stroke-width': 2 }));
  }
  cursor = svg('line', { y1: 0, y2: axis, stroke: '#3b82f6', 'stroke-width': 3 });
  root.append(cursor);
  root.setAttribute('height', axis + (data.parting === null ? 16 : 32));
  box.replaceChildren(root);
  box.setAttribute('aria-label', `Lanes over ${data.steps} steps: events, what is aimed at, distance from the expert, what was predicted and done, fingers, height`);
}

// --- numbers of the step ---------------------------------------------------------------------------

function tellNow() {
  const at = Math.min(step, data.steps - 1);
  const facts = [];
  if (step < data.steps) {
    const thing = data.things[data.aims[at]];
    const angle = thing ? data.angles[at][data.aims[at]] : null;
    facts.push(['aims at', thing ? `${thing.name}${angle === null ? ' (over it)' : ` (${angle}°)`}` : 'nothing']);
    if (data.asked) {
      const wanted = data.angles[at][data.asked.object];
      facts.push([`to the ${data.things[data.asked.object].name}`, wanted === null ? 'no direction' : `${wanted}°`]);
    }
    if (data.expert) facts.push(['from the expert', `${data.expert.mm[at].toFixed(0)} mm${data.expert.fingers[at] ? '' : ', fingers differ'}`]);
    facts.push(['fingers', `${data.opening[step]} mm, told to ${data.open[at] ? 'open' : 'close'}`]);
  } else {
    facts.push(['end:', data.outcome.sentence]);
    facts.push(['fingers', `${data.opening[step]} mm`]);
  }
  const next = planned();
  if (next && step < data.steps) facts.push(['predicted / done', inferenceText(next)]);
  part('now').replaceChildren(
    ...facts.flatMap(([name, text], i) => [i ? ' · ' : '', html('b', name), ` ${text}`])
  );
}

let told = null;
function tellWords() {
  const map = mapAt(step);
  if (told === map && map) return;
  told = map;
  const box = part('words');
  box.replaceChildren();
  if (!map?.words.length) return;
  box.append(html('p', `What goes if a word is left out (step ${map.step}; worth not measured):`));
  box.classList.toggle('iv-many', map.words.length > 12);
  const scale = most('words', (one) => one.bars);
  map.words.forEach((word, i) => {
    const row = html('div', '');
    const bar = html('span', '', { class: map.bars[i] < 0 ? 'iv-bar iv-lowers' : 'iv-bar' });
    bar.style.width = `${(100 * Math.abs(map.bars[i])) / scale}%`;
    row.append(html('span', word), bar, html('span', measured(map.bars[i], maps().words_unit)));
    box.append(row);
  });
}

// --- showing a step --------------------------------------------------------------------------------

function paint() {
  frame = 0;
  if (!data) return;
  const began = performance.now();
  paintPolicy();
  paintView();
  moveMap();
  tellNow();
  tellMap();
  tellWords();
  const x = across(step);
  cursor.setAttribute('x1', x);
  cursor.setAttribute('x2', x);
  part('slider').value = step;
  part('slider').setAttribute('aria-valuetext', `step ${step} of ${data.steps}`);
  part('step').textContent = `step ${step} of ${data.steps}, ${(step / data.hz).toFixed(1)} s`;
  element.dataset.step = String(step);
  element.dataset.shown = `${kind.join('-')}${over && mapAt(step) ? '' : '-none'}`;
  element.dataset.painted = (performance.now() - began).toFixed(1);
}

function ask() {
  if (!frame) frame = requestAnimationFrame(paint);
}

function go(to) {
  step = Math.max(0, Math.min(data.steps, Math.round(to)));
  element.dataset.step = String(step);
  ask();
  if (!playing && !dragging) settle();
}

// The address is the state; it is written when things have come to rest.
let settling = 0;
function settle() {
  clearTimeout(settling);
  settling = setTimeout(() => {
    if (!data?.address) return;
    const address = new URL(location.href);
    address.searchParams.set('run', data.id);
    address.searchParams.set('t', String(step));
    if (data.ghost?.id) address.searchParams.set('ghost', data.ghost.id);
    else address.searchParams.delete('ghost');
    for (const [name, value] of [['target', kind[0]], ['method', kind[1]], ['layer', layer]]) {
      if (value === { target: 'displacement', method: 'occlusion', layer: -1 }[name]) address.searchParams.delete(name);
      else address.searchParams.set(name, value);
    }
    history.replaceState(history.state, '', address);
  }, 150);
}

function play(on) {
  clearInterval(playing);
  playing = 0;
  const button = element.querySelector('[data-go=play]');
  button.textContent = on ? 'Pause' : 'Play';
  button.setAttribute('aria-label', on ? 'Pause' : 'Play');
  if (!on) return settle();
  if (step >= data.steps) go(0);
  playing = setInterval(() => {
    if (step < data.steps) go(step + 1);
    else if (looping) go(0);
    else play(false);
  }, 1000 / (data.hz * speed));
}

// --- what people do --------------------------------------------------------------------------------

part('slider').addEventListener('input', (event) => go(Number(event.target.value)));
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button || !data) return;
  if (button === part('command')) copy(button.querySelector('code').textContent);
  if (button.dataset.go === 'play') play(!playing);
  else if (button.dataset.go === 'loop') {
    looping = !looping;
    button.setAttribute('aria-pressed', String(looping));
  }
  else if (button.dataset.go === 'part') go(data.park);
  else if (button.dataset.go) go(step + Number(button.dataset.go));
});

part('speed').addEventListener('change', (event) => {
  speed = Number(event.target.value);
  if (playing) play(true);
});
for (const name of ['target', 'method']) {
  part(name).addEventListener('change', () => {
    over = part('method').value !== 'none';
    kind = [part('target').value, over ? part('method').value : kind[1]];
    want();
  });
}
part('layer').addEventListener('input', (event) => {
  layer = Number(event.target.value);
  ask();
  settle();
});

// Shows maps of the chosen kind; those that are not here yet are asked for.
function want() {
  layer = kind[1] === 'attention' ? layer : -1;
  told = undefined;
  choices();
  ask();
  settle();
  if (over && data.address && (maps()?.rows.length ?? 0) < data.maps_wanted) {
    trigger('select', { index: 0, value: JSON.stringify({ target: kind[0], method: kind[1], step, pictures: data.frames.length }) });
  }
}

// Browsers offer the clipboard on https and localhost only.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    part('copied').textContent = 'Copied';
  } catch {
    window.prompt('Copy this:', text);
  }
}

function scrub(event) {
  const box = part('lanes').getBoundingClientRect();
  go(((event.clientX - box.left - scale.left) / (scale.right - scale.left)) * span());
}
part('lanes').addEventListener('pointerdown', (event) => {
  if (!data) return;
  dragging = true;
  play(false);
  part('lanes').setPointerCapture(event.pointerId);
  scrub(event);
});
part('lanes').addEventListener('pointermove', (event) => dragging && scrub(event));
for (const end of ['pointerup', 'pointercancel']) {
  part('lanes').addEventListener(end, () => {
    dragging = false;
    if (data) settle();
  });
}

function tellCell(event) {
  const map = data && over ? mapAt(step) : null;
  part('cell').hidden = !map;
  if (!map) return;
  const box = part('policy').getBoundingClientRect();
  const column = Math.min(7, Math.max(0, Math.floor((8 * (event.clientX - box.left)) / box.width)));
  const row = Math.min(7, Math.max(0, Math.floor((8 * (event.clientY - box.top)) / box.height)));
  part('cell').textContent = `row ${row + 1}, column ${column + 1}: ${measured(cellsOf(map)[8 * row + column], maps().unit)}`;
}
part('policy').addEventListener('pointermove', tellCell);
part('policy').addEventListener('pointerdown', tellCell);
part('policy').addEventListener('pointerleave', (event) => {
  if (event.pointerType === 'mouse') part('cell').hidden = true;
});

function keys(event) {
  if (!element.isConnected) {
    document.removeEventListener('keydown', keys);
    return;
  }
  const typing = event.target.closest?.('input:not([type=range]), .iv-layer, textarea, select, [contenteditable]');
  if (!data || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const many = event.shiftKey ? 10 : 1;
  if (event.key === 'ArrowRight') go(step + many);
  else if (event.key === 'ArrowLeft') go(step - many);
  else if (event.key === '.') go(data.inferences.find((one) => one.step > step)?.step ?? step);
  else if (event.key === ',') go(data.inferences.filter((one) => one.step < step).at(-1)?.step ?? step);
  else if (event.key === 'j' || event.key === 'k') element.querySelector(`.iv-near [data-near=${event.key === 'j' ? 'next' : 'previous'}]`)?.click();
  else if (event.key === ' ' && !event.target.closest?.('button, a')) play(!playing);
  else return;
  event.preventDefault();
}
document.addEventListener('keydown', keys);
new ResizeObserver(() => {
  if (!data) return;
  drawLanes();
  ask();
}).observe(part('lanes'));

// --- what is told ------------------------------------------------------------------------------------

function facts() {
  const box = part('facts');
  const told = [
    `“${data.instruction}”`,
    ...(data.told ? [data.told] : []),
    data.asked ? `judged as “${data.asked.text}”` : 'not judged',
    `acts: ${data.agent}`,
    `scene ${data.scene}`,
    ...(data.condition ? [data.condition] : []),
    data.outcome.success ? `✓ success in ${data.steps} steps` : `✗ ${data.outcome.kind} after ${data.steps} steps`,
    ...(data.parent ? [`branched off at step ${data.branch}`] : []),
  ];
  box.replaceChildren(told.join(' · '));
  const links = data.address ? [['Run page', `${data.address}?run=${data.id}`]] : [];
  if (data.address && !data.near) links.push(['All failures', `${data.address}failures?run=${data.id}`]);
  if (data.address && data.parent) links.push(['The run it left', `${data.address}inspect?run=${data.parent}&t=${data.branch}`]);
  links.forEach(([text, href]) => box.append(' · ', html('a', text, { href })));
}

function paths() {
  const parts = [];
  part('branch').hidden = !data.ghost;
  if (data.ghost) {
    parts.push(`Branch at step ${data.ghost.branch}: “${data.ghost.instruction}”, acts: ${data.ghost.agent}${data.ghost.condition && ` (${data.ghost.condition})`}. ${data.ghost.sentence}`);
  }
  const box = part('paths');
  box.replaceChildren(parts.join(' '));
  if (data.ghost?.id && data.address) box.append(' ', html('a', 'Open the branch', { href: `${data.address}inspect?run=${data.ghost.id}` }));
}

function near() {
  const list = data.near;
  const box = part('near');
  box.hidden = !data.address || !list?.total;
  if (box.hidden) return;
  const links = ['previous', 'next'].filter((name) => list[name]).map((name) => {
    const query = new URLSearchParams({ run: list[name].id, t: list[name].step, list: list.address, target: kind[0], method: kind[1] });
    const text = name === 'next' ? 'Next ▶' : '◀ Previous';
    return html('a', text, { href: `${data.address}inspect?${query}`, 'data-near': name, 'aria-label': `${name === 'next' ? 'Next' : 'Previous'} failure` });
  });
  const whole = html('a', list.place ? `${list.place} of ${list.total} failures` : `${list.total} failures`, { href: `${data.address}failures?${list.address}` });
  box.replaceChildren(whole, ...links);
}

function choices() {
  const offline = (target, method) => !data.address && !data.maps.some((one) => one.target === target && one.method === method);
  // Only once: an open menu would close.
  if (!part('target').options.length) part('target').replaceChildren(...data.targets.map(([name, text]) => html('option', name, { value: name, title: text })));
  if (!part('method').options.length) part('method').replaceChildren(...data.methods.map(([name, text]) => html('option', text, { value: name })), html('option', 'no overlay', { value: 'none' }));
  for (const option of part('target').options) option.disabled = data.methods.every(([name]) => offline(option.value, name));
  for (const option of part('method').options) option.disabled = option.value !== 'none' && offline(kind[0], option.value);
  part('target').value = kind[0];
  part('method').value = over ? kind[1] : 'none';
  lacking();
}

function lacking() {
  part('missing').replaceChildren(...(lacks[kind] ?? []).map((text) => html('li', text)));
}

// Of each kind, whichever has more: streams of several kinds do not undo each other.
function merged(before, now) {
  const same = (one, other) => one.target === other.target && one.method === other.method;
  const kept = before.filter((one) => !now.some((other) => same(one, other) && other.rows.length >= one.rows.length));
  return [...now.filter((one) => !kept.some((other) => same(one, other))), ...kept];
}

function show() {
  const value = props.value;
  part('step').closest('.iv').hidden = !value;
  if (!value) {
    data = null;
    return;
  }
  const fresh = !data || data.id !== value.id;
  if (fresh) {
    bitmaps = [];
    play(false);
  }
  // What is still being made and a branch arrive in streams of their own: neither undoes the other.
  data = fresh ? value : {
    ...value,
    ghost: value.ghost || data.ghost,
    frames: value.frames.length < data.frames.length ? data.frames : value.frames,
    maps: merged(data.maps, value.maps),
    near: value.near || data.near,
  };
  if (fresh) {
    lacks = {};
    kind = data.kind;
    const asked = data.address && new URLSearchParams(location.search).get('layer');
    layer = /^\d+$/.test(asked) ? Number(asked) : -1;
  }
  // How many layers there are is known with the first map.
  if (layer >= maps()?.rows[0]?.layers.length) layer = -1;
  if (fresh || value.missing.length) lacks[value.kind] = value.missing;
  scales = new Map();
  told = explained = undefined;
  element.dataset.run = data.id;
  element.dataset.maps = String(maps()?.rows.length ?? 0);
  part('diagnosis').textContent = data.diagnosis;
  near();
  element.querySelector('[data-go=part]').hidden = data.park === 0 && data.parting === null;
  element.querySelector('[data-go=part]').textContent = data.parting === data.park ? 'Go to the parting' : 'Go to the cause';
  part('slider').max = data.steps;
  choices();
  facts();
  paths();
  drawMap();
  drawLanes();
  if (fresh) {
    const asked = Number.isInteger(data.start) ? data.start : data.park;
    step = Math.max(0, Math.min(data.steps, asked));
  }
  element.dataset.step = String(step);
  element.dataset.ghost = data.ghost ? data.ghost.id : '';
  decodeAll(data.id, data.frames);
  ask();
  if (data.ghost) settle();
}

watch('value', show);
show();
element.dataset.ready = '1';
