// What the page asks of the server.

export class Refusal extends Error {
  constructor(status, message, retrySeconds) {
    super(message);
    this.status = status;
    this.retrySeconds = retrySeconds;
  }
}

export class Server {
  constructor(results, messages) {
    this.results = results;
    this.messages = messages;
    this.token = document.querySelector("[name=csrfmiddlewaretoken]").value;
  }

  async list() {
    return (await (await this.#ask(this.results)).json()).results;
  }

  async send(file) {
    const address = `${this.results}?${new URLSearchParams({ name: file.name })}`;
    const headers = { "Content-Type": "application/octet-stream" };
    return (await this.#ask(address, { method: "POST", body: file, headers })).json();
  }

  async picture(result) {
    return createImageBitmap(await (await this.#ask(`${result.url}picture`)).blob());
  }

  // NaN outside the field of view.
  async probability(result) {
    return new Float32Array(await (await this.#ask(`${result.url}probability`)).arrayBuffer());
  }

  async measurement(result, choice, signal) {
    return (await this.#ask(`${result.url}measurement?${choice}`, { signal })).json();
  }

  async delete(address) {
    await this.#ask(address, { method: "DELETE" });
  }

  async #ask(address, options = {}) {
    const headers = { "X-CSRFToken": this.token, ...options.headers };
    let response;
    try {
      response = await fetch(address, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal(0, this.messages.unreachable);
    }
    if (response.ok) return response;
    const { message } = await response.json().catch(() => ({ message: response.statusText }));
    throw new Refusal(response.status, message, Number(response.headers.get("Retry-After")));
  }
}
