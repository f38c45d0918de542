// Says how a sentence is read, and has the live view outline what it names.
const line = element.querySelector('.rl');

function show() {
  const value = props.value;
  line.textContent = value ? value.text : '';
  element.dataset.kind = value ? value.kind : '';
  document.dispatchEvent(new CustomEvent('vlm4vla:outline', { detail: value ? value.things : [] }));
}

watch('value', show);
show();
element.dataset.ready = '1';
