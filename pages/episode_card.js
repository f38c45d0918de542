// An episode as a card, and its drawing from above. Put before a component's own script.
const SVG = 'http://www.w3.org/2000/svg';

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  made.append(...children);
  return made;
}

function html(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  Object.entries(attributes).forEach(([key, value]) => {
    if (key in made && key !== 'list') made[key] = value;
    else made.setAttribute(key, value);
  });
  made.append(...children);
  return made;
}

const calm = () => window.matchMedia('(prefers-reduced-motion: reduce)').matches;

function shape(thing, faint) {
  const [w, h] = thing.size;
  const common = faint
    ? { fill: thing.colour, 'fill-opacity': 0.28, stroke: thing.colour, 'stroke-width': 2 }
    : { fill: thing.colour, stroke: '#fff', 'stroke-width': 2 };
  if (thing.round) return svg('circle', { r: w / 2, ...common });
  return svg('rect', { x: -w / 2, y: -h / 2, width: w, height: h, rx: 2, ...common });
}

const place = ([x, y, turn = 0]) => `translate(${x} ${y}) rotate(${turn})`;
const line = (points) => points.map(([x, y], i) => `${i ? 'L' : 'M'}${x} ${y}`).join('');

// The poster: where things stood, the paths of hand and named object until it went wrong, and
// where the object ended. `play` moves everything; without motion it shows the step in question.
function drawing(sketch, until, words) {
  const { box, things, named, target, steps, hand, objects } = sketch;
  const moving = objects[0].length;
  const cut = Math.max(1, steps.findIndex((step) => step >= until));
  const last = objects.length - 1;
  const picture = svg('svg', { viewBox: box.join(' '), role: 'img', 'aria-label': words });
  picture.classList.add('ec-drawing');
  picture.append(svg('rect', { x: box[0], y: box[1], width: box[2], height: box[3], class: 'ec-table' }));
  things.forEach((thing, index) => {
    if (index >= moving) picture.append(svg('g', { transform: place(thing.at) }, shape(thing, true)));
  });
  const goal = things[target]?.at;
  if (goal) {
    const r = Math.max(...things[target].size) / 2 + 7;
    const ring = things[target].round || target < moving
      ? svg('circle', { cx: goal[0], cy: goal[1], r, class: 'ec-target' })
      : svg('rect', {
          x: goal[0] - things[target].size[0] / 2 - 4, y: goal[1] - things[target].size[1] / 2 - 4,
          width: things[target].size[0] + 8, height: things[target].size[1] + 8, class: 'ec-target',
        });
    picture.append(ring);
  }
  const start = things[named].at;
  picture.append(
    svg('circle', { cx: start[0], cy: start[1], r: 34, class: 'ec-named' }),
    svg('path', { d: line(hand.slice(0, cut + 1)), class: 'ec-hand' }),
  );
  const shown = things.slice(0, moving).map((thing, index) => {
    const made = svg('g', {}, shape(thing, false));
    if (index === named) made.append(svg('circle', { r: 5, class: 'ec-dot' }));
    picture.append(made);
    return made;
  });
  picture.append(
    svg('path', { d: line(objects.map((one) => one[named])), class: 'ec-way' }),
    svg('circle', {
      cx: objects[last][named][0], cy: objects[last][named][1], r: 11, class: 'ec-end',
    }),
  );
  const grip = svg('g', { class: 'ec-grip' },
    svg('rect', { x: -6, y: -4, width: 4, height: 8, rx: 1 }),
    svg('rect', { x: 2, y: -4, width: 4, height: 8, rx: 1 }));
  picture.append(grip);
  const [left, right] = grip.children;
  function at(frame) {
    shown.forEach((made, index) => made.setAttribute('transform', place(objects[frame][index])));
    const [x, y, z, open] = hand[frame];
    // The higher the hand, the nearer to who looks from above.
    grip.setAttribute('transform', `translate(${x} ${y}) scale(${1.6 + z / 250})`);
    left.setAttribute('x', -open / 5 - 5);
    right.setAttribute('x', open / 5 + 1);
    picture.dataset.step = steps[frame];
  }
  let timer = 0;
  function stop() {
    cancelAnimationFrame(timer);
    timer = 0;
    picture.dataset.playing = '';
    at(cut);
  }
  function play() {
    // Behind a clip nobody would see it.
    if (timer || calm() || picture.closest('[data-clip]')) return;
    const began = performance.now();
    picture.dataset.playing = '1';
    const tick = (now) => {
      if (!picture.isConnected) return stop();
      // Twice the robot's own pace, with a rest at the end.
      const step = ((now - began) / 25) % (steps[last] + 24);
      const frame = steps.findIndex((one) => one >= step);
      at(frame < 0 ? last : frame);
      timer = requestAnimationFrame(tick);
    };
    timer = requestAnimationFrame(tick);
  }
  at(cut);
  return { picture, play, stop, playing: () => Boolean(timer) };
}

function episodeCard(value) {
  const badge = html('span', { className: 'ec-badge' },
    html('i', { className: 'ec-swatch' }), `${value.label}, step ${value.step}`);
  badge.dataset.label = value.label;
  const stage = html('button', { type: 'button', className: 'ec-stage' });
  stage.setAttribute('aria-label', `Play ${value.scene}: ${value.instruction}`);
  const card = html('article', { className: 'ec', tabIndex: -1 }, stage,
    html('p', { className: 'ec-head' }, badge),
    html('p', { className: 'ec-words' }, `“${value.instruction}”`),
    html('p', { className: 'ec-why' }, value.sentence));
  if (value.later.length) {
    const [name, step] = value.later[0];
    const more = value.later.length > 1 ? ` and ${value.later.length - 1} more` : '';
    card.append(html('p', { className: 'ec-later', title: value.later.map((one) => one.join(', step ')).join('; ') },
      `Then ${name}, step ${step}${more}.`));
  }
  card.append(html('p', { className: 'ec-about' }, `${value.scene}, ${value.about}`));
  card.dataset.id = value.id;
  card.dataset.kind = value.kind;
  if (value.sketch) {
    const made = drawing(value.sketch, value.step, `${value.scene} from above`);
    stage.append(made.picture);
    // A mouse plays by pointing, a keyboard by its focus; a finger, which has neither, by pressing.
    card.addEventListener('pointerenter', (event) => event.pointerType === 'mouse' && made.play());
    card.addEventListener('pointerleave', (event) => event.pointerType === 'mouse' && made.stop());
    card.addEventListener('focusin', (event) => event.target.matches(':focus-visible') && made.play());
    card.addEventListener('focusout', (event) => {
      if (!card.contains(event.relatedTarget)) made.stop();
    });
    stage.addEventListener('click', (event) => {
      if (event.pointerType === 'mouse') made.play();
      else if (made.playing()) made.stop();
      else made.play();
    });
  } else stage.append(html('span', { className: 'ec-blank' }, 'No poses are kept.'));
  return card;
}
