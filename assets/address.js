// Keeps the setting in the address bar, so that a reload or a copied link brings it back.
watch('value', () => history.replaceState(null, '', window.addressOf(props.value)));
