// Keeps the address of the Encoders page in step with what it shows.
function put() {
  const url = new URL(location.href);
  [...url.searchParams.keys()].forEach((name) => {
    // Where the moved object stands, which cell and whose maps are shown, is kept by their sections.
    if (!/^(__|drag-|trained-|trust-)/.test(name)) url.searchParams.delete(name);
  });
  Object.entries(props.value ?? {}).forEach(([name, value]) => value && url.searchParams.set(name, value));
  if (props.value && url.href !== location.href) history.replaceState(history.state, '', url);
}

watch('value', put);
put();
