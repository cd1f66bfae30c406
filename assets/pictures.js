// A picture: what Python sends as plotly's JSON, drawn in the page's colours, with its table behind a switch and two
// buttons that save it at the size of a slide. It lives in a shadow, so that an update of the page leaves it alone.
const SLIDE = { width: 800, height: 450 };  // saved at twice that: 1600 × 900
const PLAIN = 'Helvetica, Arial, sans-serif';  // in a saved file the page's own font is not there
const plotly = new Promise((go) => {
  const script = Object.assign(document.createElement('script'), { src: 'PLOTLY', onload: () => go(window.Plotly) });
  // The library is large: it comes once the controls can be used. Safari does not tell when it is idle.
  const later = window.requestIdleCallback ?? ((work) => setTimeout(work, 300));
  later(() => document.head.appendChild(script), { timeout: 3000 });
});
const STYLE = `
  :host { display: block; color: var(--ink); font-size: 13px; } [hidden] { display: none !important; }
  h2 { font-size: 13px; font-weight: 700; margin: 8px 0 0; } p { margin: 0; color: var(--soft); }
  :host([compact]) :is(h2, p) { display: none; }
  .drawing { height: var(--height); position: relative; overflow: hidden; } .table { min-height: var(--height); }
  :host([compact]) .table { height: var(--height); min-height: 0; overflow: auto; }
  .foot { display: flex; flex-wrap: wrap; gap: 2px 10px; align-items: center; font-size: 12px; color: var(--soft); min-height: 24px; }
  .about { flex: 1 1 260px; min-width: 0; overflow-wrap: anywhere; } :host([compact]) .about { display: none; }
  .badge { display: inline-block; margin-left: 6px; padding: 0 5px; border-radius: 7px; font-size: 10.5px; line-height: 14px; border: 1px dashed var(--calculated); } .badge.measured { background: var(--measured); color: white; border: 0; } :host([compact]) .foot { justify-content: flex-end; }
  button { font: inherit; color: var(--link); background: none; border: 0; padding: 4px; cursor: pointer; text-decoration: underline; border-radius: 4px; min-height: 24px; }
  button:focus-visible { outline: 2px solid var(--original); }`;
const SHAPE = `<style>${STYLE}</style><style class="library"></style><div class="shown"><h2></h2><p></p>
  <div class="drawing" role="img"></div></div><div class="table" hidden><slot></slot></div>
  <div class="foot"><span class="about"></span><button class="switch" aria-pressed="false">As a table</button>
  <button data-format="svg">Save as SVG</button><button data-format="png">Save as PNG</button></div>`;
// Colours are names of the style sheet's: the page's theme says what they are.
const painted = (part, style) => {
  if (typeof part === 'string') return part.startsWith('var(') ? style.getPropertyValue(part.slice(4, -1)).trim() : part;
  if (Array.isArray(part)) return part.map((each) => painted(each, style));
  return part && typeof part === 'object' ? Object.fromEntries(Object.entries(part).map(([k, v]) => [k, painted(v, style)])) : part;
};
const wrapped = (words, most) => words.replace(new RegExp(`(.{1,${most}})(?: |$)`, 'g'), '$1<br>').replace(/<br>$/, '');
const narrowed = (data, { xaxis, yaxis }) => {  // on a phone: names on several lines, room for what stands beside a bar
  if (xaxis?.title) xaxis.title.text = wrapped(xaxis.title.text, 26);
  if (yaxis?.type !== 'category') return;
  yaxis.tickvals = [...new Set(data.flatMap((trace) => trace.y ?? []).filter(Boolean))];
  yaxis.ticktext = yaxis.tickvals.map((name) => wrapped(name, 14));
  if (xaxis.range) xaxis.range = [xaxis.range[0], xaxis.range[1] + 0.25 * (xaxis.range[1] - xaxis.range[0])];
};
const text = (words) => words.replaceAll('&', '&amp;').replaceAll('<', '&lt;');  // plotly reads tags
const pixels = async (source) => {
  const image = Object.assign(new Image(), { src: source });
  await image.decode();
  const canvas = Object.assign(document.createElement('canvas'), { width: SLIDE.width * 2, height: SLIDE.height * 2 });
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL('image/png');
};
class Picture extends HTMLElement {
  static observedAttributes = ['figure', 'says', 'about', 'name'];
  constructor() {
    super();
    this.attachShadow({ mode: 'open' }).innerHTML = SHAPE;
    this.inner = (name) => this.shadowRoot.querySelector(name);
    this.inner('.switch').addEventListener('click', () => this.turn());
    this.shadowRoot.querySelectorAll('[data-format]').forEach((b) => b.addEventListener('click', () => this.save(b.dataset.format)));
    this.sized = new ResizeObserver(() => this.draw());
    this.themed = new MutationObserver(() => this.draw());
  }
  connectedCallback() {
    this.sized.observe(this.inner('.drawing'));
    this.themed.observe(document.body, { attributeFilter: ['class'] });
    this.draw();
  }
  disconnectedCallback() {
    this.sized.disconnect();
    this.themed.disconnect();
  }
  attributeChangedCallback() { if (this.isConnected) this.draw(); }
  get drawing() { return this.inner('.drawing'); }
  figure() {
    const style = getComputedStyle(this);
    const { data, layout } = painted(JSON.parse(this.getAttribute('figure')), style);
    layout.font = { ...layout.font, color: style.getPropertyValue('--ink').trim() };
    layout.hoverlabel = { align: 'left', bgcolor: style.getPropertyValue('--paper').trim(), font: { color: layout.font.color } };
    return { data, layout };
  }
  async draw() {
    const drawing = this.drawing;
    this.inner('h2').textContent = this.getAttribute('name');
    this.inner('p').textContent = this.getAttribute('note');
    this.inner('.about').textContent = this.getAttribute('about');
    this.inner('.about').append(...this.getAttribute('hows').split(' ').filter(Boolean).map((how) =>
      Object.assign(document.createElement('span'), { className: `badge ${how}`, textContent: how })));
    drawing.setAttribute('aria-label', this.getAttribute('says'));
    const library = await plotly, { width, height } = drawing.getBoundingClientRect();
    const dark = document.body.classList.contains('dark'), told = [this.getAttribute('figure'), width, height, dark].join();
    if (!width || !this.isConnected || told === this.told) return;  // behind a door, or drawn already
    this.told = told;
    const { data, layout } = this.figure();
    if (width < 480) narrowed(data, layout);
    drawing.removeAllListeners?.('plotly_click');
    await library.react(drawing, data, { ...layout, width, height }, { displayModeBar: false });
    const rules = document.getElementById('plotly.js-style-global')?.sheet.cssRules ?? [];
    this.inner('.library').textContent = [...rules].map((rule) => rule.cssText).join('\n');
    drawing.removeAllListeners('plotly_treemapclick');
    drawing.on('plotly_treemapclick', () => false);  // which would open the part that was clicked
    drawing.on('plotly_click', ({ points }) => {
      const query = points[0].customdata;  // a recipe as Python wrote it; the page opens with it as from a link
      if (typeof query === 'string' && query) location.href = window.addressOf(query);
    });
  }
  turn() {
    const tabled = this.inner('.table').hidden;
    this.inner('.table').hidden = !tabled;
    this.inner('.shown').hidden = tabled;
    this.inner('.switch').setAttribute('aria-pressed', tabled);
  }
  async save(format) {
    const library = await plotly, { data, layout } = this.figure(), style = getComputedStyle(this);
    const inner = { width: SLIDE.width - 32, height: SLIDE.height - 96 };
    const whole = { ...layout, ...inner, font: { ...layout.font, size: 13, family: PLAIN } };
    const drawn = decodeURIComponent((await library.toImage({ data, layout: whole }, { format: 'svg', ...inner })).replace(/^[^,]*,/, ''));
    const [ink, soft, paper] = ['--ink', '--soft', '--paper'].map((name) => style.getPropertyValue(name).trim());
    const written = (words, y, more) => `<text x="24" y="${y}" font-family="${PLAIN}" ${more}>${text(words)}</text>`;
    const slide = `<svg xmlns="http://www.w3.org/2000/svg" width="${SLIDE.width * 2}" height="${SLIDE.height * 2}" `
      + `viewBox="0 0 ${SLIDE.width} ${SLIDE.height}"><rect width="100%" height="100%" fill="${paper}"/>`
      + written(this.getAttribute('name'), 36, `font-size="22" font-weight="700" fill="${ink}"`)
      + drawn.replace('<svg ', '<svg x="16" y="56" ')
      + `${written(this.getAttribute('margin'), SLIDE.height - 14, `font-size="11" fill="${soft}"`)}</svg>`;
    const link = document.createElement('a'), source = URL.createObjectURL(new Blob([slide], { type: 'image/svg+xml' }));
    link.href = format === 'svg' ? source : await pixels(source);
    link.download = `${this.getAttribute('file')}.${format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(source), 10000);
  }
}
customElements.define('size-picture', Picture);
