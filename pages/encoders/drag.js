// One object is moved over the table; everything was computed before, nothing is asked while it moves.
const part = (name) => element.querySelector(`.dr-${name}`);
const stage = part('stage');
const SVG = 'http://www.w3.org/2000/svg';
let data = null;
let strip = null;
let encoder = null;
let layer = null;
// The layer whose patches are shown: that of the probe, or the same block at the image tokens.
let map = null;
let place = 0;
let writing = 0;

const mean = (values) => values.reduce((sum, one) => sum + one, 0) / values.length;

function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  made.append(...children);
  return made;
}

// The address is the state; a hand that moves writes it once it rests.
function remember() {
  clearTimeout(writing);
  writing = setTimeout(() => {
    const url = new URL(location.href);
    url.searchParams.set('drag-encoder', encoder.name);
    url.searchParams.set('drag-layer', layer.name);
    url.searchParams.set('drag-place', place);
    if (element.isConnected) history.replaceState(history.state, '', url);
  }, 250);
}

function drawPicture() {
  const side = data.pixels;
  const columns = Math.floor(strip.width / side);
  part('stage').querySelector('canvas').getContext('2d').drawImage(
    strip, (place % columns) * side, Math.floor(place / columns) * side, side, side, 0, 0, side, side,
  );
  const percent = (at) => at.map((one) => 100 * one);
  const [x, y] = percent(data.at[place]);
  const [px, py] = percent(layer.at[place]);
  part('true').setAttribute('transform', `translate(${x} ${y})`);
  part('probe').setAttribute('transform', `translate(${px} ${py})`);
  part('off').setAttribute('d', `M${x} ${y}L${px} ${py}`);
}

function drawCells() {
  part('cells').style.display = map && part('show').querySelector('input').checked ? '' : 'none';
  if (!map) return;
  const count = map.side ** 2;
  [...part('cells').children].forEach((cell, index) => {
    cell.setAttribute('fill-opacity', (0.7 * map.levels[place * count + index]) / 255);
  });
}

function drawWords() {
  const [x, y] = data.cm[place];
  part('told').textContent = `At ${layer.name} of ${encoder.name}, the probe puts the ${data.object} `
    + `${layer.off[place].toFixed(1)} cm from where it is; on average over ${data.cm.length} places `
    + `${mean(layer.off).toFixed(1)} cm. Who always says the middle is ${data.always.toFixed(1)} cm off.`;
  stage.setAttribute('aria-label', `The ${data.object} stands at x ${x} cm, y ${y} cm; `
    + `the probe of ${layer.name} is ${layer.off[place].toFixed(1)} cm off`);
  const count = map ? map.side ** 2 : 0;
  const most = map ? Math.max(...map.levels.subarray(place * count, (place + 1) * count)) : 0;
  part('patches').textContent = map
    ? `Patches of ${map.name}: the one that changed most since the start moved by ${Math.round((100 * map.most * most) / 255)} % of its length; a full tint is ${Math.round(100 * map.most)} %.`
    : 'Patches are shown from the projector on, where tokens lie as the picture does.';
}

function drawBars() {
  encoder.layers.forEach((one, index) => {
    const row = part('layers').children[index];
    row.querySelector('.dr-fill').style.width = `${Math.min(100, (100 * one.off[place]) / encoder.most)}%`;
    row.querySelector('.dr-number').textContent = `${one.off[place].toFixed(1)} cm`;
  });
}

function draw() {
  drawPicture();
  drawCells();
  drawWords();
  drawBars();
  remember();
  element.dataset.place = place;
}

function chooseLayer(name) {
  layer = encoder.layers.find((one) => one.name === name) ?? encoder.layers.at(-1);
  [...part('layers').children].forEach((row, index) => {
    row.setAttribute('aria-pressed', String(encoder.layers[index] === layer));
  });
  const before = encoder.layers.slice(0, encoder.layers.indexOf(layer) + 1).filter((one) => one.side);
  const number = Number(layer.name.split(' ')[1]);
  const block = before.filter((one) => one.name.startsWith('picture') && Number(one.name.split(' ')[1]) <= number);
  map = layer.side ? layer : (layer.name.startsWith('query') && block.at(-1)) || null;
  const side = map ? map.side : 0;
  part('cells').replaceChildren(...Array.from({ length: side ** 2 }, (_, index) => {
    const cell = document.createElementNS(SVG, 'rect');
    const box = { x: ((index % side) * 100) / side, y: (Math.floor(index / side) * 100) / side, width: 100 / side, height: 100 / side };
    Object.entries(box).forEach(([key, value]) => cell.setAttribute(key, value));
    return cell;
  }));
  draw();
}

function chooseEncoder(name, wanted) {
  encoder = data.encoders.find((one) => one.name === name) ?? data.encoders[0];
  // A single place may be further off than the bars are long; its number tells.
  encoder.most = 1.5 * Math.max(...encoder.layers.map((one) => mean(one.off)));
  [...part('encoders').children].forEach((button) => {
    button.setAttribute('aria-pressed', String(button.textContent === encoder.name));
  });
  part('layers').replaceChildren(...encoder.layers.map((one) => {
    const usual = make('i', { class: 'dr-usual', style: `left:${Math.min(100, (100 * mean(one.off)) / encoder.most)}%` });
    const row = make('button', { type: 'button' }, make('span', { class: 'dr-name' }, one.name),
      make('span', { class: 'dr-track' }, make('i', { class: 'dr-fill' }), usual), make('span', { class: 'dr-number' }));
    row.addEventListener('click', () => chooseLayer(one.name));
    return row;
  }));
  chooseLayer(wanted);
}

// The nearest place that a point of the picture, in shares, may mean.
function nearest([x, y]) {
  const away = data.at.map(([u, v]) => (u - x) ** 2 + (v - y) ** 2);
  return away.indexOf(Math.min(...away));
}

function put(next) {
  if (next === place || next < 0) return;
  place = next;
  draw();
}

function follow(event) {
  const box = stage.getBoundingClientRect();
  put(nearest([(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]));
}

// The next place in a direction of the picture, rather straight ahead than near.
function step([dx, dy]) {
  const [x, y] = data.at[place];
  let best = -1;
  let least = Infinity;
  data.at.forEach(([u, v], index) => {
    const along = (u - x) * dx + (v - y) * dy;
    const across = Math.abs((u - x) * dy) + Math.abs((v - y) * dx);
    if (along > 0.01 && across <= along && along + 2 * across < least) {
      least = along + 2 * across;
      best = index;
    }
  });
  put(best);
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function listen() {
  stage.addEventListener('pointerdown', (event) => {
    stage.setPointerCapture(event.pointerId);
    follow(event);
  });
  stage.addEventListener('pointermove', (event) => {
    if (stage.hasPointerCapture(event.pointerId)) follow(event);
  });
  stage.addEventListener('keydown', (event) => {
    if (event.key === 'Home') put(0);
    else if (ARROWS[event.key]) step(ARROWS[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  part('show').querySelector('input').addEventListener('change', drawCells);
}

async function load() {
  const answer = await fetch('/representations/drag.json');
  if (!answer.ok) throw new Error(await answer.text());
  data = await answer.json();
  strip = new Image();
  strip.src = `data:image/webp;base64,${data.pictures}`;
  await strip.decode();
  data.encoders.forEach((one) => one.layers.forEach((each) => {
    if (each.change) each.levels = Uint8Array.from(atob(each.change), (letter) => letter.charCodeAt(0));
  }));
  const canvas = stage.querySelector('canvas');
  canvas.width = data.pixels;
  canvas.height = data.pixels;
  part('hint').textContent = `Drag the ${data.object}, press where it should stand, or use the arrow keys; Home puts it back.`;
  part('made').replaceChildren(`${data.task}, scene ${data.seed}: “${data.instruction}”. Drawn and read at ${data.cm.length} places by `,
    ...data.encoders.flatMap((one, index) => [index ? ', ' : '', `${one.name} (${one.digest.slice(0, 8)})`]),
    '. Made by ', make('code', {}, data.command));
  part('encoders').replaceChildren(...data.encoders.map((one) => {
    const button = make('button', { type: 'button' }, one.name);
    button.addEventListener('click', () => chooseEncoder(one.name, layer.name));
    return button;
  }));
  const asked = new URLSearchParams(location.search);
  const wanted = Number(asked.get('drag-place'));
  place = Number.isInteger(wanted) && wanted > 0 && wanted < data.at.length ? wanted : 0;
  part('body').hidden = false;
  part('said').hidden = true;
  chooseEncoder(asked.get('drag-encoder') ?? '', asked.get('drag-layer') ?? '');
  listen();
  element.dataset.ready = '1';
}

if (!props.value.problem) {
  load().catch((error) => {
    part('body').hidden = true;
    part('said').hidden = false;
    part('said').textContent = `The pictures could not be loaded: ${error.message}`;
  });
}
