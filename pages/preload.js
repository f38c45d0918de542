// Gradio asks for what draws its charts once it has one; where a chart comes first, that is late.
if (location.pathname.split('/').pop() === 'encoders') {
  const link = document.createElement('link');
  link.rel = 'modulepreload';
  link.href = './assets/MODULE';
  document.head.append(link);
}
