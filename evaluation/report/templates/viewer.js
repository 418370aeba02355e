"use strict";
// The step viewer: shows one step of one episode at a time. What environments say is only ever put in as text.
(function () {
  const root = document.getElementById("viewer");
  const episodes = JSON.parse(document.getElementById("episodes").textContent);
  const parts = ["instruction", "observation"];
  const ways = {
    "leave-one-out": "Blue words speak for the action, orange ones against it: without the word, its {number} would be lower, or higher, by so much.",
    "gradient-x-input": "Blue words speak for the action, orange ones against it, to first order: what the {number} would lose, or gain, if the word faded. It often misses what matters, since the model normalises a word's strength.",
    "gradient-norm": "The stronger the colour, the more the {number} reacts to a small change of the word, whichever way.",
  };
  const find = (name) => root.querySelector(`[data-part="${name}"]`);
  const state = { episode: 0, step: 0, way: "leave-one-out" };

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const signed = (number) => (number === null ? "?" : (number > 0 ? "+" : "") + number.toPrecision(2));
  const plain = (number) => (number === null || number === undefined ? "–" : Number(number.toPrecision(3)).toString());

  const percent = (rate) => `${(100 * rate).toFixed(rate >= 0.0005 && rate < 0.0995 ? 1 : 0)}\u00a0%`;

  // -- what is shown -----------------------------------------------------------------------------------------

  function show() {
    const episode = episodes[state.episode];
    const last = episode.steps.length; // behind the steps stands the end
    state.step = Math.min(Math.max(state.step, 0), last);
    const step = episode.steps[state.step] || null;
    const told = step === null ? "The end" : `Step ${step.number} of ${episode.length}`;
    find("slider").max = last;
    find("slider").value = state.step;
    find("slider").setAttribute("aria-valuetext", told);
    find("previous").disabled = state.step === 0;
    find("next").disabled = state.step === last;
    find("where").textContent = told;
    showPicture(episode, step === null ? episode.end.picture : step.picture);
    showLeftOut(episode, step);
    find("decision").hidden = step === null;
    find("end").hidden = step !== null;
    if (step === null) showEnd(episode);
    else showDecision(episode, step);
    const instruction = step === null ? episode.steps[last - 1].instruction : step.instruction;
    const words = step === null ? null : step.words;
    showText("instruction", 0, instruction, words);
    showText("observation", 1, step === null ? episode.end.observation : step.observation, words);
    showTruth(episode, instruction);
    showStrongest(episode, step);
  }

  function showPicture(episode, number) {
    const picture = find("picture");
    picture.hidden = number === null;
    if (number !== null) picture.src = episode.pictures[number];
    picture.alt = number === null ? "" : find("where").textContent;
  }

  function showLeftOut(episode, step) {
    const gap = episode.leftOut;
    const note = find("left-out");
    note.hidden = gap === null;
    if (gap !== null) note.textContent = `The episode is long: its steps ${gap[0]} to ${gap[1]} are left out here.`;
  }

  function showDecision(episode, step) {
    const list = find("actions");
    list.replaceChildren();
    for (const action of step.actions) {
      const item = element("li", action.taken ? "taken" : "");
      const probability = action.probability === null ? 0 : action.probability;
      item.append(element("span", "name", action.text));
      item.append(element("span", "percent", action.probability === null ? "?" : percent(probability)));
      const track = element("span", "track");
      const filled = element("span", "filled");
      filled.style.setProperty("--rate", probability);
      track.append(filled);
      item.append(track);
      list.append(item);
    }
    find("taken").textContent = step.action;
    find("value-name").textContent = episode.valueName;
    find("value-name").hidden = find("value").hidden = step.value === null;
    find("value").textContent = plain(step.value);
    find("reward").textContent = plain(step.reward);
  }

  function showEnd(episode) {
    const end = episode.end;
    const verdict = find("verdict");
    verdict.textContent = end.verdict;
    verdict.className = `verdict ${end.success ? "success" : "failure"}`;
    const after = `after ${episode.length} ${episode.length === 1 ? "step" : "steps"}, return ${plain(end.return)}`;
    const shown = end.shownSuccess === null ? "" : end.shownSuccess ? "; the shown instruction was fulfilled" : "; the shown instruction was not fulfilled";
    find("after").textContent = after + shown;
  }

  function showTruth(episode, instruction) {
    const differs = episode.trueInstruction !== instruction;
    find("truth").hidden = !differs;
    find("true-instruction").textContent = episode.trueInstruction;
  }

  function strength(words) {
    const numbers = words[state.way].map((number) => Math.abs(number || 0));
    return Math.max(...numbers, 1e-12);
  }

  function showText(name, part, text, words) {
    const place = find(name);
    place.replaceChildren();
    if (text === "") {
      place.append(element("span", "faint", `(no ${name})`));
      return;
    }
    if (words === null) {
      place.append(text);
      return;
    }
    const characters = Array.from(text); // positions count characters, not UTF-16 units
    const strongest = strength(words);
    let at = 0;
    words.spans.forEach(([whose, start, end], index) => {
      if (whose !== part) return;
      place.append(characters.slice(at, start).join(""));
      const number = words[state.way][index];
      const word = element("span", "word", characters.slice(start, end).join(""));
      word.style.setProperty("--strength", (Math.abs(number || 0) / strongest).toFixed(3));
      word.dataset.sign = number < 0 ? "against" : "for";
      word.title = state.way === "gradient-norm" ? plain(number) : signed(number);
      place.append(word);
      at = end;
    });
    place.append(characters.slice(at).join(""));
  }

  function showStrongest(episode, step) {
    const has = step !== null && step.words !== null;
    find("saliency").hidden = !has;
    if (!has) return;
    const words = step.words;
    find("meaning").textContent = ways[state.way].replace("{number}", episode.explainedName);
    const order = words.spans.map((_, index) => index);
    order.sort((one, other) => Math.abs(words[state.way][other] || 0) - Math.abs(words[state.way][one] || 0));
    const list = find("strongest");
    list.replaceChildren();
    for (const index of order.slice(0, 5)) {
      const [part, start, end] = words.spans[index];
      const value = words[state.way][index];
      const item = element("li");
      item.append(element("b", "", Array.from(step[parts[part]]).slice(start, end).join("")));
      item.append(` in the ${parts[part]} `);
      item.append(element("span", "number", state.way === "gradient-norm" ? plain(value) : signed(value)));
      list.append(item);
    }
  }

  // -- what one can do ---------------------------------------------------------------------------------------

  function go(step) {
    state.step = step;
    show();
  }

  function choose(episode) {
    state.episode = Math.min(Math.max(episode, 0), episodes.length - 1);
    find("episode").value = state.episode;
    go(0);
  }

  function readAddress() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (wanted.has("episode")) choose(Number(wanted.get("episode")) - 1 || 0);
    if (wanted.get("words") in ways) {
      state.way = wanted.get("words");
      root.querySelector(`input[name="words"][value="${state.way}"]`).checked = true;
    }
    if (wanted.has("step")) go(Number(wanted.get("step")) - 1 || 0);
  }

  episodes.forEach((episode, number) => {
    const outcome = episode.end.verdict.toLowerCase();
    const title = episode.title ? `${episode.title}: ` : "";
    const option = element("option", "", `${number + 1}. ${title}“${episode.instruction}” (${outcome}, ${episode.length})`);
    option.value = number;
    find("episode").append(option);
  });
  find("choice").hidden = episodes.length < 2;
  find("previous").addEventListener("click", () => go(state.step - 1));
  find("next").addEventListener("click", () => go(state.step + 1));
  find("slider").addEventListener("input", (event) => go(Number(event.target.value)));
  find("episode").addEventListener("change", (event) => choose(Number(event.target.value)));
  root.querySelectorAll('input[name="words"]').forEach((button) =>
    button.addEventListener("change", () => {
      state.way = button.value;
      show();
    })
  );
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target instanceof Element && event.target.matches("input, select, textarea")) return;
    const box = root.getBoundingClientRect();
    if (box.bottom < 0 || box.top > window.innerHeight) return; // who reads elsewhere wants to scroll
    if (event.key === "ArrowLeft") go(state.step - 1);
    else if (event.key === "ArrowRight") go(state.step + 1);
    else return;
    event.preventDefault();
  });
  window.addEventListener("hashchange", readAddress);
  root.hidden = false;
  choose(0);
  readAddress();
})();
