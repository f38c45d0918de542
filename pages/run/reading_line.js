// Says how a sentence is read, and has the live view outline what it names.
const line = element.querySelector('.rl');

function show() {
  const value = props.value;
  line.textContent = value ? value.text : '';
  element.dataset.kind = value ? value.kind : '';
  document.dispatchEvent(new CustomEvent('vlm4vla:outline', { detail: value ? value.things : [] }));
}

// Gradio's box tells of character keys alone, not of what is deleted, cut or pasted.
function readAgain(event) {
  if (!element.isConnected) document.removeEventListener('input', readAgain);
  else if (event.target.closest('#instruction')) trigger('input');
}
document.addEventListener('input', readAgain);

watch('value', show);
show();
element.dataset.ready = '1';
