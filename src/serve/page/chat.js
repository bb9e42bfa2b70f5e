// The conversation: sends it, streams the answer into the page, stops it.
// Model text goes into the page as text, never as markup.
import { ApiError, streamChat } from "./api.js";

const byId = (id) => document.getElementById(id);

// Rate over the last seconds of a stream.
class Rate {
  constructor() {
    this.times = [];
  }
  add(now) {
    this.times.push(now);
    while (this.times[0] < now - 3000) this.times.shift();
  }
  perSecond() {
    const n = this.times.length - 1;
    return n < 1 ? 0 : (1000 * n) / (this.times[n] - this.times[0] || 1);
  }
}

function addElement(parent, tag, className, text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
}

// One answer on the page while it is written.
class Answer {
  constructor(parent) {
    this.box = addElement(parent, "div", "message assistant");
    this.box.setAttribute("aria-busy", "true");
    addElement(this.box, "span", "unseen", "Answer: ");
    this.content = addElement(this.box, "div", "text answer");
    this.text = "";
    this.thoughts = null;
  }
  add(delta) {
    if (delta.reasoning_content) {
      if (!this.thoughts) {
        const details = document.createElement("details");
        details.className = "thoughts";
        details.open = true;
        addElement(details, "summary", "", "Reasoning");
        this.thoughts = addElement(details, "div", "text");
        this.box.insertBefore(details, this.content);
      }
      this.thoughts.append(delta.reasoning_content);
    }
    if (delta.content) {
      if (this.thoughts && !this.text) this.thoughts.parentElement.open = false;
      this.text += delta.content;
      this.content.append(delta.content);
    }
    for (const call of delta.tool_calls ?? []) {
      this.content.append((call.function?.name ? `\n${call.function.name} ` : "") + (call.function?.arguments ?? ""));
    }
  }
  end(note, failed = false) {
    this.box.setAttribute("aria-busy", "false");
    addElement(this.box, "p", failed ? "note failed" : "note", note);
  }
}

const kReasons = { length: "stopped at the token limit", stop: "", tool_calls: "called a tool" };

export class Chat {
  // `model()` is the name to ask for; `onBusy(bool)` and `onUnauthorised()` tell the page.
  constructor({ model, onBusy, onUnauthorised }) {
    this.model = model;
    this.onBusy = onBusy;
    this.onUnauthorised = onUnauthorised;
    this.history = [];
    this.controller = null;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    byId("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.send();
      }
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.stop();
    });
    byId("stop").addEventListener("click", () => this.stop());
    byId("clear").addEventListener("click", () => this.clear());
    byId("examples").addEventListener("click", (event) => {
      if (!event.target.matches("button")) return;
      byId("prompt").value = event.target.textContent;
      this.send();
    });
  }

  stop() {
    this.controller?.abort();
  }

  clear() {
    this.stop();
    this.history = [];
    for (const message of byId("messages").querySelectorAll(".message")) message.remove();
    byId("empty").hidden = false;
    byId("clear").disabled = true;
    byId("prompt").focus();
  }

  body() {
    const body = { model: this.model(), messages: [...this.history], stream: true, stream_options: { include_usage: true } };
    const system = byId("system").value.trim();
    if (system) body.messages.unshift({ role: "system", content: system });
    const fields = { temperature: "temperature", "top-p": "top_p", "max-tokens": "max_completion_tokens", seed: "seed" };
    for (const [id, name] of Object.entries(fields)) {
      const value = byId(id).value;
      if (value !== "") body[name] = Number(value);
    }
    return body;
  }

  setBusy(busy) {
    byId("send").hidden = busy;
    byId("stop").hidden = !busy;
    byId("clear").disabled = !busy && this.history.length === 0;
    if (!busy) byId("rate").textContent = "";
    this.onBusy(busy);
  }

  async send() {
    const prompt = byId("prompt");
    const question = prompt.value.trim();
    if (!question || this.controller) return;
    const messages = byId("messages");
    byId("empty").hidden = true;
    const asked = addElement(messages, "div", "message user");
    addElement(asked, "span", "unseen", "You: ");
    addElement(asked, "div", "text", question);
    const answer = new Answer(messages);
    this.history.push({ role: "user", content: question });
    const { length } = this.history;
    prompt.value = "";
    this.controller = new AbortController();
    this.setBusy(true);
    const begun = performance.now();
    const rate = new Rate();
    let first = 0;
    let usage = null;
    let reason = "";
    let note = "";
    let failed = false;
    try {
      for await (const chunk of streamChat(this.body(), this.controller.signal)) {
        usage = chunk.usage ?? usage;
        const choice = chunk.choices?.[0];
        if (!choice) continue;
        const atEnd = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 60;
        const { delta } = choice;
        if (delta?.content || delta?.reasoning_content || delta?.tool_calls) {
          const now = performance.now();
          first ||= now;
          rate.add(now);
          answer.add(delta);
          byId("rate").textContent = `${rate.perSecond().toFixed(0)} tokens/s`;
        }
        reason = choice.finish_reason ?? reason;
        if (atEnd) messages.scrollTop = messages.scrollHeight;
      }
      const seconds = (performance.now() - (first || begun)) / 1000;
      const parts = [];
      if (usage) {
        parts.push(`${usage.completion_tokens} tokens`);
        if (usage.completion_tokens > 1) parts.push(`${((usage.completion_tokens - 1) / seconds).toFixed(1)} tokens/s`);
        const cached = usage.prompt_tokens_details?.cached_tokens;
        parts.push(`prompt ${usage.prompt_tokens}${cached ? ` (${cached} cached)` : ""}`);
      }
      if (first) parts.push(`first after ${Math.round(first - begun)} ms`);
      if (kReasons[reason]) parts.push(kReasons[reason]);
      note = parts.join(" · ");
    } catch (error) {
      failed = error.name !== "AbortError";
      note = failed ? `failed: ${error.message}` : "stopped";
      if (error instanceof ApiError && error.status === 401) this.onUnauthorised();
    }
    answer.end(note, failed);
    // A conversation that was cleared meanwhile stays cleared.
    if (this.history.length === length) {
      if (failed && !answer.text) {
        this.history.pop();
        if (!prompt.value) prompt.value = question;
      } else {
        this.history.push({ role: "assistant", content: answer.text });
      }
    }
    this.controller = null;
    this.setBusy(false);
    byId("announce").textContent = failed ? note : `Answer: ${answer.text} ${note}`;
    messages.scrollTop = messages.scrollHeight;
    prompt.focus({ preventScroll: true });
  }
}
