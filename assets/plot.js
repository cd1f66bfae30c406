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
  window.Plotly.react(graph, figure.data, figure.layout, { displayModeBar: false, responsive: true });
};
script.onload = draw;
document.head.appendChild(script);
watch('value', draw);
