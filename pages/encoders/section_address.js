// Keeps the address in step with what a section shows, beside what other sections write there.
function put() {
  const url = new URL(location.href);
  Object.entries(props.value ?? {}).forEach(([name, value]) => url.searchParams.set(name, value));
  if (url.href !== location.href) history.replaceState(history.state, '', url);
}

watch('value', put);
put();
