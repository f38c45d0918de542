// Keeps the address of the Encoders page in step with what it shows.
function put() {
  const url = new URL(location.href);
  [...url.searchParams.keys()].forEach((name) => {
    // Where the moved object stands, and which cell is shown, is kept by their own sections.
    if (!/^(__|drag-|trained-)/.test(name)) url.searchParams.delete(name);
  });
  Object.entries(props.value ?? {}).forEach(([name, value]) => value && url.searchParams.set(name, value));
  if (props.value && url.href !== location.href) history.replaceState(history.state, '', url);
}

watch('value', put);
put();
