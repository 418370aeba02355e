// What Heed adds to a web page, before any script of the page itself runs: a clock that moves only when it is told, a
// note of which elements listen to clicks, and one function each for what the environment asks for, so that a step costs
// one message to the browser and not six.
(() => {
  "use strict";
  if (window.heed) return;

  // ---- The clock. A page that animates, delays or reads the date would else depend on how fast the agent thinks.
  const RealDate = Date;
  const start = RealDate.UTC(2016, 9, 3, 12);
  const mostTimers = 10000; // in one advance: a page whose timers call each other without end goes on with the next
  let now = start;
  let lastTimer = 0;
  const timers = new Map();

  const schedule = (callback, delay, rest, repeats) => {
    const wait = Math.max(1, Number(delay) || 0);
    lastTimer += 1;
    timers.set(lastTimer, { at: now + wait, every: repeats ? wait : null, callback, rest });
    return lastTimer;
  };
  const forget = (timer) => { timers.delete(timer); };
  window.setTimeout = (callback, delay, ...rest) => schedule(callback, delay, rest, false);
  window.setInterval = (callback, delay, ...rest) => schedule(callback, delay, rest, true);
  window.clearTimeout = window.clearInterval = window.cancelAnimationFrame = forget;
  window.requestAnimationFrame = (callback) => schedule(() => callback(now - start), 16, [], false);
  performance.now = () => now - start;
  window.Date = new Proxy(RealDate, {
    construct: (target, given, made) => Reflect.construct(target, given.length ? given : [now], made),
    apply: () => new RealDate(now).toString(),
    get: (target, key) => (key === "now" ? () => now : target[key]),
  });

  const run = (timer) => {
    try {
      if (typeof timer.callback === "function") timer.callback.apply(window, timer.rest);
      else (0, eval)(timer.callback);
    } catch (error) {
      console.error(error); // as the browser does: one failing timer stops no other
    }
  };
  const advance = (milliseconds) => {
    const end = now + milliseconds;
    for (let fired = 0; fired < mostTimers; fired += 1) {
      let next = null;
      for (const [id, timer] of timers) {
        if (timer.at <= end && (next === null || timer.at < timers.get(next).at)) next = id;
      }
      if (next === null) break;
      const timer = timers.get(next);
      now = Math.max(now, timer.at);
      if (timer.every === null) timers.delete(next);
      else timer.at = now + timer.every;
      run(timer);
    }
    now = end;
    for (const frame of Array.from(window.frames)) {
      try {
        if (frame.heed) frame.heed.advance(milliseconds);
      } catch (error) { /* a frame of another origin keeps its own time */ }
    }
  };

  // ---- Who listens to clicks.
  const presses = new Set(["mousedown", "mouseup", "pointerdown", "pointerup"]);
  const listening = new WeakMap(); // of each element: the functions that listen
  const pressable = new WeakMap(); // apart: what holds other things listens so in order to be dragged or focused
  const listenersOf = (element, type) => {
    const kept = type === "click" ? listening : presses.has(type) ? pressable : null;
    if (kept === null || !(element instanceof Element)) return new Set();
    if (!kept.has(element)) kept.set(element, new Set());
    return kept.get(element);
  };
  const listens = (kept, element) => kept.has(element) && kept.get(element).size > 0;
  const { addEventListener, removeEventListener } = EventTarget.prototype;
  EventTarget.prototype.addEventListener = function (type, listener, ...rest) {
    listenersOf(this, type).add(listener);
    return addEventListener.call(this, type, listener, ...rest);
  };
  EventTarget.prototype.removeEventListener = function (type, listener, ...rest) {
    listenersOf(this, type).delete(listener);
    return removeEventListener.call(this, type, listener, ...rest);
  };
  window.alert = () => undefined; // nobody is there to close them
  window.confirm = () => true;
  window.prompt = () => null;

  const pointed = (element) => getComputedStyle(element).cursor === "pointer";
  const clickable = (element) => {
    const area = element.ownerDocument.body;
    if (element === area || element === element.ownerDocument.documentElement) return false;
    if (listens(listening, element) || typeof element.onclick === "function") return true;
    if (listens(pressable, element) && element.childElementCount === 0) return true;
    return pointed(element) && !(element.parentElement && pointed(element.parentElement));
  };

  // ---- What the page's own account of its elements leaves out.
  const annotate = (node, elements) => {
    const element = elements[node.ref];
    if (element) {
      const style = getComputedStyle(element);
      if (style.visibility === "hidden" || Number(style.opacity) === 0) node.hidden = true;
      if (element.ownerDocument.defaultView.heed.clickable(element)) node.clickable = true;
      if (element.disabled) node.disabled = true;
      if (element.labels && element.labels.length) node.label = element.labels[0].textContent.trim();
      if (element.tagName === "LABEL" && element.control) node.labels = true;
      const named = ["aria-label", "placeholder", "title", "alt"].map((key) => element.getAttribute(key));
      node.name = named.find((text) => text && text.trim()) || "";
      if (element.tagName === "SELECT") {
        const options = Array.from(element.options); // all of them: their places are what chooses one
        const places = (holds) => options.map((_, place) => place).filter((place) => holds(options[place]));
        const locked = (option) => option.disabled || option.parentElement.disabled === true;
        node.options = options.map((option) => option.label.trim());
        node.chosen = places((option) => option.selected);
        node.unusable = places((option) => locked(option) || option.hidden || getComputedStyle(option).display === "none");
        node.multiple = element.multiple;
        node.value = node.chosen.map((place) => node.options[place]).join(", ");
        node.children = []; // its options are told with it
      }
      if (element.closest("svg")) {
        node.fill = style.fill;
        if (element.points) node.points = element.points.numberOfItems;
      }
    }
    node.children.forEach((child) => annotate(child, elements));
  };

  // Some tasks are played in a frame; a click there may lead away from the page that tells of itself.
  const frame = () => (typeof core.flightChildWindow === "function" ? core.flightChildWindow() : null);
  const elementsOf = () => (frame() ? frame().$miniwob.previousDOMInfo : core.previousDOMInfo);
  const kept = []; // pictures that the style sheets may show later: loaded before, they are there at once
  const pictures = () => [...(frame() || window).document.images, ...kept];
  const keepPictures = () => {
    for (const sheet of document.styleSheets) {
      for (const rule of sheet.cssRules) {
        for (const [, address] of rule.cssText.matchAll(/url\("?([^")]+)"?\)/g)) {
          const picture = new Image();
          picture.src = new URL(address, sheet.href || document.baseURI).href;
          kept.push(picture);
        }
      }
    }
  };

  const observe = () => {
    if (typeof core === "undefined") return null; // the click led away from the page
    if (frame() && !frame().$miniwob) return WOB_DONE_GLOBAL ? null : { loading: true };
    if (pictures().some((picture) => !picture.complete)) return { loading: true };
    if (WOB_DONE_GLOBAL) core.cover_div.style.display = "none"; // the end is to be seen too
    const dom = core.getDOMInfo();
    annotate(dom, elementsOf());
    const said = core.getUtterance();
    return {
      utterance: typeof said === "string" ? said : said.utterance,
      fields: typeof said === "string" ? null : Object.entries(said.fields),
      dom,
      done: WOB_DONE_GLOBAL,
      reward: WOB_RAW_REWARD_GLOBAL,
    };
  };

  const begin = (seed, mode) => {
    core.endEpisode(0);
    const focused = document.activeElement;
    if (focused && focused !== document.body) focused.blur();
    // The click that ended an episode is noted after its end, hence as one of the next.
    document.querySelectorAll("[data-tampered]").forEach((element) => { delete element.dataset.tampered; });
    // Only the environment's own limit ends an episode.
    Object.defineProperty(core, "EPISODE_MAX_TIME", { get: () => 2 ** 31 - 1, set: () => {}, configurable: true });
    Math.seedrandom(seed);
    core.setDataMode(mode);
    core.startEpisodeReal();
  };

  const act = (what, ref, index) => {
    if (frame() && !frame().$miniwob) return false;
    if (what === "click") return core.elementClick(ref);
    const element = elementsOf()[ref];
    if (what === "choose") {
      element.focus();
      if (element.multiple) element.options[index].selected = !element.options[index].selected;
      else element.selectedIndex = index;
      for (const type of ["input", "change"]) element.dispatchEvent(new Event(type, { bubbles: true }));
    } else if (what === "mark") { // what is typed next takes the place of what is there
      core.elementClick(ref);
      if (typeof element.select === "function") element.select();
    }
    return true;
  };

  const settle = () => {
    keepPictures();
    const style = document.createElement("style");
    style.textContent = "*,*::before,*::after{transition:none!important;animation:none!important}";
    document.head.appendChild(style);
  };
  const ready = () => WOB_TASK_READY;

  window.heed = { advance, clickable, observe, begin, act, settle, ready };
})();
