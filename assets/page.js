// What the page does by itself. Present mode: P, or ?present=1. Keys are not taken from whoever types.
const root = document.documentElement;
const scenes = () => [...document.querySelectorAll('#scenes button.scene')];
let scene = -1;
const show = (number) => {
  const buttons = scenes();
  if (!buttons.length) return;
  scene = (number + buttons.length) % buttons.length;
  buttons[scene].click();
};
const written = (query) => (`${query}` ? `?${query}` : location.pathname);
const present = (on) => {
  root.classList.toggle('present', on);
  const query = new URLSearchParams(location.search);
  if (on) query.set('present', '1'); else query.delete('present');
  history.replaceState(null, '', written(query));
  dispatchEvent(new Event('resize'));
};
// This page's address with another setting: what else it says (lesson, hide, lock, theme) stays.
window.addressOf = (setting) => {
  const query = new URLSearchParams(location.search);
  for (const name of NAMES) query.delete(name);
  for (const [name, value] of new URLSearchParams(setting)) query.set(name, value);
  return written(query);
};
// The buttons below a slider of bits set it, and the one that it stands at is marked, whoever moved it.
const range = (ticks) => document.querySelector(`#${ticks.dataset.for} input[type=range]`);
addEventListener('click', ({ target }) => {
  const ticks = target.closest?.('.ticks'), slider = ticks && range(ticks);
  if (!slider || !target.dataset.stop) return;
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(slider, target.dataset.stop);
  slider.dispatchEvent(new Event('input', { bubbles: true }));
});
setInterval(() => {
  for (const ticks of document.querySelectorAll('.ticks')) {
    const slider = range(ticks);
    for (const tick of ticks.children) {
      const here = tick.dataset.stop === slider?.value;
      if (`${here}` !== tick.getAttribute('aria-pressed')) tick.setAttribute('aria-pressed', here);
      if (here && slider.getAttribute('aria-valuetext') !== tick.textContent) slider.setAttribute('aria-valuetext', tick.textContent);
    }
  }
}, 100);
// Another model took the place of the one that this page shows: the page begins anew, its setting as it was.
window.renewed = () => {
  const now = document.querySelector('#model-news [data-model]')?.dataset;
  const shown = document.querySelector('#top [data-model]')?.dataset.model ?? (document.querySelector('.status[data-state=error]') ? '0' : '');
  if (!now || !shown || now.model === shown || (shown === '0' && now.model === '1')) return;
  const query = new URLSearchParams(now.setting ? window.addressOf(now.setting).replace(/^[^?]*/, '') : location.search);
  query.set('model', now.name);
  location.assign(written(query));
};
// A prompt to try is typed, and written after.
addEventListener('click', ({ target }) => {
  const field = target.dataset?.prompt && document.querySelector('#prompt textarea, #prompt input');
  if (!field) return;
  Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value').set.call(field, target.dataset.prompt);
  field.dispatchEvent(new Event('input', { bubbles: true }));
  requestAnimationFrame(() => document.querySelector('#write').click());
});
addEventListener('click', async ({ target }) => {
  if (!target.matches?.('.pane .copy')) return;
  const text = target.closest('.pane').querySelector('.text');
  try { await navigator.clipboard.writeText(text.textContent); } catch {  // no clipboard without https: by hand
    getSelection().selectAllChildren(text);
    document.execCommand('copy');
  }
  target.textContent = 'Copied';
});
addEventListener('click', ({ target }) => {
  const link = target.closest?.('#budget-table a[href^="?"]');
  if (link) link.href = window.addressOf(link.search);  // before the browser follows it
});
// What was found under a budget is brought into sight.
let found = 0;
setInterval(() => {
  const count = document.querySelector('#budget-table .ways')?.outerHTML.length ?? 0;
  if (count && count !== found) document.querySelector('#budget-table').scrollIntoView({ behavior: 'smooth', block: 'nearest' });
  found = count;
}, 500);
const asked = new URLSearchParams(location.search);
if (asked.get('present') === '1') root.classList.add('present');
if (asked.has('lesson')) root.classList.add('teaching');  // a lesson is seen before what it pushes down
// A control that did not move for REST ms has been let go of; a click needs no waiting. Whoever asked before it moved on
// is never answered.
const REST = 150;
let slid = -Infinity, resting;
addEventListener('input', ({ target }) => { if (/range|number/.test(target.type)) slid = performance.now(); }, true);
window.rested = (values) => new Promise((go) => {
  clearTimeout(resting);
  resting = setTimeout(go, slid + REST - performance.now(), values);
});
// gradio's client cuts its own streams off, and reports each as an error; what follows within a second is of the same.
const report = console.error;
let cut = -Infinity;
console.error = (...words) => {
  if (words[0]?.name === 'AbortError') cut = performance.now();
  if (performance.now() - cut > 1000) report(...words);
};
// Arrow keys go through a group of radio buttons: gradio gives each a name of its own, so the browser cannot.
addEventListener('keydown', (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step || !event.target.matches?.('.segments input[type=radio]')) return;
  const group = [...event.target.closest('.segments').querySelectorAll('input[type=radio]')];
  const next = group[(group.indexOf(event.target) + step + group.length) % group.length];
  event.preventDefault();
  slid = performance.now();
  next.focus();
  next.click();
});
addEventListener('keydown', (event) => {
  const typing = event.target.closest?.('input:not([type=range]):not([type=radio]):not([type=checkbox]), textarea, [contenteditable]');
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'p' || event.key === 'P') present(!root.classList.contains('present'));
  else if (!root.classList.contains('present')) return;
  else if (/^[1-9]$/.test(event.key) && scenes()[event.key - 1]) show(event.key - 1);
  else if (event.key === ' ' && !event.target.closest?.('button, a, summary')) { event.preventDefault(); show(scene + 1); }
});
