// Saves what the server sends as a file of the visitor's; no file is served.
let saved = 0;

function save() {
  const value = props.value;
  if (!value || value.turn <= saved) return;
  saved = value.turn;
  const bytes = Uint8Array.from(atob(value.content), (letter) => letter.charCodeAt(0));
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([bytes], { type: value.type }));
  link.download = value.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

watch('value', save);
element.dataset.ready = '1';
