// Fills a result card. Gradio provides element, props and watch.
const part = (name) => element.querySelector(`.rc-${name}`);

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
  if (!value) {
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
  part('video').src = value.film;
  part('download').href = value.film;
  part('download').download = `vlm4vla-${value.id}.mp4`;
  part('copied').textContent = '';
  // A checkpoint's folder is unknown here, so some programs cannot be written down.
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
