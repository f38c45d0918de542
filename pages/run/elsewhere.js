// Fills the strip of other scenes. Gradio provides element, props and watch.
const strip = element.querySelector('.es');
const list = element.querySelector('.es-scenes');

function fill(item, scene) {
  item.dataset.state = scene.state;
  const link = item.querySelector('a');
  // What was kept can be opened, beside this page: the strip stays.
  if (scene.run) {
    link.href = `?run=${scene.run}`;
    link.target = '_blank';
    link.rel = 'noopener';
  }
  link.setAttribute('aria-label', `Scene ${scene.scene}: ${scene.badge}`);
  if (scene.picture) item.querySelector('img').src = `data:image/jpeg;base64,${scene.picture}`;
  item.querySelector('.es-badge').textContent = scene.badge;
  item.querySelector('.es-scene').textContent = scene.scene;
}

function show() {
  const value = props.value;
  strip.hidden = !value;
  if (!value) {
    list.replaceChildren();
    return;
  }
  element.querySelector('.es-told').textContent = value.told;
  while (list.children.length > value.scenes.length) list.lastChild.remove();
  value.scenes.forEach((scene, index) => {
    let item = list.children[index];
    if (!item) {
      item = list.appendChild(document.createElement('li'));
      item.innerHTML =
        '<a><img alt="" width="96" height="96"><span class="es-badge"></span>' +
        '<span class="es-scene"></span></a>';
    }
    fill(item, scene);
  });
}

watch('value', show);
show();
element.dataset.ready = '1';
