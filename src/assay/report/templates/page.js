// Draws what is in view first, then the rest one by one, so that the page answers at once.
function drawPlots(theme) {
  "use strict";
  var touch = window.matchMedia("(pointer: coarse)").matches;
  var options = {responsive: true, displayModeBar: false, displaylogo: false};
  var waiting = Array.from(document.querySelectorAll("div.plot"));
  function draw(div) {
    var place = waiting.indexOf(div);
    if (place < 0) { return; }
    waiting.splice(place, 1);
    var figure = JSON.parse(document.getElementById(div.id + "-data").textContent);
    figure.layout.template = theme;
    if (touch) { figure.layout.dragmode = false; }  // a finger scrolls the page
    Plotly.newPlot(div, figure.data, figure.layout, options);
  }
  function rest() {
    if (waiting.length) { draw(waiting[0]); setTimeout(rest, 20); }
  }
  window.addEventListener("beforeprint", function () { waiting.slice().forEach(draw); });
  if ("IntersectionObserver" in window) {
    var watcher = new IntersectionObserver(function (entries) {
      entries.forEach(function (entry) {
        if (entry.isIntersecting) { watcher.unobserve(entry.target); draw(entry.target); }
      });
    }, {rootMargin: "300px 0px"});
    waiting.slice().forEach(function (div) { watcher.observe(div); });
  }
  setTimeout(rest, 400);
}
