// As much of XMLHttpRequest as Phoenix's long polling uses, over fetch: releases
// before 1.8 know nothing else, and Node has none.
export class XMLHttpRequest {
  readyState = 0;
  responseText = "";
  timeout = 0;
  #aborted = new AbortController();
  #headers = {};

  open(method, url) {
    this.#method = method;
    this.#url = url;
  }

  setRequestHeader(name, value) {
    this.#headers[name] = value;
  }

  send(body) {
    const late = setTimeout(() => {
      this.#aborted.abort();
      this.ontimeout?.();
    }, this.timeout);
    fetch(this.#url, { method: this.#method, headers: this.#headers, body, signal: this.#aborted.signal })
      .then((response) => response.text())
      .finally(() => clearTimeout(late))
      .then((text) => {
        this.responseText = text;
        this.readyState = 4;
        this.onreadystatechange?.();
      }, () => {
        if (!this.#aborted.signal.aborted) this.onerror?.();
      });
  }

  abort() {
    this.#aborted.abort();
  }

  #method;
  #url;
}
