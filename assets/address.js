// Keeps the setting in the address bar, so that a reload or a copied link brings it back.
watch('value', () => {
  const kept = new URLSearchParams(location.search);
  for (const name of NAMES) kept.delete(name);
  for (const [name, value] of new URLSearchParams(props.value)) kept.set(name, value);
  const query = kept.toString();
  history.replaceState(null, '', query ? `?${query}` : location.pathname);
});
