// Draws the figure that Python sends, in place: zoom and hover survive an update.
const graph = element.querySelector('.plot');
const script = document.createElement('script');
script.src = 'PLOTLY';
const draw = () => {
  if (!window.Plotly || !props.value) return;
  const figure = JSON.parse(props.value);
  const style = getComputedStyle(document.body);
  figure.layout.font.color = style.getPropertyValue('--body-text-color') || '#1e293b';
  figure.layout.autosize = true;
  graph.removeAllListeners?.('plotly_click');
  window.Plotly.react(graph, figure.data, figure.layout, { displayModeBar: false, responsive: true });
  graph.on('plotly_click', ({ points }) => {
    const query = points[0].customdata;  // a recipe as Python wrote it; the page opens with it as from a link
    if (typeof query === 'string') location.href = window.addressOf(query);
  });
};
watch('value', draw);
script.onload = draw;
// The library is large: it comes once the controls can be used. Safari does not tell when it is idle.
const later = window.requestIdleCallback ?? ((work) => setTimeout(work, 300));
later(() => document.head.appendChild(script), { timeout: 3000 });
