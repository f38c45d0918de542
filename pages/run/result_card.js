// Fills a result card. Gradio provides element, props and watch.
const part = (name) => element.querySelector(`.rc-${name}`);

// The address is the state: coming back, or loading the page again, shows the same episode.
function place(id) {
  const address = new URL(location.href);
  ['run', 'task', 'seed', 'instruction'].forEach((name) => address.searchParams.delete(name));
  if (id) address.searchParams.set('run', id);
  history.replaceState(history.state, '', address);
}

let shown = false;

function link() {
  return `${location.origin}${location.pathname}?run=${props.value.id}`;
}

function textOf(kind) {
  if (kind === 'link') return link();
  return props.value[kind].replace('ORIGIN', location.origin + location.pathname);
}

// Browsers offer the clipboard on https and localhost only.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    part('copied').textContent = 'Copied.';
  } catch {
    window.prompt('Copy this:', text);
  }
}

function show() {
  const value = props.value;
  element.querySelector('.rc').hidden = !value;
  // Nothing at first sight: what the address asks for is still on its way then.
  if (value || shown) place(value?.id);
  shown = Boolean(value);
  if (!value) {
    delete element.dataset.run;
    part('video').removeAttribute('src');
    return;
  }
  element.dataset.run = value.id;
  part('title').textContent = value.title;
  part('sentence').textContent = value.sentence;
  part('facts').replaceChildren(
    ...value.facts.flatMap(([name, text]) => {
      const term = document.createElement('dt');
      const detail = document.createElement('dd');
      term.textContent = name;
      detail.textContent = text;
      return [term, detail];
    })
  );
  part('problem').hidden = !value.problem;
  part('problem').textContent = value.problem;
  part('video').hidden = part('download').hidden = !value.film;
  part('video').src = value.film;
  part('download').href = value.film;
  part('download').download = `vlm4vla-${value.id}.mp4`;
  part('inspect').href = `./inspect?run=${value.id}`;
  part('copied').textContent = '';
  // A checkpoint that is gone cannot be named in a program.
  element.querySelectorAll('[data-copy]').forEach((button) => {
    button.hidden = button.dataset.copy !== 'link' && !value[button.dataset.copy];
  });
}

// The end is what a still video should show.
part('video').addEventListener('loadedmetadata', (event) => {
  event.target.currentTime = event.target.duration;
});
element.addEventListener('click', (event) => {
  const kind = event.target.dataset?.copy;
  if (kind) copy(textOf(kind));
});
watch('value', show);
show();
element.dataset.ready = '1';
