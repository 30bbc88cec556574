// The notebooks' controls without a kernel. tools/site/controls.py drew a picture and a sentence for each setting of
// the knobs, into one file for each control. It is loaded when the control comes near; until then, and where no
// script runs, a still is there.
const drawn = {};

addEventListener("DOMContentLoaded", () => {
  const near = new IntersectionObserver(entries => entries.forEach(({isIntersecting, target}) => {
    if (!isIntersecting) return;
    near.unobserve(target);
    const script = Object.assign(document.createElement("script"), {src: target.dataset.drawn});
    script.onload = () => move(target, drawn[script.src.match(/([^/]+)\.js$/)[1]]);
    document.head.append(script);
  }), {rootMargin: "1000px"});
  document.querySelectorAll(".control").forEach(control => near.observe(control));

  const scrollable = new ResizeObserver(entries => entries.forEach(({target}) => {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;  // so that the keyboard can scroll it
    else target.removeAttribute("tabindex");
  }));
  document.querySelectorAll("pre, .table-wrapper, div.math").forEach(box => scrollable.observe(box));
});

function add(parent, name, attributes = {}, text = "") {
  const element = document.createElement(name);
  for (const attribute in attributes) element.setAttribute(attribute, attributes[attribute]);
  element.append(text);
  parent.append(element);
  return element;
}

// Put knobs, picture and sentence in the place of the still.
function move(control, {knobs, size: [width, height], first, pictures, said}) {
  const url = picture => "data:image/webp;base64," + picture;
  control.replaceChildren();
  const bar = add(control, "div", {class: "knobs"});
  const image = add(control, "img", {width, height, decoding: "sync"});
  image.style.backgroundImage = `url(${url(first)})`;  // a picture is what differs from the first
  const sentence = add(control, "div", {class: "sentence"});
  add(sentence, "p", {"aria-hidden": true}, said.reduce((a, b) => a.length < b.length ? b : a));  // keeps the room
  const status = add(sentence, "p", {role: "status"});

  const fields = knobs.map(({label, kind, values, at}) => {
    const row = add(bar, "label", {class: kind});
    add(row, "span", {}, label);
    if (kind === "checkbox") {
      const input = add(row, "input", {type: "checkbox"});
      return {count: 2, get: () => +input.checked, set: i => { input.checked = i; }, at};
    }
    if (kind === "select") {
      const input = add(row, "select");
      values.forEach(value => add(input, "option", {}, value));
      return {count: values.length, get: () => input.selectedIndex, set: i => { input.selectedIndex = i; }, at};
    }
    const input = add(row, "input", {type: "range", min: 0, max: values.length - 1});
    const value = add(row, "span", {class: "value"});
    const tell = () => input.setAttribute("aria-valuetext", value.textContent = values[input.value]);
    return {count: values.length, get: () => +input.value, set: i => { input.value = i; tell(); }, tell, at, kind};
  });
  const show = () => {
    const i = fields.reduce((sum, field) => sum * field.count + field.get(), 0);
    image.src = url(pictures[i]);
    image.alt = status.textContent = said[i];
  };
  const film = fields.find(field => field.kind === "film");
  const pause = film ? play(bar, film, show, status) : () => {};
  bar.oninput = () => {
    pause();
    fields.forEach(field => field.tell?.());
    show();
  };
  fields.forEach(field => field.set(field.at));
  show();
  if ("play" in control.dataset && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
    bar.querySelector("button").click();
  }
}

// Start, Pause, Step and Reset for a film; returns what pauses it.
function play(bar, film, show, status) {
  let timer = null;
  const buttons = add(bar, "div", {class: "buttons"});
  const [start, step, reset] = ["Start", "Step", "Reset"].map(name => add(buttons, "button", {type: "button"}, name));
  bar.prepend(buttons);
  const pause = () => {
    clearInterval(timer);
    timer = null;
    status.ariaLive = "polite";
    start.textContent = "Start";
  };
  const go = i => {
    film.set(i);
    show();
    if (i === film.count - 1) pause();
  };
  const next = () => go(Math.min(film.get() + 1, film.count - 1));
  start.onclick = () => {
    if (timer) return pause();
    if (film.get() === film.count - 1) go(0);
    timer = setInterval(next, 150);
    status.ariaLive = "off";  // or a screen reader would never come to an end
    start.textContent = "Pause";
  };
  step.onclick = () => { pause(); next(); };
  reset.onclick = () => { pause(); go(0); };
  return pause;
}
